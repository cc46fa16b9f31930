import pytest


@pytest.fixture(autouse=True)
def figures(request: pytest.FixtureRequest) -> None:
    """Leave figures blank, but in slow tests and in those that ask for `drawn`."""
    if "drawn" not in request.fixturenames and request.node.get_closest_marker("slow") is None:
        request.getfixturevalue("undrawn")


@pytest.fixture
def drawn() -> None:
    """Have figures drawn: for tests of pictures."""
