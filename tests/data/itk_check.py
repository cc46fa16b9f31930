"""Voxels of a scan compared with SimpleITK's place and value of each, independent of the readers."""

from typing import Any

import numpy as np
import SimpleITK
from numpy.testing import assert_allclose

from seg_mia.data.volumes.geometry import Scan

ORIENTATIONS = ("RAS", "LPS", "RAI", "ASL", "SPR", "ILA", "PIR")
"""Directions in which the axes of a written volume run, as nibabel names them."""
_TOWARDS = {"L": (0, 1), "R": (0, -1), "P": (1, 1), "A": (1, -1), "S": (2, 1), "I": (2, -1)}


def direction(letters: str, turn: float = 0.0) -> Any:
    """Return the direction cosines (3, 3) in LPS of axes to R or L, A or P, S or I, turned about S."""
    matrix = np.zeros((3, 3))
    for column, letter in enumerate(letters):
        row, sign = _TOWARDS[letter]
        matrix[row, column] = sign
    cos, sin = np.cos(turn), np.sin(turn)
    return np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]]) @ matrix


def itk_image(values: Any, letters: str = "LPS", *, turn: float = 0.0) -> Any:
    """Return voxels (X, Y, Z) in stored order as an image with axes that run as the letters say."""
    image = SimpleITK.GetImageFromArray(values.transpose())
    image.SetSpacing((2.0, 3.0, 4.0))
    image.SetOrigin((-7.0, 11.0, 30.0))
    image.SetDirection(direction(letters, turn).ravel().tolist())
    return image


def assert_same_voxels(scan: Scan, image: Any) -> None:
    """Check each voxel of a scan against an image's value at the same place, and the order of its axes."""
    volume, grid = scan.read(), scan.grid()
    assert grid.affine is not None
    assert volume.values.shape == grid.shape
    cosines = grid.affine[:3, :3] / np.linalg.norm(grid.affine[:3, :3], axis=0)
    assert (cosines.diagonal() > 0.7).all()  # to the right, the front and up
    values = volume.values * volume.slope + volume.intercept
    indices = np.indices(image.GetSize()).reshape(3, -1)
    points = np.array([image.TransformIndexToPhysicalPoint(list(map(int, index))) for index in indices.T])
    points[:, :2] *= -1  # ITK counts to the left and the back
    inverse = np.linalg.inv(grid.affine)
    places = points @ inverse[:3, :3].T + inverse[:3, 3]
    assert_allclose(places, np.rint(places), atol=1e-3)
    ours = values[tuple(np.rint(places).astype(int).T)]
    theirs = SimpleITK.GetArrayFromImage(image).transpose()[tuple(indices)]
    assert len(ours) == values.size
    assert_allclose(ours, theirs.astype(np.float64), rtol=1e-6, atol=1e-3)
