#!/usr/bin/env bash
# SimpleITK 2.5.7 and nibabel 5.4.2: which of a NIfTI's two affines counts.
#
# Expected: with both a qform and an sform present, a reader has one fixed
# preference, and two readers that both call themselves NIfTI readers place
# the image in the same spot.
#
# What happens: nibabel takes the sform whenever its code is above 0.
# SimpleITK does so only for sform code 1 ("scanner"): with code 2 ("aligned")
# or 4 ("MNI") and a qform present it falls back to the qform. The same bytes
# but for one code move by centimetres and even turn about. As nibabel gives
# an affine code 2 by default, set_sform alone is enough to get there.
#
# Seen (origin in RAS mm; the qform holds 5,6,7 and the sform 50,60,70):
#   qform code 1, sform code 1: nibabel [50, 60, 70] SimpleITK [50, 60, 70]
#   qform code 1, sform code 2: nibabel [50, 60, 70] SimpleITK [5, 6, 7]
#   qform code 1, sform code 4: nibabel [50, 60, 70] SimpleITK [5, 6, 7]
#   qform code 0, sform code 2: nibabel [50, 60, 70] SimpleITK [50, 60, 70]
#   set_sform with no code, over a scanner qform: code 2
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq nibabel==5.4.2 SimpleITK==2.5.7 numpy==2.4.6
cd "$work"
venv/bin/python - <<'PY'
import nibabel as nib
import numpy as np
import SimpleITK as sitk

q, s = np.diag([-1.0, -1, 1, 1]), np.eye(4)
q[:3, 3], s[:3, 3] = [5, 6, 7], [50, 60, 70]


def origins(qcode, scode):
    img = nib.Nifti1Image(np.zeros((2, 2, 2), np.uint8), None)
    img.set_qform(q, qcode)
    img.set_sform(s, scode)
    nib.save(img, "x.nii")
    n = [int(v) for v in nib.load("x.nii").affine[:3, 3]]
    x, y, z = sitk.ReadImage("x.nii").GetOrigin()
    k = [round(-x), round(-y), round(z)]  # SimpleITK counts in LPS
    print(f"qform code {qcode}, sform code {scode}: nibabel {n} SimpleITK {k}")
    return n, k


S, Q = [50, 60, 70], [5, 6, 7]
assert origins(1, 1) == (S, S)
assert origins(1, 2) == (S, Q)
assert origins(1, 4) == (S, Q)
assert origins(0, 2) == (S, S)
img = nib.Nifti1Image(np.zeros((2, 2, 2), np.uint8), None)
img.set_qform(q, 1)
img.set_sform(s)
code = int(img.header["sform_code"])
print("set_sform with no code, over a scanner qform: code", code)
assert code == 2
PY
