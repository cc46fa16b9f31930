#!/usr/bin/env bash
# SimpleITK 2.5.7 and pydicom 3.0.2: a PET series whose slices differ in slope.
#
# Expected: PET scanners write a RescaleSlope per slice. Reading the series
# gives each slice the values that reading its file alone gives.
#
# What happens: the first slice's pixel type is taken for all. If its slope is
# a whole number (1 in a blank end slice, say), the volume is of an integer
# type just large enough for this one slice: in the others fractions are cut
# off and large activities wrap to negative ones, with no warning. With
# another slice first the same files are right, so where the patient's top
# lies decides on the numbers.
#
# Seen (each slice stores 0, 3, 10000, 30000; shown by the slice's slope):
#   slope 1 first: 16-bit signed integer
#     1: series [0.0, 3.0, 10000.0, 30000.0] file alone [0.0, 3.0, 10000.0, 30000.0] pydicom the same
#     0.25: series [0.0, 0.0, 2500.0, 7500.0] file alone [0.0, 0.75, 2500.0, 7500.0] pydicom the same
#     2: series [0.0, 6.0, 20000.0, -5536.0] file alone [0.0, 6.0, 20000.0, 60000.0] pydicom the same
#   slope 0.25 first: 64-bit float
#     all slices as the files alone
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --no-compile SimpleITK==2.5.7 pydicom==3.0.2 numpy==2.4.6
cd "$work"
venv/bin/python - <<'PY'
import numpy as np
import SimpleITK as sitk
from pydicom import Dataset, dcmread
from pydicom.dataset import FileMetaDataset
from pydicom.pixels import apply_rescale
from pydicom.uid import ExplicitVRLittleEndian, PositronEmissionTomographyImageStorage, generate_uid

study, series, frame = generate_uid(), generate_uid(), generate_uid()


def write(name, number, slope):
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.SOPClassUID = PositronEmissionTomographyImageStorage
    ds.SOPInstanceUID = generate_uid()
    ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.FrameOfReferenceUID = study, series, frame
    ds.Modality, ds.InstanceNumber, ds.Units = "PT", number, "BQML"
    ds.ImagePositionPatient, ds.ImageOrientationPatient = [0, 0, 3.0 * number], [1, 0, 0, 0, 1, 0]
    ds.PixelSpacing, ds.SliceThickness = [2, 2], 3
    ds.Rows, ds.Columns, ds.SamplesPerPixel = 2, 2, 1
    ds.PhotometricInterpretation, ds.PixelRepresentation = "MONOCHROME2", 1
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = 16, 16, 15
    ds.RescaleSlope, ds.RescaleIntercept = slope, "0"
    ds.PixelData = np.array([0, 3, 10000, 30000], np.int16).tobytes()
    ds.save_as(name, enforce_file_format=True)


def read(slopes):
    names = [f"{k}.dcm" for k in range(len(slopes))]
    for number, (name, slope) in enumerate(zip(names, slopes)):
        write(name, number, slope)
    volume = sitk.ReadImage(names)
    kind = volume.GetPixelIDTypeAsString()
    print(f"slope {slopes[0]} first: {kind}")
    got = sitk.GetArrayFromImage(volume).astype(float).reshape(len(slopes), 4).tolist()
    alone = [sitk.GetArrayFromImage(sitk.ReadImage(n)).astype(float).ravel().tolist() for n in names]
    datasets = [dcmread(n) for n in names]
    assert alone == [apply_rescale(d.pixel_array, d).ravel().tolist() for d in datasets]
    if got == alone:
        print("  all slices as the files alone")
        return kind, got
    for slope, a, b in zip(slopes, got, alone):
        print(f"  {slope}: series {a} file alone {b} pydicom the same")
    return kind, got


kind, got = read(["1", "0.25", "2"])
assert kind == "16-bit signed integer"
assert got == [[0, 3, 10000, 30000], [0, 0, 2500, 7500], [0, 6, 20000, -5536]]
kind, got = read(["0.25", "1", "2"])
assert kind == "64-bit float"
assert got == [[0, 0.75, 2500, 7500], [0, 3, 10000, 30000], [0, 6, 20000, 60000]]
PY
