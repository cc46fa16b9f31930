#!/usr/bin/env bash
# opencv-python-headless 5.0.0.93, Pillow 13.0.0, scikit-image 0.26.0: a mask
# made smaller by nearest neighbour, beside its image.
#
# Expected: an image resized with INTER_LINEAR or INTER_AREA and its mask
# resized with INTER_NEAREST, the usual pair, still lie on each other, and
# nearest neighbour is the same sampling in all libraries.
#
# What happens: OpenCV's INTER_NEAREST takes the first pixel of each block, its
# other modes, Pillow and scikit-image the middle. A mask made 8 times smaller
# lies 2.6 original pixels further right and down than its image, and a perfect
# segmentation of the small image scores a Dice of 0.94 against it.
# INTER_NEAREST_EXACT takes the middle.
#
# Seen (a disk in 512x512 made 64x64; place against the image by INTER_AREA,
# in original pixels, and Dice with that image cut at one half):
#   OpenCV INTER_LINEAR: 0.00 Dice 1.000
#   OpenCV INTER_NEAREST: 2.61 Dice 0.942
#   OpenCV INTER_NEAREST_EXACT: -0.35 Dice 0.994
#   Pillow NEAREST: -0.35 Dice 0.994
#   scikit-image order 0: -0.35 Dice 0.994
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --no-compile opencv-python-headless==5.0.0.93 pillow==13.0.0 scikit-image==0.26.0 numpy==2.4.6
cd "$work"
venv/bin/python - <<'PY'
import cv2
import numpy as np
from PIL import Image
from skimage.transform import resize

y, x = np.mgrid[:512, :512]
disk = ((x - 255.5) ** 2 + (y - 255.5) ** 2 <= 40**2).astype(np.uint8)
small = (64, 64)
image = cv2.resize(disk.astype(np.float32), small, interpolation=cv2.INTER_AREA) > 0.5
results = {
    "OpenCV INTER_LINEAR": cv2.resize(disk.astype(np.float32), small, interpolation=cv2.INTER_LINEAR) > 0.5,
    "OpenCV INTER_NEAREST": cv2.resize(disk, small, interpolation=cv2.INTER_NEAREST),
    "OpenCV INTER_NEAREST_EXACT": cv2.resize(disk, small, interpolation=cv2.INTER_NEAREST_EXACT),
    "Pillow NEAREST": np.asarray(Image.fromarray(disk).resize(small, Image.Resampling.NEAREST)),
    "scikit-image order 0": resize(disk, small, order=0, preserve_range=True, anti_aliasing=False),
}
seen = {}
for name, mask in results.items():
    mask = mask > 0
    shift = 8 * float(np.mean(np.argwhere(mask).mean(0) - np.argwhere(image).mean(0)))
    dice = 2 * (mask & image).sum() / (mask.sum() + image.sum())
    print(f"{name}: {shift:.2f} Dice {dice:.3f}")
    seen[name] = shift, dice
assert seen.pop("OpenCV INTER_LINEAR") == (0, 1)
shift, dice = seen.pop("OpenCV INTER_NEAREST")
assert 2 < shift < 3.5 and dice < 0.95
assert all(abs(shift) < 0.5 and dice > 0.99 for shift, dice in seen.values())
PY
