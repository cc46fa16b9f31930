from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def figures(request: pytest.FixtureRequest) -> None:
    """Leave figures blank, but in tests that ask for `drawn`."""
    if "drawn" not in request.fixturenames:
        request.getfixturevalue("undrawn")


@pytest.fixture
def drawn() -> None:
    """Have figures drawn: for tests of pictures."""


@pytest.fixture
def spares(tiny: Path, folder: Callable[..., Path]) -> None:
    """Have the tiny config keep as many samples out as it trains on, and some for nobody."""
    folder(count=24)
    tiny.write_text(tiny.read_text().replace("members: 4, nonmembers: 2", "members: 6, nonmembers: 6"))
