"""Procedural abdominal CT: every slice is a pure function of patient seed and reading seed.

Anatomy is defined in centimetres on a patient of average build: x to the patient's left (image right), y to
the back, origin at the centre of the body. `Patient` scales and deforms it; `Slice` paints it.
"""

from dataclasses import dataclass
from functools import lru_cache
from itertools import product

import numpy as np
from numpy.random import Generator

from seg_mia.data.phantom.scanner import (
    Build,
    Canvas,
    Field,
    Map,
    Points,
    Rows,
    Shapes,
    Texture,
    Tissue,
    annotate,
    at,
    between,
    curve,
    ellipse,
    hull,
    scan,
)
from seg_mia.errors import InputError

T = Tissue

# fmt: off
# Ellipses along the body axis: position, x, y, half-width, half-depth, tilt in degrees.
TRACKS: dict[Tissue, Rows] = {
    T.HEART: [(-0.2, 2.8, -3.6, 5.8, 4.6, 20), (0.1, 3.0, -5.0, 4.6, 3.0, 15), (0.2, 2.5, -7.0, 0, 0, 10)],
    T.STOMACH: [
        (0.0, 6.8, 0.8, 1.2, 1.0, 0), (0.07, 6.9, 0.5, 2.9, 2.7, 0), (0.2, 6.9, -1.6, 3.7, 4.0, -20),
        (0.38, 6.6, -4.2, 4.4, 3.2, -25), (0.52, 4.6, -5.4, 5.2, 2.3, -16), (0.64, 1.6, -5.6, 4.2, 1.7, -6),
        (0.74, -0.5, -5.2, 0, 0, 0),
    ],
    T.KIDNEY_RIGHT: [
        (0.44, -5.6, 4.0, 0, 0, 30), (0.48, -5.8, 4.0, 1.9, 1.7, 30), (0.6, -6.3, 4.0, 2.9, 2.5, 32),
        (0.85, -6.9, 3.7, 3.0, 2.6, 38), (0.96, -7.2, 3.6, 2.0, 1.9, 40), (1.02, -7.3, 3.5, 0, 0, 40),
    ],
    T.GALLBLADDER: [
        (0.46, -4.2, -2.6, 0, 0, 50), (0.52, -4.6, -3.4, 1.5, 1.0, 50), (0.62, -5.4, -4.4, 2.1, 1.4, 55),
        (0.72, -6.0, -5.2, 1.5, 1.2, 60), (0.78, -6.2, -5.6, 0, 0, 60),
    ],
    T.AORTA: [(0.0, 1.5, 2.0, 1.25, 1.2, 0), (0.5, 0.9, 1.0, 1.1, 1.05, 0), (1.0, 0.7, 1.2, 0.95, 0.9, 0)],
    T.CAVA: [(0.0, -2.5, -0.6, 1.5, 1.2, 20), (0.4, -2.2, 0.7, 1.45, 1.0, 15), (1.0, -1.9, 1.2, 1.5, 1.0, 0)],
    T.BOWEL: [(0.54, -4.0, -0.4, 0, 0, 0), (0.6, -4.1, -0.6, 1.5, 1.2, 30), (0.86, -4.0, 0.0, 1.4, 1.3, 0)],
    T.MUSCLE: [(0.42, 3.0, 4.6, 0, 0, 0), (0.7, 3.4, 4.7, 1.4, 1.8, 10), (1.0, 3.9, 4.4, 2.0, 2.3, 15)],
}
TRACKS[T.KIDNEY_LEFT] = [(z - 0.06, -x, y - 0.1, w, d, -t) for z, x, y, w, d, t in TRACKS[T.KIDNEY_RIGHT]]
# The domes of the diaphragm, right and left: position, x, y, half-width, half-depth. Around them is lung.
DOMES: tuple[Rows, Rows] = (
    [(0.0, -6.2, -1.6, 5.6, 5.0), (0.1, -6.0, -1.6, 8.0, 7.2), (0.36, -6.0, -1.2, 12.0, 12.5)],
    [(0.0, 6.8, 0.2, 3.0, 2.8), (0.1, 6.0, -0.8, 7.4, 6.2), (0.36, 6.0, -1.2, 12.0, 12.5)],
)
# Tip of the liver and its visceral surface, back to front; towards the wall it is cut by the cavity.
LIVER: Shapes = {
    0.0: [(7.5, -6.8), (-6.5, 9.5), (-3.2, 6.4), (-2.2, 3.4), (-0.3, 1.4), (1.5, -1.8), (4.5, -4.0)],
    0.14: [(7.8, -6.9), (-6.5, 9.5), (-3.2, 6.2), (-2.4, 3.2), (-0.3, 1.0), (1.2, -2.0), (4.3, -4.3)],
    0.32: [(6.3, -7.2), (-7.0, 9.5), (-3.8, 5.8), (-3.2, 2.6), (-1.0, 0.2), (-0.4, -3.2), (3.0, -5.2)],
    0.43: [(4.6, -7.4), (-7.5, 9.5), (-5.4, 5.9), (-4.4, 2.4), (-2.4, 0.0), (-1.6, -3.2), (1.4, -5.3)],
    0.5: [(3.0, -7.6), (-10.5, 8.5), (-8.2, 4.4), (-6.0, 1.3), (-4.0, -0.4), (-3.0, -3.4), (-0.2, -5.4)],
    0.65: [(-2.0, -7.8), (-12, 7.5), (-9.9, 4.4), (-8.2, 1.2), (-6.6, -1.2), (-5.2, -3.8), (-3.4, -6.0)],
    0.8: [(-6.8, -6.4), (-13, 6.0), (-11.3, 3.6), (-10.0, 1.4), (-9.0, -0.6), (-8.0, -2.8), (-7.2, -4.8)],
    1.0: [(-11.5, -4.0), (-16, 4.0), (-14.4, 2.5), (-13.4, 1.0), (-12.9, -0.5), (-12.4, -2), (-11.9, -3)],
}
SPLEEN: Shapes = {
    0.0: [(12.6, -1.6), (12.0, 1.0), (11.0, 3.5), (9.5, 5.5), (8.0, 9.0)],
    0.12: [(11.6, -3.4), (10.0, -0.4), (8.4, 2.4), (6.8, 4.8), (5.6, 9.0)],
    0.34: [(11.6, -3.0), (9.6, -0.6), (7.6, 1.8), (7.2, 4.6), (6.6, 9.0)],
    0.5: [(12.6, -0.6), (10.9, 0.6), (9.5, 2.4), (9.2, 4.8), (9.2, 9.0)],
    0.66: [(15.0, 1.0), (14.4, 2.0), (13.6, 3.5), (13.0, 5.0), (13.0, 9.0)],
}
# Middle line of the pancreas, head to tail: part of its length, x, y.
PANCREAS: Rows = [
    (0.0, -3.4, 0.2), (0.17, -2.6, -1.4), (0.33, -0.2, -2.2), (0.5, 2.2, -1.6), (0.83, 7.4, 0.6), (1, 8.8, 1)
]
# Bowel: loops, x from and to, y from and to, position from and to, radius, half-length along the axis.
LOOPS = [
    (7, -8.5, 9.0, -6.6, -5.6, 0.72, 0.88, 1.9, 0.16), (2, 10.6, 11.2, 1.6, 2.6, 0.5, 1.0, 1.5, 0.4),
    (2, -10.6, -9.4, -0.6, 0.8, 0.98, 1.1, 2.4, 0.2), (3, 8.6, 11.0, -4.5, -1.5, 0.42, 0.56, 1.9, 0.13),
    (24, 1.0, 9.6, -4.6, 1.6, 0.58, 1.1, 1.45, 0.09), (10, -8.0, 0.5, -5.0, -1.4, 0.86, 1.15, 1.45, 0.1),
]
# Trunks of the hepatic veins, then of the portal vein: root and end as x, y, position.
TRUNKS = np.array([
    [(-2.4, -0.6, 0.1), (-10.5, 0.5, 0.3)], [(-2.4, -0.8, 0.1), (-6.0, -6.0, 0.36)],
    [(-2.2, -0.8, 0.1), (3.0, -5.5, 0.26)], [(-2.4, -1.4, 0.45), (-8.0, -4.4, 0.3)],
    [(-3.0, -1.4, 0.42), (-10.0, 2.6, 0.46)], [(-2.6, -1.8, 0.4), (-1.0, -5.4, 0.3)],
    [(-1.2, -5.0, 0.3), (4.6, -6.2, 0.2)],
])
# Crura of the diaphragm, then the adrenal glands: line, position from and to, width.
CORDS = [
    ([(-2.5, 4.0), (-2.0, 2.6), (-1.2, 1.2), (-0.3, 0.2)], 0.0, 0.7, 0.6),
    ([(2.9, 4.2), (2.8, 3.0), (2.5, 1.6), (1.9, 0.4)], 0.0, 0.66, 0.65),
    ([(-4.4, 4.2), (-3.8, 3.0), (-3.4, 1.6), (-3.8, 3.0), (-3.6, 4.4)], 0.33, 0.47, 0.33),
    ([(5.2, 3.8), (4.3, 2.6), (4.2, 1.4), (4.3, 2.6), (3.7, 4.0)], 0.3, 0.46, 0.33),
]
# fmt: on
LENGTH = 20.0  # centimetres from position 0 to position 1


@dataclass(frozen=True)
class Patient:
    """One body: its build and its small structures."""

    build: Build
    texture: Texture
    fat: Points  # (3,) thickness under the skin at the sides, in front and at the back, in centimetres
    spine: float  # where the first vertebra begins, in vertebrae
    loops: Points  # (n, 8) x, y, position, half-length, radius, aspect, tilt, filling of the bowel
    dots: Points  # (n, 5) x, y, position, half-length, radius of vessels in fat and lung
    veins: Points  # (n, 4) x, y, depth in centimetres, radius along the vessels of the liver
    lesions: Points  # (n, 4) the same of round lesions in the liver


@lru_cache(maxsize=256)
def _patient(seed: int, number: int) -> Patient:
    rng = np.random.default_rng([0, seed, number])
    fat = (0.7 + rng.gamma(2.0, 0.55)) * rng.uniform((0.7, 0.6, 0.7), (1.1, 1.2, 1.1))
    return Patient(
        build=Build.draw(rng, half_width=14.8 + fat[0]),
        texture=Texture.draw(rng),
        fat=fat,
        spine=float(rng.uniform()),
        loops=_draw_loops(rng),
        dots=rng.uniform((-13, -9, -0.1, 0.03, 0.1), (13, 7, 1.1, 0.12, 0.24), (320, 5)),
        veins=_draw_veins(rng),
        lesions=rng.uniform((-11, -6, 2, 0.4), (-2, 3, 14, 1.8), (rng.poisson(1.0), 4)),
    )


def _draw_loops(rng: Generator) -> Points:
    """Loops of bowel (n, 8), the columns as in `Patient`."""
    rows = []
    for count, x_min, x_max, y_min, y_max, z_min, z_max, radius, length in LOOPS:
        low = (x_min, y_min, z_min, 0.7 * length, 0.7 * radius, 0.7, -80, 0)
        high = (x_max, y_max, z_max, 1.3 * length, 1.3 * radius, 1.1, 80, 1)
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
    ends = np.concatenate([trunks, np.stack([root, tips], axis=1)])
    bow = np.sin(np.pi * along) * rng.normal(0, 0.6, (len(ends), 1, 3))
    paths = ends[:, :1] + along * (ends[:, 1:] - ends[:, :1]) + bow
    radii = np.repeat((0.62, 0.3), (len(trunks), len(tips)))[:, None, None] * (1 - 0.65 * along)
    return np.concatenate([paths, radii], axis=-1).reshape(-1, 4)


@dataclass(frozen=True)
class Slice(Canvas):
    """The canvas of one patient at one position."""

    patient: Patient

    def track(self, tissue: Tissue, *, grow: float = 1.0, paint: Tissue | None = None) -> None:
        """Paint the ellipse of a `TRACKS` organ at this level."""
        row = at(TRACKS[tissue], self.level(tissue))
        if min(row[2:4]) > 0.05:
            self.organ(tissue, ellipse(row[:2], row[2:4] * grow, row[4]), paint=paint)


def paint_trunk(canvas: Slice) -> None:
    """Table, skin, fat and muscle of the wall, ribs; the cavity is painted later."""
    side, front, back = canvas.patient.fat
    skin = hull(14.8 + side, 10.3 + front, 10.5 + back)
    skin[:, 1] -= np.where(skin[:, 1] > 0, 0.9 * np.exp(-((skin[:, 0] / 1.8) ** 2)), 0)
    skin = canvas.build.vary(T.SKIN, skin, canvas.position)
    bottom, across = skin[:, 1].max(), np.linspace(-19, 19, 30)
    for depth in (0.5, 2.4):
        canvas.stroke(T.TABLE, np.stack([across, bottom + depth - 0.012 * across**2], 1), 0.3)
    canvas.fill(T.SKIN, skin)
    canvas.fill(T.FAT, skin * (1 - 0.2 / 15))
    canvas.fill(T.MUSCLE, hull(14.7, 10.2, 10.3))
    for sign, inset in product((-1, 1), (0.35, 0.75) if canvas.position > 0.35 else (0.3,)):
        angle = sign * np.linspace(0.6, 2.3, 24)
        canvas.stroke(T.FAT, hull(14.7 - inset, 10.2 - inset, 10.3 - inset, angle=angle), 0.13)
    paint_ribs(canvas)


def paint_ribs(canvas: Slice) -> None:
    """Cross-sections of ribs, which run down and forward, and of cartilage near the costal margin."""
    margin = np.interp(canvas.position, [0, 0.35, 0.7, 1], [2.75, 2.2, 1.45, 0.9])
    angles = (np.arange(-9, 9) + 0.5 + canvas.patient.spine + 6 * canvas.position) * 0.44
    for angle, sign in product(angles[(angles > 0.5) & (angles < margin)], (-1, 1)):
        centre, ahead = hull(13.95, 9.7, 8.6, angle=sign * np.array([angle, angle + 0.02]) + 0.04)
        tilt = float(np.rad2deg(np.arctan2(*(ahead - centre)[::-1])))
        bone = angle < margin - 0.5
        canvas.fill(T.BONE if bone else T.CARTILAGE, ellipse(centre, (1.25, 0.46), tilt))
        if bone:
            canvas.fill(T.MARROW, ellipse(centre, (0.9, 0.2), tilt))


def paint_spine(canvas: Slice) -> None:
    """Vertebra, or the disc between two, with canal and processes, and the muscles beside it."""
    phase = (canvas.patient.spine + 6 * canvas.position) % 1
    psoas = at(TRACKS[T.MUSCLE], canvas.position)
    for sign in (-1, 1):
        if psoas[2] > 0.1:
            canvas.fill(T.MUSCLE, ellipse(psoas[:2] * (sign, 1), psoas[2:4], sign * psoas[4]))
        canvas.fill(T.FAT, ellipse((sign * 3.6, 8.7), (3.2, 1.75), sign * -8))
        canvas.fill(T.MUSCLE, ellipse((sign * 3.6, 8.7), (3.05, 1.6), sign * -8))
        if 0.3 < phase < 0.8:
            canvas.stroke(T.BONE, np.array([(sign * 1.6, 6.6), (sign * 4.2, 7.3)]), 0.7)
    arch = np.array([(-1.8, 5.2), (-1.9, 6.8), (0, 8.1), (1.9, 6.8), (1.8, 5.2)])
    canvas.stroke(T.BONE, arch, 0.85)
    for tissue, inset in ((T.BONE, 0.0), (T.MARROW, 0.2)):
        canvas.stroke(tissue, np.array([(0, 8.0 + inset), (0, 9.0 + phase - inset)]), 0.7 - 2 * inset)
    body = ellipse((0, 3.9), (2.4, 1.8))
    body[:, 1] = np.minimum(body[:, 1], 5.45 - 0.2 * np.exp(-((body[:, 0]) ** 2)))
    canvas.fill(T.BONE if phase > 0.18 else T.CARTILAGE, body)
    if phase > 0.18:
        canvas.fill(T.MARROW, (body - (0, 3.9)) * 0.88 + (0, 3.9))
    canvas.fill(T.FAT, ellipse((0, 6.6), (1.25, 1.0)))
    canvas.fill(T.CORD, ellipse((0, 6.6), (0.95, 0.8)))


def paint_bowel(canvas: Slice) -> None:
    """Loops of bowel with fluid, stool or gas above a level."""
    loops = canvas.patient.loops
    share = 1 - ((loops[:, 2] - canvas.position) / loops[:, 3]) ** 2
    cut = loops[share > 0.1] * np.sqrt(share[share > 0.1, None]) ** (0, 0, 0, 0, 1, 0, 0, 0)
    for x, y, *_, radius, aspect, tilt, filling in cut:
        shape = canvas.bend(ellipse((x, y), (radius, radius * aspect), tilt))
        centre = shape.mean(axis=0)
        canvas.fill(T.BOWEL, shape)
        if filling > 0.25 and radius > 0.5:
            lumen = (shape - centre) * (1 - 0.3 / radius) + centre
            canvas.fill(T.STOOL if filling > 0.8 else T.BOWEL_FLUID, lumen)
            if filling > 0.6:
                canvas.gas(T.GAS, lumen, filling)


def paint_liver(canvas: Slice) -> None:
    """Liver with its vessels and lesions, confined to it."""
    shape = between(LIVER, canvas.level(T.LIVER))
    front = shape[0, 0] - 1.3
    wall = [(front, -12.0), (min(-4.0, front - 1), -13.0), (-12.0, -12.5), (-18.0, -3.0), (-16.0, 6.0)]
    canvas.organ(T.LIVER, curve(np.concatenate([shape[:1], wall, shape[1:]])))
    if 0.33 < canvas.level(T.LIVER) < 0.52:
        cleft = np.array([(-1.4, -8.8), (-1.2, -6.8), (-1.9, -5.0)])
        canvas.stroke(T.VISCERAL, canvas.bend(cleft + canvas.build.shift[T.LIVER]), 0.35)
    before = canvas.tissues.copy()
    for tissue, balls in ((T.LESION, canvas.patient.lesions), (T.LIVER_VEIN, canvas.patient.veins)):
        square = balls[:, 3] ** 2 - (0.55 * (balls[:, 2] - LENGTH * canvas.position)) ** 2
        cut = square > 0.004
        canvas.discs(tissue, canvas.bend(balls[cut, :2]), np.sqrt(square[cut]))
    np.copyto(canvas.tissues, before, where=before != T.LIVER)


def paint_kidney(canvas: Slice, cortex: Tissue, medulla: Tissue) -> None:
    """Kidney in its fat: bright cortex, darker pyramids, and the sinus, open towards the aorta."""
    row = at(TRACKS[cortex], canvas.level(cortex))
    if min(row[2:4]) < 0.3:
        return
    canvas.track(cortex, grow=1.12, paint=T.VISCERAL)
    canvas.track(cortex)
    centre = row[:2] + canvas.build.shift[cortex]
    inward = np.array([-np.sign(row[0]) * 0.85, -0.5])
    if row[2] > 2.0:
        turn = np.linspace(0, 2 * np.pi, 8, endpoint=False) + canvas.patient.spine + 2 * canvas.position
        ring = centre + 0.54 * row[2:4] * np.stack([np.cos(turn), np.sin(turn)], axis=1)
        canvas.discs(medulla, canvas.bend(ring), row[2] * (0.15 + 0.06 * np.cos(3 * turn)))
        size = row[2] - 1.5
        sinus = ellipse(centre + inward * 0.9, (0.95 * size, 0.5 * size), np.sign(row[0]) * 30)
        canvas.fill(T.SINUS, canvas.bend(sinus))
    if row[2] > 2.6:
        mouth = canvas.bend(np.stack([centre + 0.8 * inward, centre + 3.4 * inward]))
        canvas.stroke(T.VISCERAL, mouth, 0.9)
        canvas.stroke(T.VESSEL, mouth, 0.4)


def paint_pancreas(canvas: Slice) -> None:
    """Pancreas: the head lies lower than the tail, so a slice shows only part of it."""
    along = np.linspace(0, 1, 24)
    middle = np.stack([at(PANCREAS, share) for share in along])
    width = 1.15 * np.exp(-(((canvas.level(T.PANCREAS) - 0.62 + 0.17 * along) / 0.09) ** 2))
    width *= 1 + 0.15 * np.sin(40 * along + canvas.patient.spine * 6)
    cut = width > 0.3
    if cut.sum() > 3:
        canvas.discs(T.PANCREAS, canvas.bend(middle[cut] + canvas.build.shift[T.PANCREAS]), width[cut])


def paint_stomach(canvas: Slice) -> None:
    """Stomach: a wall as grey as its neighbours, food, and gas in front."""
    row = at(TRACKS[T.STOMACH], canvas.level(T.STOMACH))
    canvas.track(T.STOMACH)
    if min(row[2:4]) > 0.8:
        lumen = canvas.place(T.STOMACH, ellipse(row[:2], row[2:4] - 0.45, row[4]))
        canvas.fill(T.CHYME, lumen)
        canvas.gas(T.STOMACH_GAS, lumen, 0.15 + 0.5 * canvas.patient.spine)


def paint_dots(canvas: Slice, tissue: Tissue) -> None:
    """Vessels of fat or lung that cross the slice."""
    x_y, (z, length, radius) = canvas.patient.dots[:, :2], canvas.patient.dots[:, 2:].T
    cut = np.abs(z - canvas.position) < length
    canvas.discs(tissue, canvas.bend(x_y[cut]), radius[cut])


def paint_abdomen(canvas: Slice) -> None:
    """Everything below the diaphragm, back to front."""
    paint_dots(canvas, T.VESSEL)
    paint_bowel(canvas)
    canvas.track(T.BOWEL)
    paint_pancreas(canvas)
    paint_stomach(canvas)
    spleen = np.concatenate([between(SPLEEN, canvas.level(T.SPLEEN)), [(16.0, 7.5), (17.5, 0.0)]])
    canvas.organ(T.SPLEEN, curve(spleen))
    paint_liver(canvas)
    canvas.track(T.GALLBLADDER)
    paint_kidney(canvas, T.KIDNEY_RIGHT, T.MEDULLA_RIGHT)
    paint_kidney(canvas, T.KIDNEY_LEFT, T.MEDULLA_LEFT)


def paint_thorax(canvas: Slice) -> None:
    """Lung, heart and mediastinum."""
    paint_dots(canvas, T.MUSCLE)
    canvas.fill(T.VISCERAL, ellipse((0.3, 0.5), (2.6, 6.5)))
    canvas.track(T.HEART, grow=1.12, paint=T.VISCERAL)
    canvas.track(T.HEART)
    canvas.fill(T.MUSCLE, ellipse((0.6, 0.0), (1.0, 0.8)))


def paint_cavity(canvas: Slice) -> None:
    """Chest and abdomen, separated by the diaphragm, then the vessels through it."""
    paint_abdomen(canvas)
    if canvas.position < 0.36:
        chest, dome = canvas.blank(T.LUNG), canvas.blank(0)
        paint_thorax(chest)
        for rows in DOMES:
            row = at(rows, canvas.position)
            dome.fill(1, dome.bend(ellipse(row[:2], row[2:4])))
        np.copyto(canvas.tissues, chest.tissues, where=dome.tissues == 0)
    for line, top, bottom, width in CORDS:
        if top < canvas.position < bottom:
            canvas.stroke(T.MUSCLE, canvas.bend(np.array(line)), width)
    canvas.track(T.CAVA)
    canvas.track(T.AORTA)


def paint(patient: Patient, position: float, pixels: int) -> Map:
    """Map of tissues (pixels, pixels) of one slice."""
    trunk = Slice(np.full((pixels, pixels), T.AIR, np.uint8), patient.build, position, patient)
    viscera, cavity = trunk.blank(T.VISCERAL), trunk.blank(0)
    paint_trunk(trunk)
    paint_cavity(viscera)
    cavity.fill(1, patient.build.vary(T.FAT, hull(13.2, 9.2, 7.6), position))
    np.copyto(trunk.tissues, viscera.tissues, where=cavity.tissues > 0)
    paint_spine(trunk)
    return trunk.tissues


def render(patient: int, position: float, reading: int, *, size: int, seed: int = 0) -> tuple[Field, Map]:
    """CT slice of a procedural patient in one scan, labelled by one annotator.

    Args:
        patient: number of the body; with `seed`, determines all anatomy.
        position: axial level in [0, 1], from the dome of the liver to below the kidneys.
        reading: number of the scan and its annotation; determines noise and contour error.
        size: side of the image in pixels, at least 32; the anatomy is the same at any size.
        seed: selects the population of patients.

    Returns:
        Image (size, size) in [0, 1], from -160 to 240 HU, the patient's right on the left, spine down;
        labels (size, size), organ ids of BTCV, 6 the liver.

    Raises:
        InputError: for a size below 32, a position outside [0, 1] or a negative number.
    """
    _check(patient, position, reading, size=size, seed=seed)
    body = _patient(seed, patient)
    tissues = paint(body, position, size * max(2, 256 // size))
    rng = np.random.default_rng([1, seed, patient, reading])
    labels = annotate(tissues, rng, size=size)
    return scan(tissues, body.texture, position, rng, size=size), labels


def _check(patient: int, position: float, reading: int, *, size: int, seed: int) -> None:
    if size < 32:
        raise InputError(f"size must be at least 32, got {size}; choose a larger one")
    if not 0 <= position <= 1:
        raise InputError(f"position must lie in [0, 1], got {position}; 0 is the dome of the liver")
    if min(got := (patient, reading, seed)) < 0:
        raise InputError(f"patient, reading and seed must be at least 0, got {got}; count from 0")
