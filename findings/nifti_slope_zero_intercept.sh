#!/usr/bin/env bash
# SimpleITK 2.5.7 and nibabel 5.4.2: scl_slope 0 in a NIfTI header.
#
# Expected: NIfTI-1 says that a zero scl_slope means "no scaling", so both
# readers return the stored numbers, whatever scl_inter holds.
#
# What happens: nibabel drops slope and intercept together, SimpleITK takes
# the slope for 1 and still adds the intercept, turning the image into floats.
# An intercept left behind in such a header (-1024 here) moves the whole CT.
# With an ordinary slope the two agree.
#
# Seen:
#   slope 0 inter -1024: nibabel [0.0, 100.0] SimpleITK [-1024.0, -924.0]
#   slope nan inter -1024: nibabel [0.0, 100.0] SimpleITK [-1024.0, -924.0]
#   slope 1 inter -1024: nibabel [-1024.0, -924.0] SimpleITK [-1024.0, -924.0]
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --no-compile nibabel==5.4.2 SimpleITK==2.5.7 numpy==2.4.6
cd "$work"
venv/bin/python - <<'PY'
import struct

import nibabel as nib
import numpy as np
import SimpleITK as sitk

stored = np.array([0, 100], np.int16).reshape(2, 1, 1)
nib.save(nib.Nifti1Image(stored, np.eye(4)), "ct.nii")
plain = open("ct.nii", "rb").read()


def both(slope, inter):
    # scl_slope and scl_inter are the two floats at byte 112
    with open("scaled.nii", "wb") as f:
        f.write(plain[:112] + struct.pack("<ff", slope, inter) + plain[120:])
    n = nib.load("scaled.nii").get_fdata().ravel().tolist()
    s = sitk.GetArrayFromImage(sitk.ReadImage("scaled.nii")).astype(float).ravel().tolist()
    print(f"slope {slope} inter {inter}: nibabel {n} SimpleITK {s}")
    return n, s


for slope in (0, float("nan")):
    n, s = both(slope, -1024)
    assert n == [0, 100] and s == [-1024, -924]
n, s = both(1, -1024)
assert n == s == [-1024, -924]
PY
