import pytest


@pytest.fixture(autouse=True)
def figures(request: pytest.FixtureRequest) -> None:
    """Leave figures blank, but in tests that ask for `drawn`."""
    if "drawn" not in request.fixturenames:
        request.getfixturevalue("undrawn")


@pytest.fixture
def drawn() -> None:
    """Have figures drawn: for tests of pictures."""
