"""Tissue maps of one body, and the CT image and organ contours derived from them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import IntEnum, auto
from functools import lru_cache
from typing import Self

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

Map = NDArray[np.uint8]
Field = NDArray[np.float32]
Points = NDArray[np.float64]
Pair = Points | tuple[float, float]
Rows = Sequence[tuple[float, ...]]
Shapes = dict[float, list[tuple[float, float]]]

WINDOW_LEVEL, WINDOW_WIDTH = 40.0, 400.0  # HU, abdominal soft tissue
# Spread of the annotator's error at the nodes of a grid, as a fraction of the image's side.
CONTOUR_ERROR = 1.6 / 128


class Tissue(IntEnum):
    """Tissue type of one point in the body."""

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
    T.MARROW: (190, 15, 32),
    T.CARTILAGE: (105, 5, 20),
    T.CORD: (28, 5, 8),
    T.LUNG: (-840, 0, 40),
    T.HEART: (45, 85, 12),
    T.VISCERAL: (-98, 0, 12),
    T.VESSEL: (45, 105, 5),
    T.LIVER: (58, 44, 7),
    T.LIVER_VEIN: (46, 112, 5),
    T.LESION: (28, 14, 9),
    T.SPLEEN: (50, 66, 7),
    T.KIDNEY_RIGHT: (38, 138, 10),
    T.MEDULLA_RIGHT: (34, 112, 10),
    T.KIDNEY_LEFT: (38, 138, 10),
    T.MEDULLA_LEFT: (34, 112, 10),
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
class Build:
    """Deviation of one body from the average, applied to all its contours."""

    size: Points  # (2,) width and depth as a multiple of the average
    view: Points  # (3,) centre of the image and its side, in centimetres
    level: Points  # (tissues,) how much higher an organ lies, as a position
    shift: Points  # (tissues, 2) how far an organ lies from its place, in centimetres
    scale: Points  # (tissues,) how large an organ is
    wobble: Points  # (tissues, 4, 3) amplitude, phase and change along the axis of each contour's harmonics
    waves: Points  # (4, 6) displacement x and y, wave number x, y and along the axis, phase

    @classmethod
    def draw(cls, rng: Generator, *, half_width: float) -> "Build":
        """Draw a body that fills most of the image; its width at average size is 2 `half_width`."""
        count = len(Tissue)
        uneven = np.where(np.isin(list(Tissue), [T.SKIN, T.FAT]), 0.0, 1.0)  # the trunk is nearly symmetrical
        amplitude = rng.normal(0, (0.035, 0.025, 0.018, 0.012), (count, 4)) * (0.35 + 0.65 * uneven[:, None])
        size = rng.normal((1, 1.1), (0.05, 0.07)).clip(0.87, 1.25)
        side = 2 * half_width * size[0] * rng.uniform(1.02, 1.1)
        turns = rng.uniform(0, 2 * np.pi, (count, 4)), rng.normal(0, 3, (count, 4))
        waves = rng.normal(0, 0.3, (4, 2)), rng.uniform(-0.45, 0.45, (4, 2)), rng.uniform(-4, 4, (4, 2))
        return cls(
            size=size,
            view=np.array([*rng.normal(0, 0.4, 2), side]),
            level=rng.normal(0, 0.025, count).clip(-0.05, 0.05),
            shift=rng.normal(0, 0.4, (count, 2)).clip(-0.9, 0.9) * uneven[:, None],
            scale=1 + uneven * rng.normal(0, 0.07, count).clip(-0.15, 0.18),
            wobble=np.stack([amplitude, *turns], axis=-1),
            waves=np.concatenate(waves, axis=1),
        )

    def vary(self, tissue: Tissue, points: Points, position: float) -> Points:
        """Contour (n, 2) with this body's harmonics, size and shift of the organ."""
        amplitude, phase, drift = self.wobble[tissue].T
        turn = np.linspace(0, 2 * np.pi, len(points), endpoint=False)[:, None] * (2, 3, 4, 5)
        ripple = np.cos(turn + phase + drift * position) @ amplitude
        centre = points.mean(axis=0)
        size = self.scale[tissue] * (1 + ripple)
        return np.asarray(centre + (points - centre) * size[:, None] + self.shift[tissue])

    def bend(self, points: Points, position: float) -> Points:
        """Points (n, 2) displaced by this body's deformation field."""
        angle = points @ self.waves[:, 2:4].T + position * self.waves[:, 4] + self.waves[:, 5]
        return np.asarray(points + np.sin(angle) @ self.waves[:, :2])


@dataclass(frozen=True)
class Canvas:
    """A square map of tissues at one level of a body, painted in centimetres."""

    tissues: Map
    build: Build
    position: float

    def blank(self, tissue: int) -> Self:
        """Another canvas of the same slice, of a single tissue."""
        return replace(self, tissues=np.full_like(self.tissues, tissue))

    def level(self, tissue: Tissue) -> float:
        """Position of this slice on the organ's axis."""
        return float(self.position + self.build.level[tissue])

    def bend(self, points: Points) -> Points:
        """Positions of points (n, 2) in this body."""
        return self.build.bend(points, self.position)

    def place(self, tissue: Tissue, points: Points) -> Points:
        """Contour (n, 2) of an organ in this body."""
        return self.bend(self.build.vary(tissue, points, self.position))

    def organ(self, tissue: Tissue, points: Points, *, paint: Tissue | None = None) -> None:
        """Paint the contour (n, 2) of an organ, by default with its own tissue."""
        self.fill(tissue if paint is None else paint, self.place(tissue, points))

    def fill(self, tissue: int, points: Points) -> None:
        """Paint a closed contour (n, 2)."""
        cv2.fillPoly(self.tissues, [self._pixels(points)], int(tissue), cv2.LINE_8, 4)

    def stroke(self, tissue: int, points: Points, width: float) -> None:
        """Paint a line (n, 2) of a width in centimetres, at least one pixel."""
        thickness = max(1, round(width / self.build.view[2] * len(self.tissues)))
        cv2.polylines(self.tissues, [self._pixels(points)], False, int(tissue), thickness, cv2.LINE_8, 4)

    def discs(self, tissue: int, centres: Points, radii: Points) -> None:
        """Paint discs at centres (n, 2) of radii (n,)."""
        reach = np.rint(radii / self.build.view[2] * len(self.tissues) * 16).astype(int)
        for centre, radius in zip(self._pixels(centres)[:, 0].tolist(), reach.tolist(), strict=True):
            cv2.circle(self.tissues, centre, radius, int(tissue), -1, cv2.LINE_8, 4)

    def gas(self, tissue: Tissue, lumen: Points, share: float) -> None:
        """Paint gas in the front of a lumen (n, 2), bounded by a level: the patient lies supine."""
        front, back = lumen[:, 1].min(), lumen[:, 1].max()
        above = lumen[lumen[:, 1] < front + share * (back - front)]
        if len(above) > 3:
            self.fill(tissue, above)

    def _pixels(self, points: Points) -> NDArray[np.int32]:
        """Pixels (n, 1, 2) with four fractional bits."""
        x_y = (points * self.build.size - self.build.view[:2]) / self.build.view[2] + 0.5
        return np.asarray(np.rint((x_y * len(self.tissues) - 0.5) * 16), np.int32)[:, None]


def at(rows: Rows, position: float) -> Points:
    """Columns after the first, interpolated at a position given by the first."""
    table = np.asarray(rows)
    return np.array([np.interp(position, table[:, 0], column) for column in table[:, 1:].T])


def between(shapes: Shapes, position: float) -> Points:
    """The shape (n, 2) at a position between those given."""
    levels, points = np.array(list(shapes)), np.array(list(shapes.values()))
    upper = int(np.clip(np.searchsorted(levels, position), 1, len(levels) - 1))
    share = np.clip((position - levels[upper - 1]) / (levels[upper] - levels[upper - 1]), 0, 1)
    return np.asarray((1 - share) * points[upper - 1] + share * points[upper])


@lru_cache(maxsize=32)
def _spline(count: int, steps: int = 6) -> Points:
    """Weights (count * steps, count) of a closed Catmull-Rom curve through `count` points."""
    t = np.linspace(0, 1, steps, endpoint=False)
    near, far = t * (1 - t) ** 2, t**2 * (1 - t)
    cubic = np.array([-near, 2 - 5 * t**2 + 3 * t**3, t + 4 * t**2 - 3 * t**3, -far]) / 2
    weights = np.zeros((count * steps, count))
    for knot in range(count):
        for neighbour, weight in enumerate(cubic):
            weights[knot * steps : (knot + 1) * steps, (knot + neighbour - 1) % count] += weight
    return weights


def curve(points: Points) -> Points:
    """A smooth closed contour through points (n, 2)."""
    return np.asarray(_spline(len(points)) @ points)


def ellipse(centre: Pair, radii: Pair, tilt: float = 0) -> Points:
    """Contour (40, 2) of an ellipse, tilted in degrees."""
    turn, lean = np.linspace(0, 2 * np.pi, 40, endpoint=False), np.deg2rad(tilt)
    x, y = radii[0] * np.cos(turn), radii[1] * np.sin(turn)
    return np.stack([x * np.cos(lean) - y * np.sin(lean), x * np.sin(lean) + y * np.cos(lean)], 1) + centre


def hull(half_width: float, front: float, back: float, angle: Points | None = None) -> Points:
    """Contour (n, 2) of the trunk, angles counted from the spine; flatter than an ellipse."""
    angle = np.linspace(0, 2 * np.pi, 120, endpoint=False) if angle is None else angle
    sine, cosine = np.sin(angle), np.cos(angle)
    x = half_width * np.sign(sine) * np.abs(sine) ** 0.87
    y = np.where(cosine > 0, back, front) * np.sign(cosine) * np.abs(cosine) ** 0.87
    return np.stack([x, y], axis=1)


@dataclass(frozen=True)
class Texture:
    """Texture of one patient's organs: random grids, stretched over an image of any size."""

    coarse: Field
    fine: Field
    oblique: Field
    contrast: float

    @classmethod
    def draw(cls, rng: Generator) -> "Texture":
        """Draw the grids, and the dose of contrast agent in [0.2, 1]."""
        coarse, fine, oblique = (
            rng.standard_normal((2, nodes, nodes), dtype=np.float32) for nodes in (26, 88, 7)
        )
        return cls(coarse, fine, oblique, float(rng.uniform(0.2, 1.0)))


def scan(tissues: Map, texture: Texture, position: float, rng: Generator, *, size: int) -> Field:
    """CT image (size, size) in [0, 1] of a map (n, n), n a multiple of size; `rng` is the scanner's noise."""
    sharp = cv2.GaussianBlur(_hounsfield(tissues, texture, position), (5, 5), 0.9)
    pixels = np.asarray(cv2.resize(sharp, (size, size), interpolation=cv2.INTER_AREA), np.float32)
    seen = _thick_slice(pixels, _along(texture.oblique, position, size))
    low = WINDOW_LEVEL - WINDOW_WIDTH / 2
    return np.asarray(np.clip((seen + _noise(rng, size) - low) / WINDOW_WIDTH, 0, 1), np.float32)


def annotate(tissues: Map, rng: Generator, *, size: int) -> Map:
    """Organ ids (size, size) drawn by one annotator, with a smooth border error of 1 to 3 pixels of 128."""
    organs = np.zeros(len(Tissue), np.uint8)
    organs[list(ORGAN_IDS)] = list(ORGAN_IDS.values())
    grid = rng.normal(0, CONTOUR_ERROR, (11, 11, 2)).astype(np.float32)
    error = np.asarray(cv2.resize(grid, (size, size), interpolation=cv2.INTER_CUBIC), np.float32)
    centres = (np.arange(size) + 0.5) / size
    x_y = np.rint((error + np.stack(np.meshgrid(centres, centres), axis=-1)) * len(tissues) - 0.5).astype(
        np.intp
    )
    x, y = np.moveaxis(x_y.clip(0, len(tissues) - 1), -1, 0)
    return np.asarray(organs[tissues[y, x]])


def _hounsfield(tissues: Map, texture: Texture, position: float) -> Field:
    """Mean of every tissue plus its texture, smooth in the position."""
    base, gain, spread = np.array([HU[tissue] for tissue in Tissue], np.float32).T
    mean = (base + texture.contrast * gain).astype(np.float32)
    grain = _along(texture.coarse, position, len(tissues)) + _along(texture.fine, position, len(tissues))
    return np.asarray(grain * spread[tissues] + mean[tissues], np.float32)


def _along(grids: Field, position: float, size: int) -> Field:
    """Field (size, size) interpolated between two random grids at equal variance."""
    angle = 1.5 * np.pi * position
    grid = np.float32(np.cos(angle)) * grids[0] + np.float32(np.sin(angle)) * grids[1]
    return np.asarray(cv2.resize(grid, (size, size), interpolation=cv2.INTER_CUBIC), np.float32)


def _thick_slice(hounsfield: Field, oblique: Field) -> Field:
    """Blur soft tissue where surfaces run obliquely through the slice, so borders vanish."""
    soft, side, nodes = np.clip(hounsfield, -160, 200), len(hounsfield), 56
    shrink = cv2.INTER_AREA if side > nodes else cv2.INTER_LINEAR
    smeared = cv2.resize(cv2.resize(soft, (nodes, nodes), interpolation=shrink), (side, side))
    share = np.clip(0.9 * oblique, 0, 0.9) * ((hounsfield > -130) & (hounsfield < 220))
    return np.asarray(hounsfield + share * (smeared - hounsfield), np.float32)


def _noise(rng: Generator, size: int) -> Field:
    """Correlated noise, stronger at the centre of the body, and faint streaks along the longest rays."""
    dose = np.float32(rng.uniform(0.7, 1.5))
    grain = cv2.GaussianBlur(rng.standard_normal((size, size), dtype=np.float32), (3, 3), 0.6)
    profile = np.exp(-(np.linspace(-1.6, 1.6, size, dtype=np.float32) ** 2))
    depth = 0.5 + 0.5 * profile[:, None] * profile
    return np.asarray(dose * (13 * depth * grain + 2.5 * profile[:, None] * _streaks(rng, size)), np.float32)


def _streaks(rng: Generator, size: int) -> Field:
    """Lines through the whole image at a few nearly horizontal angles, of unit variance each."""
    total = np.zeros((size, size), np.float32)
    for angle in rng.normal(0, 14, 4):
        lines = cv2.resize(rng.standard_normal((96, 1), dtype=np.float32), (size, size))
        turn = cv2.getRotationMatrix2D((size / 2, size / 2), float(angle), 1.0)
        total += cv2.warpAffine(lines, turn, (size, size), borderMode=cv2.BORDER_REPLICATE)
    return total
