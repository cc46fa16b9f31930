#!/usr/bin/env bash
# rt-utils 1.2.7, platipy 0.7.2, dcmrtstruct2nii 5: masks of one RTSTRUCT.
#
# Expected: a contour in millimetres becomes the pixels whose centres it encloses,
# so that the mask has nearly the contour's area, whoever converts it.
#
# What happens: rt-utils and platipy round the points to whole pixels and count
# in all pixels that the rounded outline touches; dcmrtstruct2nii keeps to the
# centres. A lesion of 3 pixels' radius grows by three fifths for the first two,
# a square on pixel edges gains a row and a column, on other sides for each.
# All agree on contours through pixel centres, as rt-utils writes them.
#
# Seen (pixels; the contours hold 28.3, 113.1, 204.2, 81 and 100):
#   circle of radius 3: rt-utils 45 platipy 45 dcmrtstruct2nii 29
#   circle of radius 6: rt-utils 137 platipy 137 dcmrtstruct2nii 113
#   ring: rt-utils 256 platipy 224 dcmrtstruct2nii 204
#   square through centres: rt-utils 100 platipy 100 dcmrtstruct2nii 100
#   square on pixel edges: rt-utils 121 platipy 121 dcmrtstruct2nii 100
#   its centre: rt-utils 9.0 platipy 10.0 dcmrtstruct2nii 9.5
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --no-compile rt-utils==1.2.7 dcmrtstruct2nii==5 pydicom==2.4.5 SimpleITK==2.5.7 \
    numpy==1.26.4 scikit-image==0.24.0 scipy==1.17.1 opencv-python==4.11.0.86
"$work/venv/bin/pip" install -qq --no-compile --no-deps platipy==0.7.2
cd "$work" && mkdir ct by_platipy
venv/bin/python -W ignore - > log 2>&1 <<'PY' || { cat log; exit 1; }
from copy import deepcopy

import numpy as np
import SimpleITK as sitk
from dcmrtstruct2nii import dcmrtstruct2nii
from platipy.dicom.io.rtstruct_to_nifti import convert_rtstruct
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid
from rt_utils import RTStructBuilder

study, series, frame = generate_uid(), generate_uid(), generate_uid()
for k in range(4):
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID, ds.is_little_endian, ds.is_implicit_VR = ExplicitVRLittleEndian, True, False
    ds.SOPClassUID, ds.SOPInstanceUID, ds.Modality = CTImageStorage, generate_uid(), "CT"
    ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.FrameOfReferenceUID = study, series, frame
    ds.PatientName = ds.PatientID = "phantom"
    ds.PatientBirthDate = ds.PatientSex = ds.StudyDate = ds.StudyTime = ds.StudyID = ds.AccessionNumber = ""
    ds.InstanceNumber, ds.ImagePositionPatient = k + 1, [0, 0, 3.0 * k]
    ds.ImageOrientationPatient, ds.PixelSpacing, ds.SliceThickness = [1, 0, 0, 0, 1, 0], [2, 2], 3
    ds.Rows, ds.Columns, ds.SamplesPerPixel, ds.PhotometricInterpretation = 24, 24, 1, "MONOCHROME2"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, 1
    ds.RescaleSlope, ds.RescaleIntercept, ds.PixelData = "1", "-1024", bytes(2 * 24 * 24)
    ds.save_as(f"ct/{k}.dcm", write_like_original=False)


def square(a, b):
    return [(a, a), (b, a), (b, b), (a, b)]


t = np.linspace(0, 2 * np.pi, 200, endpoint=False)
circle = {r: np.c_[12 + r * np.cos(t), 12 + r * np.sin(t)] for r in (3, 4, 6, 9)}
rois = {"circle_of_radius_3": [circle[3]], "circle_of_radius_6": [circle[6]], "ring": [circle[9], circle[4]],
        "square_through_centres": [square(5, 14)], "square_on_pixel_edges": [square(4.5, 14.5)]}
built = RTStructBuilder.create_new("ct")
for name, contours in rois.items():
    mask = np.zeros((24, 24, 4), bool)
    mask[2:9, 2:9, 1] = 1
    built.add_roi(mask=mask, name=name)
    sequence = built.ds.ROIContourSequence[-1].ContourSequence
    sequence[:] = [deepcopy(sequence[0]) for _ in contours]
    for c, points in zip(sequence, contours):  # in pixels of 2 mm, all in the second slice
        c.NumberOfContourPoints = len(points)
        c.ContourData = [f"{v:.6g}" for x, y in points for v in (2 * x, 2 * y, 3.0)]
built.save("rs.dcm")
reread = RTStructBuilder.create_from("ct", "rs.dcm").get_roi_mask_by_name
dcmrtstruct2nii("rs.dcm", "ct", "by_d2n", gzip=False, convert_original_dicom=False)
convert_rtstruct("ct", "rs.dcm", prefix="", output_dir="by_platipy")
out = {n: [np.moveaxis(reread(n), 2, 0)] +
          [sitk.GetArrayFromImage(sitk.ReadImage(f)) for f in (f"by_platipy/{n}.nii.gz", f"by_d2n/mask_{n}.nii")]
       for n in rois}
areas = {n: [int((m > 0).sum()) for m in masks] for n, masks in out.items()}
x = [float(np.argwhere(m > 0)[:, 2].mean()) for m in out["square_on_pixel_edges"]]
with open("result", "w") as f:
    for n, v in [*areas.items(), ("its centre", x)]:
        print("{}: rt-utils {} platipy {} dcmrtstruct2nii {}".format(n.replace("_", " "), *v), file=f)
assert list(areas.values()) == [[45, 45, 29], [137, 137, 113], [256, 224, 204], [100] * 3, [121, 121, 100]], areas
assert x == [9, 10, 9.5], x
PY
cat result
