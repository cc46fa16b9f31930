#!/usr/bin/env bash
# scikit-image 0.26.0, SciPy 1.17.1, SimpleITK 2.5.7, cc3d 4.1.1: pieces of a
# mask, and the small ones among them.
#
# Expected: remove_small_objects(mask) keeps an object that label(mask), of the
# same library, calls one large object. A mask as uint8 gives what it gives as
# bool. Counting a mask's lesions gives one number in all libraries.
#
# What happens: scikit-image's label joins voxels that share a corner, its
# remove_small_objects only those that share a face: a thin oblique vessel, one
# object for the first, is wiped out by the second as dust. Given classes as
# integers, remove_small_objects takes a whole class for one object and
# keeps each speck. SciPy and SimpleITK count by faces, scikit-image and cc3d
# by corners; the latter two part touching classes, the former join them.
#
# Seen (a line of 101 voxels through a volume, objects of up to 5 voxels removed):
#   pieces: scikit-image 1 cc3d 1 SciPy 101 SimpleITK 101
#   voxels left as bool: 0, with connectivity=3: 101
#   10 lone voxels beside an organ of 1000, as bool: 0 left, as classes 0, 1, 2: 10 left
#   two touching classes: scikit-image 2 cc3d 2 SciPy 1 SimpleITK 1
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --no-compile scikit-image==0.26.0 scipy==1.17.1 SimpleITK==2.5.7 \
    connected-components-3d==4.1.1 numpy==2.4.6
cd "$work"
venv/bin/python -W error - <<'PY'
import cc3d
import numpy as np
import SimpleITK as sitk
from scipy.ndimage import label as scipy_label
from skimage.draw import line_nd
from skimage.measure import label
from skimage.morphology import remove_small_objects


def pieces(mask):
    itk = sitk.ConnectedComponentImageFilter()
    itk.Execute(sitk.GetImageFromArray(mask))
    return [int(label(mask).max()), int(cc3d.connected_components(mask).max()),
            int(scipy_label(mask)[1]), int(itk.GetObjectCount())]


NAMES = "scikit-image {} cc3d {} SciPy {} SimpleITK {}"
vessel = np.zeros((110, 110, 110), np.uint8)
vessel[line_nd((2, 2, 2), (82, 92, 102), endpoint=True)] = 1
counts = pieces(vessel)
print("pieces:", NAMES.format(*counts))
faces = int(remove_small_objects(vessel > 0, max_size=5).sum())
corners = int(remove_small_objects(vessel > 0, max_size=5, connectivity=3).sum())
print(f"voxels left as bool: {faces}, with connectivity=3: {corners}")

classes = np.zeros((40, 40, 40), np.uint8)
classes[1:11, 1:11, 1:11] = 1
specks = np.arange(15, 35, 2)
classes[specks, 20, 20] = 2
left = [int(remove_small_objects(classes == 2, max_size=5).sum()),
        int((remove_small_objects(classes, max_size=5) == 2).sum())]
print("10 lone voxels beside an organ of 1000, as bool: {} left, as classes 0, 1, 2: {} left".format(*left))

touching = np.zeros((8, 8, 8), np.uint8)
touching[2:4, 2:6, 2:6], touching[4:6, 2:6, 2:6] = 1, 2
joined = pieces(touching)
print("two touching classes:", NAMES.format(*joined))
n = int(vessel.sum())
assert n == 101 and counts == [1, 1, 101, 101]
assert faces == 0 and corners == n
assert left == [0, 10]
assert joined == [2, 2, 1, 1]
PY
