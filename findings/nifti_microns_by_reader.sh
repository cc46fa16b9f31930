#!/usr/bin/env bash
# nibabel 5.4.2, SimpleITK 2.5.7, pynrrd 1.1.3: images measured in micrometres.
#
# Expected: NIfTI states the unit of its voxel sizes in xyzt_units, NRRD in
# "space units". Readers either turn them into millimetres or leave the numbers
# as they are, alike for both formats, and what is said to be mm3 is mm3.
#
# What happens: SimpleITK turns micrometres (and metres) of a NIfTI file into
# millimetres, but ignores the unit of a NRRD file. nibabel leaves the numbers
# alone, in its affine, too, and its mask_volume, "expressed in mm3", returns
# cubic micrometres: a factor of 1e9 between the two for one micro-CT file.
# Two files that show the same place in different units do not meet in
# nibabel's resample_from_to, and the result is silently empty.
#
# Seen (a cube of 10 voxels of 5 um a side, 1.25e-4 mm3):
#   NIfTI in um: nibabel voxel 5 volume 125000, SimpleITK voxel 0.005 volume 0.000125
#   NIfTI in mm: nibabel voxel 0.005 volume 0.000125, SimpleITK voxel 0.005 volume 0.000125
#   NRRD in um: SimpleITK voxel 5 volume 125000
#   um file resampled by nibabel on the mm file's grid: 0 voxels of 1000
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --no-compile nibabel==5.4.2 SimpleITK==2.5.7 pynrrd==1.1.3 scipy==1.17.1 numpy==2.4.6
cd "$work"
venv/bin/python - <<'PY'
import nibabel as nib
import nrrd
import numpy as np
import SimpleITK as sitk
from nibabel.imagestats import mask_volume
from nibabel.processing import resample_from_to

mask = np.zeros((20, 20, 20), np.uint8)
mask[8:18, 8:18, 8:18] = 1


def itk(name):
    image = sitk.ReadImage(name)
    shape = sitk.LabelShapeStatisticsImageFilter()
    shape.Execute(image)
    return image.GetSpacing()[0], shape.GetPhysicalSize(1)


def both(size, unit):
    image = nib.Nifti1Image(mask, np.diag([size, size, size, 1]))
    image.header.set_xyzt_units(unit)
    nib.save(image, f"{unit}.nii")
    image = nib.load(f"{unit}.nii")
    assert image.header.get_xyzt_units()[0] == unit
    n, s = (image.affine[0, 0], mask_volume(image)), itk(f"{unit}.nii")
    short = {"micron": "um"}.get(unit, unit)
    print("NIfTI in {}: nibabel voxel {:g} volume {:g}, SimpleITK voxel {:g} volume {:g}".format(short, *n, *s))
    return n, s


n, s = both(5, "micron")
assert np.allclose(n, (5, 125000)) and np.allclose(s, (0.005, 1.25e-4), rtol=1e-3, atol=0)
n, s = both(0.005, "mm")
assert np.allclose([*n, *s], [0.005, 1.25e-4] * 2, rtol=1e-3, atol=0)
header = {"space": "left-posterior-superior", "space directions": np.eye(3) * 5,
          "space origin": [0, 0, 0], "space units": ["um"] * 3}
nrrd.write("um.nrrd", mask, header)
assert nrrd.read_header("um.nrrd")["space units"] == ["um"] * 3
voxel, volume = itk("um.nrrd")
print(f"NRRD in um: SimpleITK voxel {voxel:g} volume {volume:g}")
assert np.allclose((voxel, volume), (5, 125000))
met = resample_from_to(nib.load("micron.nii"), nib.load("mm.nii"), order=0)
met = int(np.rint(met.get_fdata()).sum())
print(f"um file resampled by nibabel on the mm file's grid: {met} voxels of {mask.sum()}")
assert met == 0
PY
