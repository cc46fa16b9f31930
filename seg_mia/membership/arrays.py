"""The arrays that membership inference works on, n samples each."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Scores = NDArray[np.floating[Any]]
"""Higher for members, (n,)."""
Members = NDArray[np.bool_]
"""Who was trained on, (n,); of several networks (networks, n)."""
Groups = Sequence[str] | NDArray[np.str_]
"""The patient or video of each sample, (n,)."""
Units = NDArray[np.int64]
"""The number of each sample's group, (n,)."""
Values = NDArray[np.float64]
"""What is computed of the others."""
