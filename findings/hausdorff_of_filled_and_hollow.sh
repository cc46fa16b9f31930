#!/usr/bin/env bash
# scikit-image 0.26.0, SimpleITK 2.5.7, MedPy 0.5.2: Hausdorff distance.
#
# Expected: three libraries asked for the Hausdorff distance of two masks give
# one number, the metric being a textbook one.
#
# What happens: MedPy measures between the masks' borders, scikit-image and
# SimpleITK between all their pixels. A filled organ against only its contour
# (a common slip in annotation exports) is a perfect 0 for the first and the
# organ's radius for the others; the mean distance parts in the same way.
# Two solid masks side by side are 5 apart for all three.
#
# Seen:
#   filled and hollow: scikit-image 10.0 SimpleITK 10.0 MedPy 0.0
#   mean distance: SimpleITK 1.508 MedPy 0.000
#   filled and shifted: scikit-image 5.0 SimpleITK 5.0 MedPy 5.0
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq scikit-image==0.26.0 SimpleITK==2.5.7 MedPy==0.5.2 numpy==2.4.6
cd "$work"
venv/bin/python - <<'PY'
import numpy as np
import SimpleITK as sitk
from medpy.metric.binary import assd, hd
from skimage.metrics import hausdorff_distance

filled = np.zeros((41, 41), np.uint8)
filled[10:31, 10:31] = 1
hollow = filled.copy()
hollow[11:30, 11:30] = 0
shifted = np.roll(filled, 5, axis=1)


def itk(a, b):
    f = sitk.HausdorffDistanceImageFilter()
    f.Execute(sitk.GetImageFromArray(a), sitk.GetImageFromArray(b))
    return f.GetHausdorffDistance(), f.GetAverageHausdorffDistance()


def three(name, other):
    values = (float(hausdorff_distance(filled > 0, other > 0)),
              itk(filled, other)[0], float(hd(filled, other)))
    print("{}: scikit-image {} SimpleITK {} MedPy {}".format(name, *values))
    return values


assert three("filled and hollow", hollow) == (10, 10, 0)
means = itk(filled, hollow)[1], float(assd(filled, hollow))
print("mean distance: SimpleITK {:.3f} MedPy {:.3f}".format(*means))
assert means[0] > 1 and means[1] == 0
assert three("filled and shifted", shifted) == (5, 5, 5)
PY
