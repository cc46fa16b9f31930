"""Data sets drawn at random in all formats, whole or spoilt, and what they must be read as.

Volumes are written by SimpleITK, nibabel or pydicom and compared with SimpleITK's reorientation; pictures are
written by Pillow, OpenCV or tifffile and compared with the pixels that were written.
"""

import gzip
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import SimpleITK
import tifffile
from PIL import Image as PillowImage
from pydicom.uid import EnhancedCTImageStorage

from seg_mia.data.base import SegmentationData
from seg_mia.data.prediction_files.arrays import array_of
from seg_mia.data.sets.dicom import Dicom
from seg_mia.data.sets.folder import Folder
from seg_mia.data.sets.nifti import Nifti
from seg_mia.data.sets.volumes import DicomVolumes, VolumeFiles
from tests.data.itk_check import itk_image
from tests.data.sets.test_dicom import write
from tests.data.volumes.test_dicom_frames import PER_FRAME, SCALE, item

LETTERS = ("RAS", "LPS", "LAS", "RAI", "ASL", "SPR", "ILA", "PIR", "SRA", "IPL")
KINDS = ("u1", "i1", "u2", "i2", "i4", "f4", "f8")
LOW, HIGH = -60.0, 140.0
"""Ends of the grey window of all data sets here."""
WINDOW: dict[str, Any] = {"level": (LOW + HIGH) / 2, "width": HIGH - LOW}
COMMON: dict[str, Any] = {"members": 1, "nonmembers": 1}
FORMATS = ("nifti", "nifti slices", "itk", "series", "enhanced", "png", "tiff", "jpeg", "bands", "npy")


@dataclass
class Odd:
    """One data set.

    Attributes:
        what: its description.
        read: opens it and returns images and masks by sample, in [0, 1] and class ids.
        images: what they must be, (D, H, W) or (H, W, C), by sample.
        masks: likewise.
        files: files that may be spoilt.
        tolerance: of grey values.
        spoilt: what was done to a file; nothing if empty.
        again: reads a damaged volume by SimpleITK, and returns its number and voxels; None where it refuses.
        bad: whether it must be refused; None: if it is read, then rightly, or refused.
    """

    what: str
    read: Callable[[], list[tuple[Any, Any]]]
    images: list[Any]
    masks: list[Any]
    files: list[Path]
    tolerance: float = 1.01 / 255
    spoilt: str = ""
    again: Callable[[], tuple[int, Any] | None] = lambda: None
    bad: bool | None = False


def _samples(data: SegmentationData) -> list[tuple[Any, Any]]:
    """Decode all samples through the cache, as `fit` does."""
    data.prepare_data()
    scale = 255 if data.cached.images.dtype == np.uint8 else 1
    rows = range(len(data.source))
    return [(np.asarray(data.cached.images[i]) / scale, np.asarray(data.cached.masks[i])) for i in rows]


def shown(image: Any) -> Any:
    """Return an image's voxels as (D, H, W): up from the feet, from front to back, and from right to left."""
    return SimpleITK.GetArrayFromImage(SimpleITK.DICOMOrient(image, "LPS"))


def grey(values: Any) -> Any:
    return ((values.astype(np.float64) - LOW) / (HIGH - LOW)).clip(0, 1)


def _values(rng: Any, shape: tuple[int, ...], kind: str) -> Any:
    low, high = (-50, 120) if kind[0] in "if" else (0, 150)
    values = rng.integers(low, min(high, 127 if kind == "i1" else high), shape)
    return (values + (rng.random(shape) if kind[0] == "f" else 0)).astype(kind)


def _ids(rng: Any, shape: tuple[int, ...]) -> Any:
    ids = (rng.random(shape) < 0.3).astype(np.uint8)
    ids.flat[0] = 1
    return ids


def _letters(rng: Any, options: tuple[str, ...] = LETTERS) -> str:
    return str(rng.choice(options))


def _scan(rng: Any) -> tuple[Any, Any, str, str]:
    shape = tuple(int(side) for side in rng.integers(3, 8, 3))
    letters, turn = _letters(rng), float(rng.choice([0, 0, 0.2]))
    kind = str(rng.choice(KINDS))
    image = itk_image(_values(rng, shape, kind), letters, turn=turn)
    mask = itk_image(_ids(rng, shape), letters, turn=turn)
    if rng.random() < 0.5:
        mask = SimpleITK.DICOMOrient(mask, _letters(rng, ("RAI", "LPS", "RSP")))
    return image, mask, kind, f"{kind} {'x'.join(map(str, shape))} {letters} turned {turn}"


def _files(rng: Any, root: Path, ending: str) -> tuple[list[Any], list[Any], list[Path], str]:
    """Write two cases by SimpleITK, and return their voxels as shown, and their files."""
    images, masks, files, whats = [], [], [], []
    for name in ("a", "b"):
        image, mask, _, what = _scan(rng)
        for part, volume in (("images", image), ("masks", mask)):
            path = root / part / f"{name}{ending}"
            path.parent.mkdir(parents=True, exist_ok=True)
            SimpleITK.WriteImage(volume, str(path), useCompression=bool(rng.random() < 0.5))
            files.append(path)
        images.append(shown(image))
        masks.append(shown(mask))
        whats.append(what)
    return images, masks, files, f"{ending} {' and '.join(whats)}"


def _rescaled(path: Path, rng: Any) -> tuple[float, float]:
    """Give a NIfTI file another slope and intercept, in its header alone."""
    slope, intercept = float(rng.choice([0.5, 2.0, -1.0])), float(rng.integers(-20, 20))
    packed = path.suffix == ".gz"
    data = bytearray(gzip.decompress(path.read_bytes()) if packed else path.read_bytes())
    data[112:120] = np.array([slope, intercept], "<f4").tobytes()
    path.write_bytes(gzip.compress(bytes(data)) if packed else bytes(data))
    return slope, intercept


def _nifti(rng: Any, root: Path) -> Odd:
    images, masks, files, what = _files(rng, root, str(rng.choice([".nii", ".nii.gz"])))
    if rng.random() < 0.5:
        slope, intercept = _rescaled(files[0], rng)
        images[0] = images[0].astype(np.float64) * slope + intercept
        what += f", scaled {slope} {intercept}"
    greys = [grey(image) for image in images]
    options: dict[str, Any] = {"root": str(root), **COMMON, **WINDOW}
    return Odd(what, lambda: _whole(VolumeFiles(**options)), greys, masks, files)


def _slices_of_nifti(rng: Any, root: Path) -> Odd:
    """Slices along any axis at their own size, of cases of equal shape."""
    shape, letters = tuple(int(side) for side in rng.integers(3, 8, 3)), _letters(rng)
    images, masks, files = [], [], []
    for name in ("a", "b"):
        image = itk_image(_values(rng, shape, str(rng.choice(KINDS))), letters)
        mask = itk_image(_ids(rng, shape), letters)
        for part, volume in (("images", image), ("masks", mask)):
            path = root / part / f"{name}.nii.gz"
            path.parent.mkdir(parents=True, exist_ok=True)
            SimpleITK.WriteImage(volume, str(path))
            files.append(path)
        images.append(grey(shown(image)))
        masks.append(shown(mask))
    axis = str(rng.choice(["axial", "coronal", "sagittal"]))
    options: dict[str, Any] = {
        "root": str(root),
        **COMMON,
        **WINDOW,
        "size": None,
        "minimum": 0,
        "axis": axis,
    }
    flat = [[_cut(volume, axis) for volume in part] for part in (images, masks)]
    return Odd(
        f"{axis} slices {letters}",
        lambda: _samples(Nifti(**options)),
        [plane for planes in flat[0] for plane in planes],
        [plane for planes in flat[1] for plane in planes],
        files,
    )


def _cut(volume: Any, axis: str) -> list[Any]:
    """Return the slices of (D, H, W) in the order of their numbers: from the feet, the back or the left."""
    match axis:
        case "axial":
            return list(volume)
        case "coronal":
            return [volume[::-1, row] for row in reversed(range(volume.shape[1]))]
        case _:
            return [volume[::-1, :, column] for column in reversed(range(volume.shape[2]))]


def _whole(data: SegmentationData) -> list[tuple[Any, Any]]:
    """Decode volumes of several sizes one by one, as no cache holds them."""
    source = data.read_source()
    decoded = [source.decode(index) for index in range(len(source))]
    return [(image / 255, mask) for image, mask in decoded]


def _itk(rng: Any, root: Path) -> Odd:
    images, masks, files, what = _files(rng, root, str(rng.choice([".nrrd", ".mha"])))
    options: dict[str, Any] = {"root": str(root), **COMMON, **WINDOW}
    return Odd(what, lambda: _whole(VolumeFiles(**options)), [grey(i) for i in images], masks, files)


def _dicom(rng: Any, root: Path, *, enhanced: bool) -> Odd:
    """Two patients: slices of any orientation in shuffled order, a slope of each, masks in NIfTI."""
    images, masks, files, whats = [], [], [], []
    for name in ("a", "b"):
        shape = tuple(int(side) for side in rng.integers(3, 7, 3))
        letters, turn = _letters(rng, ("LPS", "PSL", "LSA", "RAS", "RPI")), float(rng.choice([0, 0.2]))
        values = rng.integers(-50, 120, shape)
        image, mask = itk_image(values, letters, turn=turn), itk_image(_ids(rng, shape), letters, turn=turn)
        inverse = bool(rng.random() < 0.25)
        folder = root / name / "DICOM_anon"
        kind = _enhanced if enhanced else _series
        files += kind(rng, folder, image, name, inverse=inverse)
        path = root / name / "label.nii.gz"
        SimpleITK.WriteImage(SimpleITK.DICOMOrient(mask, "RAI"), str(path))
        files.append(path)
        voxels = shown(image)
        images.append(grey(voxels))
        masks.append(shown(mask))
        whats.append(f"{letters} turned {turn}{' inverse' if inverse else ''}")
    options: dict[str, Any] = {"root": str(root), "label": "label.nii.gz", **COMMON, **WINDOW}
    if rng.random() < 0.5:
        options |= {"size": 16, "minimum": 0}
        return Odd(f"slices {whats}", lambda: _samples(Dicom(**options)), [], [], files)
    return Odd(f"{whats}", lambda: _whole(DicomVolumes(**options)), images, masks, files)


def _stored(values: Any, slope: float, *, inverse: bool) -> Any:
    """Return words that mean values at a slope and an intercept of -100; MONOCHROME1 mirrored in 16 bits."""
    words = np.rint((values.astype(np.float64) + 100) / slope).astype(np.uint16)
    return np.uint16(65535) - words if inverse else words


def _planes(image: Any) -> list[tuple[Any, Any, Any]]:
    """Return pixels (rows, columns), position and orientation of each slice of an image."""
    array, cosines = SimpleITK.GetArrayFromImage(image), np.array(image.GetDirection()).reshape(3, 3)
    orientation = [*cosines[:, 0].tolist(), *cosines[:, 1].tolist()]
    return [
        (flat, image.TransformIndexToPhysicalPoint((0, 0, number)), orientation)
        for number, flat in enumerate(array)
    ]


def _series(rng: Any, folder: Path, image: Any, patient: str, *, inverse: bool) -> list[Path]:
    planes, files = _planes(image), []
    for number, place in enumerate(rng.permutation(len(planes)).tolist()):
        flat, position, orientation = planes[place]
        slope = float(rng.choice([0.5, 1.0]))
        files.append(
            write(
                folder / f"{number}.dcm",
                flat,
                position,
                PixelSpacing=[3, 2],
                ImageOrientationPatient=orientation,
                PixelData=_stored(flat, slope, inverse=inverse).tobytes(),
                RescaleSlope=slope,
                RescaleIntercept=-100,
                PatientID=patient,
                PhotometricInterpretation=f"MONOCHROME{1 if inverse else 2}",
            )
        )
    return files


def _enhanced(rng: Any, folder: Path, image: Any, patient: str, *, inverse: bool) -> list[Path]:
    planes = _planes(image)
    order = rng.permutation(len(planes)).tolist()
    slopes = rng.choice([0.5, 1.0], len(planes)).tolist()
    frames = [
        item(
            PlanePositionSequence={"ImagePositionPatient": list(planes[place][1])},
            PlaneOrientationSequence={"ImageOrientationPatient": planes[place][2]},
            PixelValueTransformationSequence={"RescaleSlope": slope, "RescaleIntercept": -100},
        )
        for place, slope in zip(order, slopes, strict=True)
    ]
    words = [
        _stored(planes[place][0], slope, inverse=inverse) for place, slope in zip(order, slopes, strict=True)
    ]
    fields = {
        "SOPClassUID": EnhancedCTImageStorage,
        "NumberOfFrames": len(order),
        "PixelData": np.stack(words).tobytes(),
        "SharedFunctionalGroupsSequence": [item(PixelMeasuresSequence={"PixelSpacing": [3, 2]})],
        "PerFrameFunctionalGroupsSequence": frames,
        "PatientID": patient,
        "PhotometricInterpretation": f"MONOCHROME{1 if inverse else 2}",
    }
    return [write(folder / "0.dcm", planes[0][0], planes[0][1], **(fields | PER_FRAME | SCALE))]


def _folder(rng: Any, root: Path, save: Callable[[Path], Any], ending: str, **options: Any) -> Odd:
    """Write two pictures of one size by a writer that returns the pixels, with masks in PNG or TIFF."""
    images, masks, files = [], [], []
    for name in ("a", "b"):
        path = root / "images" / f"{name}{ending}"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = save(path)
        mask = _ids(rng, pixels.shape[:2])
        label = root / "masks" / f"{name}{rng.choice(['.png', '.tif', '.bmp'])}"
        label.parent.mkdir(parents=True, exist_ok=True)
        PillowImage.fromarray(mask).save(label)
        images.append(pixels)
        masks.append(mask)
        files += [path, label]
    settings: dict[str, Any] = {"root": str(root), **COMMON, "classes": 2, **options}
    return Odd(ending, lambda: _samples(Folder(**settings)), images, masks, files)


def _png(rng: Any, root: Path) -> Odd:
    size, kind = tuple(int(side) for side in rng.integers(5, 30, 2)), str(rng.choice(["u1", "u2"]))
    channels = int(rng.choice([1, 3]))

    def save(path: Path) -> Any:
        top = np.iinfo(kind).max
        pixels = rng.integers(0, top, (*size, channels)).astype(kind)
        assert cv2.imwrite(str(path), pixels[..., ::-1] if channels == 3 else pixels)
        return pixels / top

    return _folder(rng, root, save, str(rng.choice([".png", ".tif"])), channels=channels)


def _tiff(rng: Any, root: Path) -> Odd:
    size = tuple(int(side) for side in rng.integers(5, 30, 2))
    kind = str(rng.choice(["u1", "u2", "f4"]))
    order: Any = rng.choice(["<", ">"])
    ranged = kind == "f4" or bool(rng.random() < 0.5)

    def save(path: Path) -> Any:
        pixels = (rng.random(size) * 200).astype(kind)
        tifffile.imwrite(path, pixels, photometric="minisblack", byteorder=order)
        top = 150.0 if ranged else float(np.iinfo(kind).max)
        return (pixels.astype(np.float64) / top).clip(0, 1)[..., None]

    return _folder(rng, root, save, ".tif", channels=1, value_range=[0, 150] if ranged else None)


def _jpeg(rng: Any, root: Path) -> Odd:
    size = tuple(int(side) for side in rng.integers(9, 30, 2))

    def save(path: Path) -> Any:
        rough = rng.random((3, 3, 3)).astype(np.float32)
        pixels = (cv2.resize(rough, size[::-1]) * 255).astype(np.uint8)
        PillowImage.fromarray(pixels).save(path, quality=int(rng.integers(60, 100)))
        decoded = cv2.imread(str(path), cv2.IMREAD_COLOR)
        assert decoded is not None
        return decoded[..., ::-1] / 255

    made = _folder(rng, root, save, ".jpg", channels=3)
    made.tolerance = 4 / 255
    return made


def _bands(rng: Any, root: Path) -> Odd:
    size, count = tuple(int(side) for side in rng.integers(5, 30, 2)), int(rng.choice([2, 4, 5, 8]))
    kind, planes = str(rng.choice(["u1", "u2", "i2", "f4"])), bool(rng.random() < 0.5)
    packing: dict[str, Any] = {"compression": "deflate"} if rng.random() < 0.5 else {}

    def save(path: Path) -> Any:
        pixels = (rng.random((*size, count)) * 100).astype(kind)
        tifffile.imwrite(
            path,
            np.moveaxis(pixels, -1, 0) if planes else pixels,
            photometric="minisblack",
            planarconfig="separate" if planes else "contig",
            **packing,
        )
        return (pixels.astype(np.float64) / 80).clip(0, 1)

    return _folder(rng, root, save, ".tif", channels=count, value_range=[0, 80])


def _npy(rng: Any, root: Path) -> Odd:
    shape = tuple(int(side) for side in rng.integers(1, 9, int(rng.integers(1, 5))))
    values = _values(rng, shape, str(rng.choice(KINDS)))
    values = np.asfortranarray(values) if rng.random() < 0.5 else values
    packed = bool(rng.random() < 0.5)
    path = root / f"a.{'npz' if packed else 'npy'}"
    if packed:
        np.savez_compressed(path, values)
    else:
        order: Any = rng.choice(["<", ">"])
        np.save(path, values.astype(values.dtype.newbyteorder(order)))
    made = Odd(
        f"{path.suffix} {shape}", lambda: [(array_of(path), array_of(path))], [values], [values], [path]
    )
    made.tolerance = 0
    return made


MAKERS: dict[str, Callable[[Any, Path], Odd]] = {
    "nifti": _nifti,
    "nifti slices": _slices_of_nifti,
    "itk": _itk,
    "series": lambda rng, root: _dicom(rng, root, enhanced=False),
    "enhanced": lambda rng, root: _dicom(rng, root, enhanced=True),
    "png": _png,
    "tiff": _tiff,
    "jpeg": _jpeg,
    "bands": _bands,
    "npy": _npy,
}
