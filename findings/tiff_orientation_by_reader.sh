#!/usr/bin/env bash
# OpenCV 5.0.0.93, Pillow 13.0.0, tifffile 2026.3.3: a turned TIFF.
#
# Expected: OpenCV's IMREAD_UNCHANGED and IMREAD_IGNORE_ORIENTATION leave the
# rows as they are in the file, and Pillow's open() never turns a picture
# (ImageOps.exif_transpose is there for that).
#
# What happens: so it is for JPEG. For a TIFF with the Orientation tag 3
# OpenCV turns the picture under every flag, those two included, and Pillow
# turns it on loading too. tifffile never does. An image and its mask read by
# two of them, or kept in two formats, lie 180 degrees apart, with equal
# shapes and no word of warning.
#
# Seen (the file's top half is 200, its bottom half 0; shown: the top left):
#   JPEG: Pillow 200, OpenCV unchanged 200, ignore orientation 200, default 0
#   TIFF: Pillow 0, OpenCV unchanged 0, ignore orientation 0, default 0, tifffile 200
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --no-compile opencv-python-headless==5.0.0.93 pillow==13.0.0 \
    tifffile==2026.3.3 numpy==2.4.6
cd "$work"
venv/bin/python - <<'PY'
import cv2
import numpy as np
import tifffile
from PIL import Image

rows = np.zeros((16, 32), np.uint8)
rows[:8] = 200
turned = Image.Exif()
turned[274] = 3  # Orientation: upside down
Image.fromarray(rows).save("x.jpg", exif=turned)
tifffile.imwrite("x.tif", rows, extratags=[(274, "H", 1, 3, True)])


def corners(name):
    with Image.open(name) as img:
        values = [int(np.array(img)[0, 0])]
    grey = cv2.IMREAD_GRAYSCALE
    for flag in (cv2.IMREAD_UNCHANGED, grey | cv2.IMREAD_IGNORE_ORIENTATION, grey):
        values.append(int(cv2.imread(name, flag).ravel()[0]))
    return values


text = "Pillow {}, OpenCV unchanged {}, ignore orientation {}, default {}"
jpeg, tiff, raw = corners("x.jpg"), corners("x.tif"), int(tifffile.imread("x.tif")[0, 0])
print("JPEG:", text.format(*jpeg))
print("TIFF:", text.format(*tiff) + f", tifffile {raw}")
assert [v > 100 for v in jpeg] == [True, True, True, False]
assert tiff == [0, 0, 0, 0] and raw == 200
PY
