#!/usr/bin/env bash
# OpenCV 5.0.0.93, tifffile 2026.3.3, Pillow 13.0.0: 12-bit packed TIFF.
#
# Expected: a camera's TIFF with BitsPerSample 12 (two pixels in three bytes)
# read with IMREAD_UNCHANGED gives the numbers 0..4095 in a uint16 array.
#
# What happens: OpenCV shifts them to the top of the 16 bits, so all are 16
# times too large (4 times for 14 bits, 64 for 10). Pillow and tifffile give
# the numbers stored, so one model sees two intensity scales by reader, and a
# fixed normalisation is off by a factor of 16. The same values stored as
# plain 16-bit samples are alike for all.
#
# Seen:
#   12 bits: tifffile [0, 1, 100, 4095] Pillow [0, 1, 100, 4095] OpenCV [0, 16, 1600, 65520]
#   14 bits: tifffile [0, 1, 100, 16383] OpenCV [0, 4, 400, 65532]
#   10 bits: tifffile [0, 1, 100, 1023] OpenCV [0, 64, 6400, 65472]
#   16 bits: tifffile [0, 1, 100, 4095] Pillow [0, 1, 100, 4095] OpenCV [0, 1, 100, 4095]
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --no-compile opencv-python-headless==5.0.0.93 pillow==13.0.0 \
    tifffile==2026.3.3 imagecodecs==2026.3.6 numpy==2.4.6
cd "$work"
venv/bin/python - <<'PY'
import struct

import cv2
import numpy as np
import tifffile
from PIL import Image


def write(values, bits):
    if bits == 16:
        data = struct.pack("<4H", *values)
    else:
        packed = "".join(f"{v:0{bits}b}" for v in values)
        packed += "0" * (-len(packed) % 8)
        data = int(packed, 2).to_bytes(len(packed) // 8, "big")
    tags = [(256, len(values)), (257, 1), (258, bits), (259, 1), (262, 1),
            (273, 0), (277, 1), (278, 1), (279, len(data))]
    start = 8 + 2 + 12 * len(tags) + 4
    with open("x.tif", "wb") as f:
        f.write(b"II*\0" + struct.pack("<IH", 8, len(tags)))
        for tag, value in tags:
            f.write(struct.pack("<HHII", tag, 4, 1, start if tag == 273 else value))
        f.write(struct.pack("<I", 0) + data)


def pillow():
    with Image.open("x.tif") as img:
        return np.array(img).ravel().tolist()


def opencv():
    return cv2.imread("x.tif", cv2.IMREAD_UNCHANGED).ravel().tolist()


for bits, top, factor in ((12, 4095, 16), (14, 16383, 4), (10, 1023, 64), (16, 4095, 1)):
    values = [0, 1, 100, top]
    write(values, bits)
    line = f"{bits} bits: tifffile {(t := tifffile.imread('x.tif').ravel().tolist())}"
    assert t == values
    if bits in (12, 16):  # Pillow says it knows no 10 or 14 bits
        p = pillow()
        line += f" Pillow {p}"
        assert p == values
    c = opencv()
    print(f"{line} OpenCV {c}")
    assert c == [v * factor for v in values]
PY
