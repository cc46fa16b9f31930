import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real data and reference vectors; without it the test is skipped."""
    root = os.environ.get("SEG_MIA_TEST_DATA")
    if root is None:
        pytest.skip("SEG_MIA_TEST_DATA is not set: the real data is not at hand")
    return Path(root)
