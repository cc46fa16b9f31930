import multiprocessing
import stat
from pathlib import Path

import pytest

from seg_mia.atomic import written_whole


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    empty = tmp_path / "folder"
    empty.mkdir()
    return empty


def put(path: Path, content: bytes, *, overwrite: bool = True) -> None:
    with written_whole(path, overwrite=overwrite) as file:
        file.write(content)


def test_a_file_is_written_in_folders_that_are_made_and_nothing_else_stays(folder: Path) -> None:
    path = folder / "a" / "b" / ("n" * 255)
    put(path, b"first\n")
    put(path, b"second\n")
    assert path.read_bytes() == b"second\n"
    assert list(path.parent.iterdir()) == [path]


def test_what_fails_half_way_leaves_what_stood_there(folder: Path) -> None:
    path = folder / "a"
    put(path, b"whole")
    with pytest.raises(TypeError):
        put(path, "no bytes")  # type: ignore[arg-type]
    with pytest.raises(ZeroDivisionError), written_whole(path) as file:
        file.write(b"half" * (1 // (file.write(b"half") - 4)))
    assert (path.read_bytes(), list(folder.iterdir())) == (b"whole", [path])


def test_a_folder_that_is_a_file_is_an_error_of_the_system(folder: Path) -> None:
    (folder / "a").touch()
    with pytest.raises(OSError, match="a"):
        put(folder / "a" / "b", b"")


def test_a_secret_is_the_owners_alone(folder: Path) -> None:
    with written_whole(folder / "secret", mode=0o600) as file:
        assert [stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()] == [0o600]
        file.write(b"x")
    assert stat.S_IMODE((folder / "secret").stat().st_mode) == 0o600


@pytest.mark.parametrize("links", [True, False])
def test_who_is_first_stays_where_nothing_is_overwritten(
    folder: Path, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    def none(*_: object) -> None:
        raise OSError("no links here")

    if not links:
        monkeypatch.setattr(Path, "hardlink_to", none)
    path = folder / "salt"
    put(path, b"first", overwrite=False)
    assert (path.read_bytes(), list(folder.iterdir())) == (b"first", [path])
    if links:
        put(path, b"second", overwrite=False)
        assert (path.read_bytes(), list(folder.iterdir())) == (b"first", [path])


def _first(path: Path, name: str) -> bytes:
    put(path, name.encode() * 1000, overwrite=False)
    return path.read_bytes()


def test_processes_at_once_read_the_same(folder: Path) -> None:
    context = multiprocessing.get_context("spawn")
    with context.Pool(4) as pool:
        read = pool.starmap(_first, [(folder / "salt", name) for name in "abcdefgh"])
    assert len(set(read)) == 1
    assert [path.name for path in folder.iterdir()] == ["salt"]
