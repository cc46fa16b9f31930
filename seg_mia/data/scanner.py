"""What the scanner and the annotator make of a map of tissues: a windowed CT image and an organ contour."""

from dataclasses import dataclass
from enum import IntEnum, auto

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

Map = NDArray[np.uint8]
Field = NDArray[np.float32]

WINDOW_LEVEL, WINDOW_WIDTH = 40.0, 400.0  # HU, abdominal soft tissue
CONTOUR_ERROR = 3.3 / 128  # standard deviation of the annotator's grid nodes, as a fraction of the image side


class Tissue(IntEnum):
    """What one point of the body consists of."""

    AIR = 0
    TABLE = auto()
    SKIN = auto()
    FAT = auto()
    MUSCLE = auto()
    BONE = auto()
    MARROW = auto()
    CARTILAGE = auto()
    CORD = auto()
    LUNG = auto()
    HEART = auto()
    VISCERAL = auto()
    VESSEL = auto()
    LIVER = auto()
    LIVER_VEIN = auto()
    LESION = auto()
    SPLEEN = auto()
    KIDNEY_RIGHT = auto()
    MEDULLA_RIGHT = auto()
    KIDNEY_LEFT = auto()
    MEDULLA_LEFT = auto()
    SINUS = auto()
    GALLBLADDER = auto()
    STOMACH = auto()
    CHYME = auto()
    STOMACH_GAS = auto()
    PANCREAS = auto()
    AORTA = auto()
    CAVA = auto()
    BOWEL = auto()
    BOWEL_FLUID = auto()
    STOOL = auto()
    GAS = auto()


T = Tissue

ORGAN_IDS = {
    T.SPLEEN: 1,
    T.KIDNEY_RIGHT: 2,
    T.MEDULLA_RIGHT: 2,
    T.KIDNEY_LEFT: 3,
    T.MEDULLA_LEFT: 3,
    T.GALLBLADDER: 4,
    T.LIVER: 6,
    T.LIVER_VEIN: 6,
    T.LESION: 6,
    T.STOMACH: 7,
    T.CHYME: 7,
    T.STOMACH_GAS: 7,
    T.AORTA: 8,
    T.CAVA: 9,
    T.PANCREAS: 11,
}  # numbered as in BTCV (Beyond the Cranial Vault)

# Hounsfield units without contrast agent, what a full dose adds, and the spread of the tissue's own texture.
HU: dict[Tissue, tuple[float, float, float]] = {
    T.AIR: (-1000, 0, 0),
    T.TABLE: (-60, 0, 10),
    T.SKIN: (10, 10, 10),
    T.FAT: (-104, 0, 9),
    T.MUSCLE: (50, 12, 11),
    T.BONE: (480, 0, 120),
    T.MARROW: (185, 15, 45),
    T.CARTILAGE: (105, 5, 20),
    T.CORD: (28, 5, 8),
    T.LUNG: (-840, 0, 40),
    T.HEART: (45, 85, 12),
    T.VISCERAL: (-98, 0, 12),
    T.VESSEL: (45, 105, 5),
    T.LIVER: (58, 44, 7),
    T.LIVER_VEIN: (44, 92, 5),
    T.LESION: (28, 14, 9),
    T.SPLEEN: (50, 66, 7),
    T.KIDNEY_RIGHT: (38, 138, 10),
    T.MEDULLA_RIGHT: (32, 98, 10),
    T.KIDNEY_LEFT: (38, 138, 10),
    T.MEDULLA_LEFT: (32, 98, 10),
    T.SINUS: (-70, 10, 30),
    T.GALLBLADDER: (10, 0, 4),
    T.STOMACH: (46, 38, 10),
    T.CHYME: (22, 0, 14),
    T.STOMACH_GAS: (-950, 0, 0),
    T.PANCREAS: (38, 50, 24),
    T.AORTA: (42, 118, 4),
    T.CAVA: (42, 88, 8),
    T.BOWEL: (42, 42, 10),
    T.BOWEL_FLUID: (22, 6, 12),
    T.STOOL: (0, 0, 150),
    T.GAS: (-900, 0, 0),
}


@dataclass(frozen=True)
class Texture:
    """The grain of one patient's organs: random grids that are stretched over the image, so size does not matter."""

    coarse: Field
    fine: Field
    oblique: Field
    contrast: float

    @classmethod
    def draw(cls, rng: Generator) -> "Texture":
        """Draw the grids, and the dose of contrast agent in [0.1, 1]."""
        coarse, fine, oblique = (
            rng.standard_normal((2, nodes, nodes), dtype=np.float32) for nodes in (26, 88, 7)
        )
        return cls(coarse, fine, oblique, float(rng.uniform(0.1, 1.0)))


def scan(tissues: Map, texture: Texture, position: float, rng: Generator, *, size: int) -> Field:
    """CT image (size, size) in [0, 1] of a tissue map (n, n), n a multiple of size; `rng` is the scanner's noise."""
    hounsfield = _hounsfield(tissues, texture, position)
    hounsfield = cv2.resize(cv2.GaussianBlur(hounsfield, (5, 5), 0.9), (size, size), interpolation=cv2.INTER_AREA)
    hounsfield = _thick_slice(hounsfield, _along(texture.oblique, position, size))
    hounsfield += _noise(hounsfield, rng)
    low = WINDOW_LEVEL - WINDOW_WIDTH / 2
    return np.clip((hounsfield - low) / WINDOW_WIDTH, 0, 1, dtype=np.float32)


def annotate(tissues: Map, rng: Generator, *, size: int) -> Map:
    """Organ ids (size, size) as one annotator draws them: off the true border by a smooth random 1 to 3 pixels of 128."""
    organs = np.zeros(len(Tissue), np.uint8)
    organs[list(ORGAN_IDS)] = list(ORGAN_IDS.values())
    grid = rng.normal(0, CONTOUR_ERROR * len(tissues), (11, 11, 2)).astype(np.float32)
    where = cv2.resize(grid, (size, size), interpolation=cv2.INTER_CUBIC)
    centres = (np.arange(size, dtype=np.float32) + 0.5) * (len(tissues) / size) - 0.5
    where[..., 0] += centres
    where[..., 1] += centres[:, None]
    seen = cv2.remap(tissues, where, None, cv2.INTER_NEAREST, borderMode=cv2.BORDER_REPLICATE)
    return cv2.LUT(np.asarray(seen, np.uint8), _padded(organs))


def _padded(table: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.pad(table, (0, 256 - len(table)))


def _hounsfield(tissues: Map, texture: Texture, position: float) -> Field:
    """Mean of every tissue plus its texture, which changes smoothly with the position."""
    base, gain, spread = np.array([HU[tissue] for tissue in Tissue], np.float32).T
    grain = _along(texture.coarse, position, len(tissues)) + _along(texture.fine, position, len(tissues))
    grain *= spread[tissues]
    grain += (base + texture.contrast * gain)[tissues]
    return grain


def _along(grids: Field, position: float, size: int) -> Field:
    """One field (size, size) on the way from the first random grid to the second and back, at equal variance."""
    angle = 1.5 * np.pi * position
    grid = np.float32(np.cos(angle)) * grids[0] + np.float32(np.sin(angle)) * grids[1]
    return np.asarray(cv2.resize(grid, (size, size), interpolation=cv2.INTER_CUBIC), np.float32)


def _thick_slice(hounsfield: Field, oblique: Field) -> Field:
    """Smear soft tissue where an organ's surface runs obliquely through the slice: there no border can be seen."""
    soft = np.clip(hounsfield, -160, 200)
    nodes = (56, 56)
    small = cv2.resize(soft, nodes, interpolation=cv2.INTER_AREA if len(soft) > nodes[0] else cv2.INTER_LINEAR)
    smeared = cv2.resize(small, hounsfield.shape[::-1], interpolation=cv2.INTER_LINEAR)
    share = np.clip(0.9 * oblique, 0, 0.9)
    share *= (hounsfield > -130) & (hounsfield < 220)
    return hounsfield + share * (smeared - hounsfield)


def _noise(hounsfield: Field, rng: Generator) -> Field:
    """Correlated grain, stronger in the middle of the body, and faint streaks along the longest paths of the rays."""
    size = len(hounsfield)
    dose = rng.uniform(0.7, 1.5)
    grain = cv2.GaussianBlur(rng.standard_normal((size, size), dtype=np.float32), (3, 3), 0.6)
    profile = np.exp(-np.linspace(-1.6, 1.6, size, dtype=np.float32) ** 2)
    grain *= np.float32(13 * dose) * (0.5 + 0.5 * profile[:, None] * profile)
    return grain + np.float32(2.5 * dose) * _streaks(rng, size) * profile[:, None]


def _streaks(rng: Generator, size: int) -> Field:
    """Lines through the whole image at a few nearly horizontal angles, of unit variance each."""
    total = np.zeros((size, size), np.float32)
    for angle in rng.normal(0, 14, 4):
        lines = cv2.resize(rng.standard_normal((96, 1), dtype=np.float32), (size, size))
        turn = cv2.getRotationMatrix2D((size / 2, size / 2), float(angle), 1.0)
        total += cv2.warpAffine(lines, turn, (size, size), borderMode=cv2.BORDER_REPLICATE)
    return total
