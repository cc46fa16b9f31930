#!/usr/bin/env bash
# SimpleITK 2.5.7 and pydicom 3.0.2: pixels of a MONOCHROME1 radiograph.
#
# Expected: MONOCHROME1 is a hint for display (low numbers shown bright).
# pixel_array and SimpleITK's array are the numbers in the file, and who wants
# the picture inverted does it by the tag.
#
# What happens: pydicom returns the file's numbers, SimpleITK returns them
# already flipped over the stored range, and still hands on the tag as
# MONOCHROME1, so code that inverts by the tag inverts twice. The flip uses
# BitsStored, comes before the rescale, and so puts calibrated values wrong.
#
# Seen:
#   MONOCHROME2: pydicom [0, 100, 4095] SimpleITK [0, 100, 4095] tag MONOCHROME2
#   MONOCHROME1: pydicom [0, 100, 4095] SimpleITK [4095, 3995, 0] tag MONOCHROME1
#   MONOCHROME1, slope 2, intercept -1000: apply_rescale [-1000, -800, 7190] SimpleITK [7190, 6990, -1000] tag MONOCHROME1
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --no-compile pydicom==3.0.2 SimpleITK==2.5.7 numpy==2.4.6
cd "$work"
venv/bin/python - <<'PY'
import numpy as np
import SimpleITK as sitk
from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.pixels import apply_rescale
from pydicom.uid import ComputedRadiographyImageStorage, ExplicitVRLittleEndian, generate_uid


def write(photometric, **more):
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.SOPClassUID, ds.SOPInstanceUID = ComputedRadiographyImageStorage, generate_uid()
    ds.Modality, ds.Rows, ds.Columns = "CR", 1, 3
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = 16, 12, 11
    ds.PixelRepresentation, ds.SamplesPerPixel = 0, 1
    ds.PhotometricInterpretation = photometric
    for name, value in more.items():
        setattr(ds, name, value)
    ds.add_new("PixelData", "OW", np.array([0, 100, 4095], "<u2").tobytes())
    ds.save_as("x.dcm", enforce_file_format=True)


def itk():
    img = sitk.ReadImage("x.dcm")
    values = sitk.GetArrayFromImage(img).ravel().astype(int).tolist()
    return values, img.GetMetaData("0028|0004").strip()


raw = [0, 100, 4095]
for photometric, expect in (("MONOCHROME2", raw), ("MONOCHROME1", [4095, 3995, 0])):
    write(photometric)
    p, (s, tag) = dcmread("x.dcm").pixel_array.ravel().tolist(), itk()
    print(f"{photometric}: pydicom {p} SimpleITK {s} tag {tag}")
    assert p == raw and s == expect and tag == photometric
write("MONOCHROME1", RescaleSlope=2, RescaleIntercept=-1000)
ds = dcmread("x.dcm")
p, (s, tag) = apply_rescale(ds.pixel_array, ds).ravel().astype(int).tolist(), itk()
print(f"MONOCHROME1, slope 2, intercept -1000: apply_rescale {p} SimpleITK {s} tag {tag}")
assert p == [-1000, -800, 7190] and s == [7190, 6990, -1000] and tag == "MONOCHROME1"
PY
