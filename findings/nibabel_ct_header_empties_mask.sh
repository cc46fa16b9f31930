#!/usr/bin/env bash
# nibabel 5.4.2: a 0/1 mask saved with its scan's header can come back empty.
#
# Expected: a floating-point array holding only 0.0 and 1.0, written with the
# affine and header of an int16 CT, is either kept as floats or stored as the
# integers 0 and 1, so that get_fdata().astype(int) gives the mask back.
#
# What happens: the header's int16 wins over the array's dtype, and nibabel
# then stretches the values over all of int16 with a slope and an intercept.
# Read back, 1.0 is a hair below 1, so a cast to integer turns every
# foreground voxel into background. With the labels 0..104 (a whole-body
# model) half of the labels drop by one. np.rint, or an integer array, is safe.
#
# Seen:
#   stored integers [-32768, 32767], read back [0.0, 0.9999999997671694]
#   foreground voxels: 1 saved, 0 after astype(int), 1 after rint
#   labels 0..104 changed by astype(int): 52 of 105
#   an integer array under the same header: labels changed 0 of 105
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --no-compile nibabel==5.4.2 numpy==2.4.6
cd "$work"
venv/bin/python - <<'PY'
import nibabel as nib
import numpy as np

nib.save(nib.Nifti1Image(np.zeros((2, 1, 1), np.int16), np.eye(4)), "ct.nii")
ct = nib.load("ct.nii")


def back(labels):
    nib.save(nib.Nifti1Image(labels.reshape(-1, 1, 1), ct.affine, ct.header), "mask.nii")
    return nib.load("mask.nii")


img = back(np.array([0.0, 1.0]))
stored = img.dataobj.get_unscaled().ravel().tolist()
got = img.get_fdata().ravel()
print("stored integers", stored, "read back", got.tolist())
cut, rounded = int(got.astype(int).sum()), int(np.rint(got).sum())
print("foreground voxels: 1 saved,", cut, "after astype(int),", rounded, "after rint")
many = np.arange(105)
wrong = int((back(many.astype(float)).get_fdata().ravel().astype(int) != many).sum())
print("labels 0..104 changed by astype(int):", wrong, "of 105")
kept = int((back(many.astype(np.int16)).get_fdata().ravel().astype(int) != many).sum())
print("an integer array under the same header: labels changed", kept, "of 105")
assert stored == [-32768, 32767]
assert cut == 0 and rounded == 1
assert wrong > 40 and kept == 0
PY
