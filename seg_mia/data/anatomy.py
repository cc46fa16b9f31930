"""A procedural abdominal CT: every slice is a pure function of a patient's seed, a level and a reading's seed.

Anatomy is written in centimetres on a patient of average build: x to the patient's left (image right), y to the
back, the origin in the middle of the body. A patient scales and bends it; a slice paints it, back to front.
"""

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from seg_mia.data.scanner import Map, Texture, Tissue, annotate, scan
from seg_mia.errors import InputError

Points = NDArray[np.float64]
T = Tissue

# Ellipses along the body axis: position, x, y, half-width, half-depth, tilt in degrees.
TRACKS: dict[Tissue, list[tuple[float, ...]]] = {
    T.HEART: [(-0.2, 2.8, -3.6, 5.8, 4.6, 20), (0.1, 3.0, -5.0, 4.6, 3.0, 15), (0.2, 2.5, -7.0, 0, 0, 10)],
    T.STOMACH: [
        (0.0, 6.8, 0.8, 1.2, 1.0, 0),
        (0.07, 6.9, 0.5, 2.9, 2.7, 0),
        (0.2, 6.9, -1.6, 3.7, 4.0, -20),
        (0.38, 6.6, -4.2, 4.4, 3.2, -25),
        (0.52, 4.6, -5.4, 5.2, 2.3, -16),
        (0.64, 1.6, -5.6, 4.2, 1.7, -6),
        (0.74, -0.5, -5.2, 0, 0, 0),
    ],
    T.KIDNEY_RIGHT: [
        (0.44, -5.6, 4.0, 0, 0, 30),
        (0.48, -5.8, 4.0, 1.9, 1.7, 30),
        (0.6, -6.3, 4.0, 2.9, 2.5, 32),
        (0.85, -6.9, 3.7, 3.0, 2.6, 38),
        (0.96, -7.2, 3.6, 2.0, 1.9, 40),
        (1.02, -7.3, 3.5, 0, 0, 40),
    ],
    T.KIDNEY_LEFT: [
        (0.36, 5.4, 3.8, 0, 0, -30),
        (0.4, 5.6, 3.8, 1.9, 1.7, -30),
        (0.52, 6.1, 3.8, 2.9, 2.5, -32),
        (0.8, 6.8, 3.6, 3.0, 2.6, -38),
        (0.92, 7.1, 3.5, 2.0, 1.9, -40),
        (1.0, 7.2, 3.4, 0, 0, -40),
    ],
    T.GALLBLADDER: [
        (0.46, -4.2, -2.6, 0, 0, 50),
        (0.52, -4.6, -3.4, 1.5, 1.0, 50),
        (0.62, -5.4, -4.4, 2.1, 1.4, 55),
        (0.72, -6.0, -5.2, 1.5, 1.2, 60),
        (0.78, -6.2, -5.6, 0, 0, 60),
    ],
    T.AORTA: [(0.0, 1.5, 2.0, 1.25, 1.2, 0), (0.5, 0.9, 1.0, 1.1, 1.05, 0), (1.0, 0.7, 1.2, 0.95, 0.9, 0)],
    T.CAVA: [(0.0, -2.5, -0.6, 1.5, 1.2, 20), (0.4, -2.2, 0.7, 1.45, 1.0, 15), (1.0, -1.9, 1.2, 1.5, 1.0, 0)],
    T.BOWEL: [(0.54, -4.0, -0.4, 0, 0, 0), (0.6, -4.1, -0.6, 1.5, 1.2, 30), (0.86, -4.0, 0.0, 1.4, 1.3, 0)],
    T.MUSCLE: [(0.42, 3.0, 4.6, 0, 0, 0), (0.7, 3.4, 4.7, 1.4, 1.8, 10), (1.0, 3.9, 4.4, 2.0, 2.3, 15)],
}
# The domes of the diaphragm, right and left; above them is lung.
DOMES = (
    [(0.0, -6.2, -1.6, 5.6, 5.0, 0), (0.1, -6.0, -1.6, 8.0, 7.2, 0), (0.36, -6.0, -1.2, 12.0, 12.5, 0)],
    [(0.0, 6.8, 0.2, 3.0, 2.8, 0), (0.1, 6.0, -0.8, 7.4, 6.2, 0), (0.36, 6.0, -1.2, 12.0, 12.5, 0)],
)
# The liver against the wall is the same at every level; its tip and its visceral surface, back to front, are not.
LIVER_WALL = [(-12.0, -12.5), (-18.0, -3.0), (-16.0, 6.0)]
LIVER = {
    0.0: [(7.5, -6.8), (6, -12), (-6.5, 9.5), (-3.2, 6.4), (-2.2, 3.4), (-0.3, 1.4), (1.5, -1.8), (4.5, -4.0)],
    0.14: [(7.8, -6.9), (6, -12), (-6.5, 9.5), (-3.2, 6.2), (-2.4, 3.2), (-0.3, 1.0), (1.2, -2.0), (4.3, -4.3)],
    0.32: [(6.3, -7.2), (5, -12), (-7, 9.5), (-3.8, 5.8), (-3.2, 2.6), (-1.0, 0.2), (-0.4, -3.2), (3.0, -5.2)],
    0.5: [(3.0, -7.6), (2, -12), (-11, 8.5), (-8.6, 4.2), (-6.0, 1.3), (-4.0, -0.4), (-3.0, -3.4), (-0.2, -5.4)],
    0.65: [(-2.0, -7.8), (-3, -12), (-12, 7.5), (-9.9, 4.4), (-8.2, 1.2), (-6.6, -1.2), (-5.2, -3.8), (-3.4, -6)],
    0.8: [(-6.8, -6.4), (-9, -11), (-13, 6), (-11.3, 3.6), (-10.0, 1.4), (-9.0, -0.6), (-8.0, -2.8), (-7.2, -4.8)],
    1.0: [(-11.5, -4), (-13, -8), (-16, 4), (-14.4, 2.5), (-13.4, 1), (-12.9, -0.5), (-12.4, -2), (-11.9, -3)],
}
SPLEEN_WALL = [(16.0, 7.5), (17.5, 0.0)]
SPLEEN = {
    0.0: [(13.0, -1.0), (12.8, 1.0), (12.2, 3.5), (10.5, 5.5), (9.0, 9.0)],
    0.12: [(12.0, -2.0), (10.6, 0.6), (9.4, 3.0), (7.8, 5.0), (7.0, 9.0)],
    0.34: [(12.4, -1.6), (10.4, 0.2), (8.8, 2.2), (8.4, 4.8), (8.2, 9.0)],
    0.5: [(13.2, 0.0), (11.8, 1.2), (10.6, 2.8), (10.0, 4.8), (10.0, 9.0)],
    0.62: [(15.0, 1.0), (14.4, 2.0), (13.6, 3.5), (13.0, 5.0), (13.0, 9.0)],
}
PANCREAS = [(-3.4, 0.2), (-2.6, -1.4), (-0.2, -2.2), (2.2, -1.6), (4.8, -0.6), (7.4, 0.6), (8.8, 1.0)]


# Where bowel lies: loops, x from and to, y from and to, position from and to, radius, half-length along the axis.
LOOPS = [
    (7, -8.5, 9.0, -6.6, -5.6, 0.72, 0.88, 1.9, 0.16),
    (2, 10.6, 11.2, 1.6, 2.6, 0.5, 1.0, 1.5, 0.4),
    (2, -10.6, -9.4, -0.6, 0.8, 0.98, 1.1, 2.4, 0.2),
    (3, 8.6, 11.0, -4.5, -1.5, 0.42, 0.56, 1.9, 0.13),
    (24, 1.0, 9.6, -4.6, 1.6, 0.58, 1.1, 1.45, 0.09),
    (10, -8.0, 0.5, -5.0, -1.4, 0.86, 1.15, 1.45, 0.1),
]
# Trunks of the hepatic veins, then of the portal vein: root and end as x, y, position.
TRUNKS = np.array([
    [(-2.4, -0.6, 0.1), (-10.5, 0.5, 0.3)],
    [(-2.4, -0.8, 0.1), (-6.0, -6.0, 0.36)],
    [(-2.2, -0.8, 0.1), (3.0, -5.5, 0.26)],
    [(-2.4, -1.4, 0.45), (-8.0, -4.4, 0.3)],
    [(-3.0, -1.4, 0.42), (-10.0, 2.6, 0.46)],
    [(-2.6, -1.8, 0.4), (-1.0, -5.4, 0.3)],
    [(-1.2, -5.0, 0.3), (4.6, -6.2, 0.2)],
])  # fmt: skip
LENGTH = 20.0  # centimetres from position 0 to position 1


@dataclass(frozen=True)
class Patient:
    """One body: how it is scaled and bent, and its small structures."""

    build: Points  # (2,) width and depth as a multiple of the average
    view: Points  # (3,) centre of the image and its side, in centimetres
    fat: Points  # (3,) thickness under the skin at the sides, in front and at the back, in centimetres
    level: Points  # (tissues,) how much higher an organ lies, as a position
    shift: Points  # (tissues, 2) how far an organ lies from its place, in centimetres
    scale: Points  # (tissues,) how large an organ is
    wobble: Points  # (tissues, 4, 3) amplitude, phase and change along the axis of each contour's harmonics
    waves: Points  # (4, 6) displacement x and y, wave number x, y and along the axis, phase
    loops: Points  # (n, 8) x, y, position, half-length, radius, aspect, tilt, filling of the bowel
    dots: Points  # (n, 5) x, y, position, half-length, radius of vessels in fat and lung
    veins: Points  # (n, 4) x, y, depth in centimetres, radius along the vessels of the liver
    lesions: Points  # (n, 4) x, y, depth in centimetres, radius
    spine: float  # where the first vertebra begins, in vertebrae
    texture: Texture


@lru_cache(maxsize=256)
def _patient(seed: int, number: int) -> Patient:
    rng = np.random.default_rng([0, seed, number])
    build = rng.normal(1, (0.05, 0.07)).clip(0.87, 1.15)
    fat = (0.7 + rng.gamma(2.0, 0.55)) * rng.uniform((0.7, 0.6, 0.7), (1.1, 1.2, 1.1))
    side = 2 * (14.8 + fat[0]) * build[0] * rng.uniform(1.05, 1.16)
    wobble = np.stack([
        rng.normal(0, (0.035, 0.025, 0.018, 0.012), (len(T), 4)),
        rng.uniform(0, 2 * np.pi, (len(T), 4)),
        rng.normal(0, 3, (len(T), 4)),
    ], axis=-1)  # fmt: skip
    waves = np.concatenate([
        rng.normal(0, 0.3, (4, 2)), rng.uniform(-0.45, 0.45, (4, 2)), rng.uniform(-4, 4, (4, 2))
    ], axis=1)  # fmt: skip
    return Patient(
        build=build,
        view=np.array([*rng.normal(0, 0.4, 2), side]),
        fat=fat,
        level=rng.normal(0, 0.025, len(T)).clip(-0.05, 0.05),
        shift=rng.normal(0, 0.4, (len(T), 2)).clip(-0.9, 0.9),
        scale=rng.normal(1, 0.07, len(T)).clip(0.85, 1.18),
        wobble=wobble,
        waves=waves,
        loops=_draw_loops(rng),
        dots=rng.uniform((-13, -9, -0.1, 0.03, 0.1), (13, 7, 1.1, 0.12, 0.26), (190, 5)),
        veins=_draw_veins(rng),
        lesions=_draw_lesions(rng),
        spine=float(rng.uniform()),
        texture=Texture.draw(rng),
    )


def _draw_loops(rng: Generator) -> Points:
    """Loops of bowel (n, 8), the columns as in `Patient`."""
    rows = []
    for count, left, right, front, back, top, bottom, radius, length in LOOPS:
        low = (left, front, top, 0.7 * length, 0.7 * radius, 0.7, -80, 0)
        high = (right, back, bottom, 1.3 * length, 1.3 * radius, 1.1, 80, 1)
        rows.append(rng.uniform(low, high, (int(count), 8)))
    return np.concatenate(rows)


def _draw_veins(rng: Generator) -> Points:
    """Points (n, 4) along the trunks and the side branches of the liver's vessels."""
    along = np.linspace(0, 1, 30)[:, None]
    trunks = TRUNKS * (1, 1, LENGTH) + rng.normal(0, 0.4, TRUNKS.shape)
    start = trunks[rng.integers(len(trunks), size=34)]
    part = rng.uniform(0.25, 1, (34, 1))
    root = start[:, 0] * (1 - part) + start[:, 1] * part
    tips = root + rng.normal(0, (2.6, 2.2, 2.2), (34, 3))
    paths = []
    for (first, last), radius in zip(
        [*trunks, *np.stack([root, tips], axis=1)], [0.62] * len(trunks) + [0.3] * 34, strict=True
    ):
        bow = np.sin(np.pi * along) * rng.normal(0, 0.6, 3)
        paths.append(np.hstack([first + along * (last - first) + bow, radius * (1 - 0.65 * along)]))
    return np.concatenate(paths)


def _draw_lesions(rng: Generator) -> Points:
    """Round lesions (n, 4) in the liver, none in most patients."""
    count = rng.poisson(1.0)
    return rng.uniform((-11, -6, 2, 0.4), (-2, 3, 14, 1.8), (count, 4))


@dataclass(frozen=True)
class Canvas:
    """The map of tissues of one slice, painted in centimetres."""

    tissues: Map
    patient: Patient
    position: float

    def fill(self, tissue: int, points: Points) -> None:
        """Paint a closed contour (n, 2)."""
        cv2.fillPoly(self.tissues, [self._pixels(points)], int(tissue), cv2.LINE_8, 4)

    def stroke(self, tissue: int, points: Points, width: float, *, closed: bool = False) -> None:
        """Paint a line (n, 2) of a width in centimetres."""
        thickness = max(1, round(width / self.patient.view[2] * len(self.tissues)))
        cv2.polylines(self.tissues, [self._pixels(points)], closed, int(tissue), thickness, cv2.LINE_8, 4)

    def discs(self, tissue: int, centres: Points, radii: Points) -> None:
        """Paint discs (n, 2) of radii (n,)."""
        reach = np.rint(radii / self.patient.view[2] * len(self.tissues) * 16).astype(int)
        for centre, radius in zip(self._pixels(centres)[:, 0].tolist(), reach.tolist(), strict=True):
            cv2.circle(self.tissues, centre, radius, int(tissue), -1, cv2.LINE_8, 4)

    def organ(self, tissue: Tissue, points: Points, *, paint: Tissue | None = None) -> None:
        """Paint a contour (n, 2) with the patient's own size, place and outline of that organ."""
        self.fill(tissue if paint is None else paint, self.bend(self.vary(tissue, points)))

    def track(self, tissue: Tissue, *, grow: float = 1.0, paint: Tissue | None = None) -> None:
        """Paint the ellipse that an organ of `TRACKS` is at this level."""
        row = at(TRACKS[tissue], self.level(tissue))
        if min(row[2:4]) > 0.05:
            self.organ(tissue, ellipse(row[:2], row[2:4] * grow, row[4]), paint=paint)

    def level(self, tissue: Tissue) -> float:
        """Where this slice lies on the organ's own axis."""
        return float(self.position + self.patient.level[tissue])

    def vary(self, tissue: Tissue, points: Points) -> Points:
        """The contour with the patient's harmonics, size and shift of that organ."""
        amplitude, phase, drift = self.patient.wobble[tissue].T
        turn = np.linspace(0, 2 * np.pi, len(points), endpoint=False)[:, None] * (2, 3, 4, 5)
        ripple = np.cos(turn + phase + drift * self.position) @ amplitude
        centre = points.mean(axis=0)
        size = self.patient.scale[tissue] * (1 + ripple)
        return np.asarray(centre + (points - centre) * size[:, None] + self.patient.shift[tissue])

    def bend(self, points: Points) -> Points:
        """Move points (n, 2) as everything around them moves in this patient."""
        waves = self.patient.waves
        angle = points @ waves[:, 2:4].T + self.position * waves[:, 4] + waves[:, 5]
        return np.asarray(points + np.sin(angle) @ waves[:, :2])

    def _pixels(self, points: Points) -> NDArray[np.int32]:
        """Pixels (n, 1, 2) with four fractional bits."""
        x_y = (points * self.patient.build - self.patient.view[:2]) / self.patient.view[2] + 0.5
        return np.rint((x_y * len(self.tissues) - 0.5) * 16).astype(np.int32)[:, None]


def at(rows: list[tuple[float, ...]], position: float) -> Points:
    """The columns after the first, interpolated where the first is the position."""
    table = np.asarray(rows)
    return np.array([np.interp(position, table[:, 0], column) for column in table[:, 1:].T])


def between(shapes: dict[float, list[tuple[float, float]]], position: float) -> Points:
    """The shape (n, 2) at a position between those given."""
    levels, points = np.array(list(shapes)), np.array(list(shapes.values()))
    upper = int(np.clip(np.searchsorted(levels, position), 1, len(levels) - 1))
    share = np.clip((position - levels[upper - 1]) / (levels[upper] - levels[upper - 1]), 0, 1)
    return np.asarray((1 - share) * points[upper - 1] + share * points[upper])


@lru_cache(maxsize=32)
def _spline(count: int, steps: int = 6) -> Points:
    """Weights (count * steps, count) of a closed Catmull-Rom curve through `count` points."""
    t = np.linspace(0, 1, steps, endpoint=False)
    cubic = np.array([-t + 2 * t**2 - t**3, 2 - 5 * t**2 + 3 * t**3, t + 4 * t**2 - 3 * t**3, t**3 - t**2]) / 2
    weights = np.zeros((count * steps, count))
    for knot in range(count):
        for neighbour, weight in enumerate(cubic):
            weights[knot * steps : (knot + 1) * steps, (knot + neighbour - 1) % count] += weight
    return weights


def curve(points: Points) -> Points:
    """A smooth closed contour through points (n, 2)."""
    return np.asarray(_spline(len(points)) @ points)


def ellipse(centre: Points | tuple[float, float], radii: Points | tuple[float, float], tilt: float = 0) -> Points:
    """Contour (40, 2) of an ellipse, tilted in degrees."""
    turn, lean = np.linspace(0, 2 * np.pi, 40, endpoint=False), np.deg2rad(tilt)
    x, y = radii[0] * np.cos(turn), radii[1] * np.sin(turn)
    return np.stack([x * np.cos(lean) - y * np.sin(lean), x * np.sin(lean) + y * np.cos(lean)], 1) + centre


def hull(half_width: float, front: float, back: float, *, power: float = 2.3, angle: Points | None = None) -> Points:
    """Contour (n, 2) of the trunk, angles counted from the spine; flatter than an ellipse."""
    angle = np.linspace(0, 2 * np.pi, 120, endpoint=False) if angle is None else angle
    sine, cosine = np.sin(angle), np.cos(angle)
    x = half_width * np.sign(sine) * np.abs(sine) ** (2 / power)
    y = np.where(cosine > 0, back, front) * np.sign(cosine) * np.abs(cosine) ** (2 / power)
    return np.stack([x, y], axis=1)


def paint_trunk(canvas: Canvas) -> None:
    """Table, skin, fat and muscle of the wall, ribs; the cavity is painted over it."""
    side, front, back = canvas.patient.fat
    skin = hull(14.8 + side, 10.3 + front, 10.5 + back)
    skin[:, 1] -= np.where(skin[:, 1] > 0, 0.9 * np.exp(-((skin[:, 0] / 1.8) ** 2)), 0)
    skin = canvas.vary(T.SKIN, skin) - canvas.patient.shift[T.SKIN]
    bottom = skin[:, 1].max()
    across = np.linspace(-19, 19, 30)
    for depth in (0.5, 2.4):
        canvas.stroke(T.TABLE, np.stack([across, bottom + depth - 0.012 * across**2], 1), 0.3)
    canvas.fill(T.SKIN, skin)
    canvas.fill(T.FAT, skin * (1 - 0.2 / 15))
    canvas.fill(T.MUSCLE, hull(14.7, 10.2, 10.3))
    if canvas.position > 0.3:
        angle = np.linspace(0.9, 2.3, 24)
        for sign in (-1, 1):
            for inset in (0.35, 0.75):
                line = hull(14.7 - inset, 10.2 - inset, 10.3 - inset, angle=sign * angle)
                canvas.stroke(T.FAT, line, 0.12)
    paint_ribs(canvas)


def paint_ribs(canvas: Canvas) -> None:
    """Cuts through ribs, which run down and forward, and through their cartilage near the costal margin."""
    margin = np.interp(canvas.position, [0, 0.35, 0.7, 1], [2.75, 2.2, 1.45, 0.9])
    angles = (np.arange(-9, 9) + 0.5 + canvas.patient.spine + 6 * canvas.position) * 0.44
    for angle in angles[(angles > 0.5) & (angles < margin)]:
        for sign in (-1, 1):
            here, there = hull(13.95, 9.7, 8.6, angle=sign * np.array([angle, angle + 0.02]) + 0.04)
            tilt = float(np.rad2deg(np.arctan2(*(there - here)[::-1])))
            bone = angle < margin - 0.5
            canvas.fill(T.BONE if bone else T.CARTILAGE, ellipse(here, (1.25, 0.46), tilt))
            if bone:
                canvas.fill(T.MARROW, ellipse(here, (0.9, 0.2), tilt))


def paint_spine(canvas: Canvas) -> None:
    """Vertebra, or the disc between two, with canal and processes, and the muscles beside it."""
    phase = (canvas.patient.spine + 6 * canvas.position) % 1
    for sign in (-1, 1):
        canvas.fill(T.FAT, ellipse((sign * 3.6, 8.7), (3.2, 1.75), sign * -8))
        canvas.fill(T.MUSCLE, ellipse((sign * 3.6, 8.7), (3.05, 1.6), sign * -8))
        if 0.3 < phase < 0.8:
            canvas.stroke(T.BONE, np.array([(sign * 1.6, 6.6), (sign * 4.2, 7.3)]), 0.7)
    arch = np.array([(-1.8, 5.2), (-1.9, 6.8), (0, 8.1), (1.9, 6.8), (1.8, 5.2)])
    canvas.stroke(T.BONE, arch, 0.85)
    canvas.stroke(T.BONE, np.array([(0, 8.0), (0, 9.0 + phase)]), 0.7)
    canvas.stroke(T.MARROW, np.array([(0, 8.2), (0, 8.8 + phase)]), 0.3)
    body = ellipse((0, 3.9), (2.4, 1.8))
    body[:, 1] = np.minimum(body[:, 1], 5.45 - 0.2 * np.exp(-((body[:, 0]) ** 2)))
    disc = phase < 0.18
    canvas.fill(T.CARTILAGE if disc else T.BONE, body)
    if not disc:
        canvas.fill(T.MARROW, (body - (0, 3.9)) * 0.88 + (0, 3.9))
    canvas.fill(T.FAT, ellipse((0, 6.6), (1.25, 1.0)))
    canvas.fill(T.CORD, ellipse((0, 6.6), (0.95, 0.8)))


def paint_bowel(canvas: Canvas) -> None:
    """Loops of bowel with fluid, stool or gas above a level."""
    loops = canvas.patient.loops
    share = 1 - ((loops[:, 2] - canvas.position) / loops[:, 3]) ** 2
    for x, y, *_, radius, aspect, tilt, filling in np.c_[loops, share][share > 0.1][:, :8]:
        shape = canvas.bend(ellipse((x, y), (radius, radius * aspect), tilt))
        centre = shape.mean(axis=0)
        canvas.fill(T.BOWEL, shape)
        if filling > 0.25:
            lumen = (shape - centre) * (1 - 0.3 / radius) + centre
            canvas.fill(T.STOOL if filling > 0.8 else T.BOWEL_FLUID, lumen)
            if filling > 0.6:
                paint_gas(canvas, T.GAS, lumen, filling)


def paint_gas(canvas: Canvas, tissue: Tissue, lumen: Points, share: float) -> None:
    """Gas in the front part of a lumen: the patient lies on the back, so its lower edge is level."""
    front, back = lumen[:, 1].min(), lumen[:, 1].max()
    canvas.fill(tissue, np.c_[lumen[:, 0], np.minimum(lumen[:, 1], front + share * (back - front))])


def paint_liver(canvas: Canvas) -> None:
    """Liver with its vessels and lesions, which do not leave it."""
    tip, front, *surface = between(LIVER, canvas.level(T.LIVER))
    wall = np.array([(min(-4.0, front[0] - 1), -13.0), *LIVER_WALL])
    outline = np.concatenate([[tip, front], wall, surface])
    canvas.organ(T.LIVER, curve(outline))
    before = canvas.tissues.copy()
    depth = LENGTH * canvas.position
    for tissue, balls in ((T.LESION, canvas.patient.lesions), (T.LIVER_VEIN, canvas.patient.veins)):
        square = balls[:, 3] ** 2 - (balls[:, 2] - depth) ** 2
        cut = square > 0.004
        canvas.discs(tissue, canvas.bend(balls[cut, :2]), np.sqrt(square[cut]))
    np.copyto(canvas.tissues, before, where=before != T.LIVER)


def paint_kidney(canvas: Canvas, cortex: Tissue, medulla: Tissue) -> None:
    """Kidney in its fat: bright cortex, darker pyramids, and the sinus, open towards the aorta."""
    row = at(TRACKS[cortex], canvas.level(cortex))
    if min(row[2:4]) < 0.3:
        return
    canvas.track(cortex, grow=1.12, paint=T.VISCERAL)
    canvas.track(cortex)
    place = row[:2] + canvas.patient.shift[cortex]
    inward = np.array([-np.sign(row[0]) * 0.85, -0.5])
    turn = np.linspace(0, 2 * np.pi, 9, endpoint=False) + canvas.patient.spine + 2 * canvas.position
    ring = place + 0.58 * row[2:4] * np.stack([np.cos(turn), np.sin(turn)], axis=1)
    canvas.discs(medulla, canvas.bend(ring), np.full(9, 0.2 * row[2]))
    if row[2] > 2.2:
        size = row[2] - 1.6
        sinus = ellipse(place + inward * 0.9, (0.95 * size, 0.5 * size), np.sign(row[0]) * 30)
        canvas.fill(T.SINUS, canvas.bend(sinus))
        if row[2] > 2.6:
            mouth = np.stack([place + 0.8 * inward, place + 3.4 * inward])
            canvas.stroke(T.VISCERAL, canvas.bend(mouth), 0.9)
            canvas.stroke(T.VESSEL, canvas.bend(mouth), 0.4)


def paint_pancreas(canvas: Canvas) -> None:
    """Pancreas: the head lies lower than the tail, so a slice shows a part of it."""
    along = np.linspace(0, 1, 24)
    knots = np.linspace(0, 1, len(PANCREAS))
    middle = np.stack([np.interp(along, knots, column) for column in np.array(PANCREAS).T], axis=1)
    width = 1.15 * np.exp(-(((canvas.level(T.PANCREAS) - 0.62 + 0.17 * along) / 0.09) ** 2))
    width *= 1 + 0.15 * np.sin(40 * along + canvas.patient.spine * 6)
    shown = width > 0.3
    if shown.sum() > 3:
        canvas.discs(T.PANCREAS, canvas.bend(middle[shown] + canvas.patient.shift[T.PANCREAS]), width[shown])


def paint_stomach(canvas: Canvas) -> None:
    """Stomach: a wall as grey as its neighbours, food, and gas in front."""
    row = at(TRACKS[T.STOMACH], canvas.level(T.STOMACH))
    canvas.track(T.STOMACH)
    if min(row[2:4]) > 0.8:
        lumen = canvas.bend(canvas.vary(T.STOMACH, ellipse(row[:2], row[2:4] - 0.45, row[4])))
        canvas.fill(T.CHYME, lumen)
        paint_gas(canvas, T.STOMACH_GAS, lumen, 0.15 + 0.5 * canvas.patient.spine)


def paint_abdomen(canvas: Canvas) -> None:
    """Everything below the diaphragm, back to front."""
    dots = canvas.patient.dots
    shown = np.abs(dots[:, 2] - canvas.position) < dots[:, 3]
    canvas.discs(T.VESSEL, dots[shown, :2], dots[shown, 4] * 0.8)
    paint_bowel(canvas)
    canvas.track(T.BOWEL)
    paint_pancreas(canvas)
    paint_stomach(canvas)
    canvas.organ(T.SPLEEN, curve(np.array([*between(SPLEEN, canvas.level(T.SPLEEN)), *SPLEEN_WALL])))
    paint_liver(canvas)
    canvas.track(T.GALLBLADDER)
    paint_kidney(canvas, T.KIDNEY_RIGHT, T.MEDULLA_RIGHT)
    paint_kidney(canvas, T.KIDNEY_LEFT, T.MEDULLA_LEFT)


def paint_thorax(canvas: Canvas) -> None:
    """Lung, heart and what lies between the lungs."""
    dots = canvas.patient.dots
    shown = np.abs(dots[:, 2] / 3 - canvas.position) < dots[:, 3]
    canvas.discs(T.MUSCLE, dots[shown, :2], dots[shown, 4])
    canvas.fill(T.VISCERAL, ellipse((0.3, 0.5), (2.6, 6.5)))
    canvas.track(T.HEART, grow=1.12, paint=T.VISCERAL)
    canvas.track(T.HEART)
    canvas.fill(T.MUSCLE, ellipse((0.6, 0.0), (1.0, 0.8)))


def _cavity(canvas: Canvas) -> None:
    """Chest and abdomen with the diaphragm between them, then the vessels that pass it."""
    paint_abdomen(canvas)
    if canvas.position < 0.36:
        chest = Canvas(np.full_like(canvas.tissues, T.LUNG), canvas.patient, canvas.position)
        paint_thorax(chest)
        dome = Canvas(np.zeros_like(canvas.tissues), canvas.patient, canvas.position)
        for rows in DOMES:
            row = at(rows, canvas.position)
            dome.fill(1, dome.bend(ellipse(row[:2], row[2:4])))
        np.copyto(canvas.tissues, chest.tissues, where=dome.tissues == 0)
    canvas.track(T.CAVA)
    canvas.track(T.AORTA)
    if canvas.position < 0.7:
        for leg in ([(-2.4, 3.6), (-1.7, 1.6), (-0.5, 0.0)], [(3.0, 3.8), (2.6, 1.6), (1.5, -0.2)]):
            canvas.stroke(T.MUSCLE, np.array(leg), 0.55)


def paint(patient: Patient, position: float, pixels: int) -> Map:
    """Map of tissues (pixels, pixels) of one slice."""
    trunk = Canvas(np.full((pixels, pixels), T.AIR, np.uint8), patient, position)
    inside = Canvas(np.full((pixels, pixels), T.VISCERAL, np.uint8), patient, position)
    cavity = Canvas(np.zeros((pixels, pixels), np.uint8), patient, position)
    paint_trunk(trunk)
    _cavity(inside)
    cavity.fill(1, cavity.vary(T.FAT, hull(13.2, 9.2, 7.6)))
    np.copyto(trunk.tissues, inside.tissues, where=cavity.tissues > 0)
    for sign in (-1, 1):
        row = at(TRACKS[T.MUSCLE], position)
        trunk.fill(T.MUSCLE, ellipse((sign * row[0], row[1]), row[2:4], sign * row[4]))
    paint_spine(trunk)
    return trunk.tissues


def render(
    patient: int, position: float, reading: int, *, size: int, seed: int = 0
) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """CT slice of a procedural patient as one scan shows it and one annotator labels it."""
    if size < 32:
        raise InputError(f"size must be at least 32, got {size}; ask for a larger image")
    if not 0 <= position <= 1:
        raise InputError(f"position must lie in [0, 1], got {position}; 0 is the liver's dome")
    body = _patient(seed, patient)
    tissues = paint(body, position, size * max(2, 256 // size))
    rng = np.random.default_rng([1, seed, patient, reading])
    labels = annotate(tissues, rng, size=size)
    return scan(tissues, body.texture, position, rng, size=size), labels
