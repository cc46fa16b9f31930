#!/usr/bin/env bash
# SimpleITK 2.5.7 and pydicom 3.0.2: values and order of an enhanced CT's frames.
#
# Expected: in an enhanced multi-frame object each frame has its own slope,
# intercept and position (functional groups), and the standard allows frames
# in any order. A volume reader applies each frame's slope and sorts by place;
# a reader that does not refuses, or leaves stored values alone.
#
# What happens: SimpleITK applies the first frame's slope and intercept to all
# frames, keeps them in stored order, and where that is not the order of the
# places it states a pixel spacing of 1 mm in all directions. No warning.
# pydicom's apply_rescale finds no slope at the top and returns stored values.
#
# Seen (every voxel of frame k is 100 k HU; slopes 0.5, 1, 0.25):
#   in order: SimpleITK [0.0, -450.0, 1400.0] spacing (2.0, 3.0, 4.0) pydicom [2000, 1100, 4800]
#   out of order, one slope: SimpleITK [200.0, 0.0, 100.0] spacing (1.0, 1.0, 1.0)
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
from pydicom.uid import EnhancedCTImageStorage, ExplicitVRLittleEndian, generate_uid


def item(**fields):
    ds = Dataset()
    for name, value in fields.items():
        setattr(ds, name, [item(**value)] if isinstance(value, dict) else value)
    return ds


def write(order, slopes):
    ds = item(
        SOPClassUID=EnhancedCTImageStorage, SOPInstanceUID=generate_uid(), Modality="CT", Rows=3, Columns=2,
        BitsAllocated=16, BitsStored=16, HighBit=15, PixelRepresentation=0, SamplesPerPixel=1,
        PhotometricInterpretation="MONOCHROME2", NumberOfFrames=len(order),
    )
    ds.SharedFunctionalGroupsSequence = [item(
        PlaneOrientationSequence={"ImageOrientationPatient": [1, 0, 0, 0, 1, 0]},
        PixelMeasuresSequence={"PixelSpacing": [3, 2], "SliceThickness": 4},
    )]
    ds.PerFrameFunctionalGroupsSequence = [item(
        PlanePositionSequence={"ImagePositionPatient": [0, 0, 4 * k]},
        PixelValueTransformationSequence={"RescaleSlope": s, "RescaleIntercept": -1000, "RescaleType": "HU"},
    ) for k, s in zip(order, slopes)]
    stored = [np.full((3, 2), (100 * k + 1000) / s) for k, s in zip(order, slopes)]
    ds.add_new("PixelData", "OW", np.stack(stored).astype("<u2").tobytes())
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.save_as("x.dcm", enforce_file_format=True)


def itk():
    image = sitk.ReadImage("x.dcm")
    return sitk.GetArrayFromImage(image)[:, 0, 0].astype(float).tolist(), image.GetSpacing()


write((0, 1, 2), (0.5, 1, 0.25))
ds = dcmread("x.dcm")
stored, (values, spacing) = apply_rescale(ds.pixel_array, ds)[:, 0, 0].astype(int).tolist(), itk()
print("in order: SimpleITK", values, "spacing", spacing, "pydicom", stored)
assert values == [0, -450, 1400] and spacing == (2, 3, 4) and stored == [2000, 1100, 4800]
write((2, 0, 1), (0.5, 0.5, 0.5))
values, spacing = itk()
print("out of order, one slope: SimpleITK", values, "spacing", spacing)
assert values == [200, 0, 100] and spacing == (1, 1, 1)
PY
