"""Array types of membership inference, n samples each."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Scores = NDArray[np.floating[Any]]
"""Higher for members, (n,)."""
Members = NDArray[np.bool_]
"""Membership of each sample, (n,); for several networks (networks, n)."""
Groups = Sequence[str] | NDArray[np.str_]
"""Patient or video of each sample, (n,)."""
Units = NDArray[np.int64]
"""Index of each sample's group, (n,)."""
Values = NDArray[np.float64]
"""Derived values."""
