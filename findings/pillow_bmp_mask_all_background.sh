#!/usr/bin/env bash
# Pillow 13.0.0: an 8-bit BMP mask with a black and a white palette entry.
#
# Expected: a BMP of one byte per pixel whose palette has the two colours
# black and white opens as a mask with the foreground where index 1 stands.
#
# What happens: the two-colour palette makes Pillow choose mode "1", and it
# then judges the index itself: 1 is a dark number, so every pixel is black.
# The mask is silently empty. With a third grey, or with (0, 1) as the two
# colours, the same pixels are right, and OpenCV reads all of them right.
#
# Seen (pixel indices 0 1 1 0):
#   palette [0, 255]: Pillow mode 1 [0, 0, 0, 0] OpenCV [0, 255, 255, 0]
#   palette [0, 255, 128]: Pillow mode P [0, 255, 255, 0] OpenCV [0, 255, 255, 0]
#   palette [0, 1]: Pillow mode P [0, 1, 1, 0] OpenCV [0, 1, 1, 0]
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --no-compile pillow==13.0.0 opencv-python-headless==5.0.0.93 numpy==2.4.6
cd "$work"
venv/bin/python - <<'PY'
import struct

import cv2
import numpy as np
from PIL import Image


def read(greys):
    palette = b"".join(bytes([g, g, g, 0]) for g in greys)
    pixels = bytes([0, 1, 1, 0])
    start = 14 + 40 + len(palette)
    with open("mask.bmp", "wb") as f:
        f.write(b"BM" + struct.pack("<IHHI", start + 4, 0, 0, start))
        f.write(struct.pack("<IiiHHIIiiII", 40, 4, 1, 1, 8, 0, 4, 2835, 2835, len(greys), 0))
        f.write(palette + pixels)
    with Image.open("mask.bmp") as img:
        mode, p = img.mode, np.array(img.convert("L")).ravel().tolist()
    c = cv2.imread("mask.bmp", cv2.IMREAD_GRAYSCALE).ravel().tolist()
    print(f"palette {greys}: Pillow mode {mode} {p} OpenCV {c}")
    return mode, p, c


assert read([0, 255]) == ("1", [0, 0, 0, 0], [0, 255, 255, 0])
assert read([0, 255, 128]) == ("P", [0, 255, 255, 0], [0, 255, 255, 0])
assert read([0, 1]) == ("P", [0, 1, 1, 0], [0, 1, 1, 0])
PY
