import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from seg_mia.data import digests
from seg_mia.data.digests import content_digest, persistent_digests
from seg_mia.data.sets.folder import Folder

LONG_AGO = time.time_ns() - 10**12


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    """Each test begins as a new process would."""
    forget()
    yield
    forget()


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Believe files that were written just now."""
    monkeypatch.setattr(digests, "_SETTLED", -1.0)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "image.png"
    path.write_bytes(b"what it was")
    return path


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "digests.json"


def forget() -> None:
    digests._rows.clear()
    digests._used.clear()


def true(path: Path) -> bytes:
    return hashlib.sha256(path.read_bytes()).digest()


def read_again(store: Path, *paths: Path) -> list[Path]:
    """Ask for digests as a new process would, which must be true; return the files that were read."""
    forget()
    read = list[Path]()
    opened = Path.open

    def counting(path: Path, *args: object, **words: object) -> object:
        read.append(path)
        return opened(path, *args, **words)  # type: ignore[call-overload]  # whatever it was called with

    expected = [true(path) for path in paths]
    with pytest.MonkeyPatch.context() as patch, persistent_digests(store):
        patch.setattr(Path, "open", counting)
        assert [content_digest(path) for path in paths] == expected
    return [path for path in read if path in paths]


@pytest.mark.usefixtures("settled")
def test_what_has_not_changed_is_read_once(file: Path, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert read_again(store, file, file) == [file]
    assert read_again(store, file, file) == []
    monkeypatch.chdir(file.parent)
    assert read_again(store, Path(file.name)) == []
    assert [path.name for path in store.parent.iterdir()] == [store.name]


@pytest.mark.usefixtures("settled")
def test_what_was_found_out_before_is_kept_too(file: Path, store: Path) -> None:
    content_digest(file)
    with persistent_digests(store):
        content_digest(file)
    assert read_again(store, file) == []


def rewritten(file: Path) -> None:
    file.write_bytes(b"what it is.")


def rewritten_with_its_old_time(file: Path) -> None:
    before = file.stat()
    rewritten(file)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (file.stat().st_mtime_ns, file.stat().st_size) == (before.st_mtime_ns, before.st_size)


def replaced_by_one_of_the_same_time(file: Path) -> None:
    other = file.with_name("other.png")
    rewritten(other)
    os.utime(other, ns=(LONG_AGO, file.stat().st_mtime_ns))
    other.replace(file)


def mapped(file: Path) -> None:
    pixels = np.memmap(file, np.uint8, mode="r+")
    pixels[0] += 1
    pixels.flush()


@pytest.mark.usefixtures("settled")
@pytest.mark.parametrize(
    "change", [rewritten, rewritten_with_its_old_time, replaced_by_one_of_the_same_time, mapped]
)
def test_a_change_is_noticed_whatever_its_size_and_time(
    file: Path, store: Path, change: Callable[[Path], None]
) -> None:
    os.utime(file, ns=(LONG_AGO, LONG_AGO))
    before = content_digest(file)
    read_again(store, file)
    time.sleep(0.02)  # the system's clock for files ticks every few milliseconds
    change(file)
    with persistent_digests(store):
        assert content_digest(file) != before
    assert read_again(store, file) == []


def test_a_change_is_noticed_within_one_process(file: Path, store: Path) -> None:
    with persistent_digests(store):
        for content in (b"one", b"two", b"six"):
            file.write_bytes(content)
            assert content_digest(file) == true(file)


def test_nothing_is_believed_of_files_written_just_now(
    file: Path, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert read_again(store, file) == [file]
    assert not store.exists()
    monkeypatch.setattr(time, "time", lambda: LONG_AGO / 1e9 + 10**6)
    assert read_again(store, file) == [file]
    assert read_again(store, file) == []
    os.utime(file, ns=(10**18 * 4, 10**18 * 4))  # a time to come tells nothing
    assert read_again(store, file) == [file]
    assert read_again(store, file) == [file]


@pytest.mark.usefixtures("settled")
def test_a_file_that_changes_while_it_is_read_is_not_kept(
    file: Path, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = hashlib.file_digest

    def slow(opened: object, name: str) -> object:
        found = whole(opened, name)  # type: ignore[arg-type]  # a binary file
        time.sleep(0.02)
        rewritten(file)
        return found

    with monkeypatch.context() as patch, persistent_digests(store):
        patch.setattr(hashlib, "file_digest", slow)
        content_digest(file)
    assert not store.exists()
    assert read_again(store, file) == [file]


@pytest.mark.usefixtures("settled")
@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[: len(text) // 2],
        lambda _: "[]",
        lambda _: '{"format": 1, "files": {"a": 3}}',
        lambda _: '{"format": 1, "files": []}',
        lambda text: text.replace('"format": 1', '"format": 0'),
        lambda text: text[:-6] + text[-3:],  # a digest that is too short
        lambda text: text[:-6] + "zzz" + text[-3:],
        lambda _: "[" * 100_000,
    ],
)
def test_a_damaged_store_is_as_none(file: Path, store: Path, damage: Callable[[str], str]) -> None:
    read_again(store, file)
    store.write_text(damage(store.read_text()))
    assert read_again(store, file) == [file]
    assert read_again(store, file) == []


@pytest.mark.usefixtures("settled")
def test_a_store_that_cannot_be_written_only_costs_time(file: Path, tmp_path: Path) -> None:
    blocked = tmp_path / "blocked"
    blocked.touch()
    assert read_again(blocked / "digests.json", file) == [file]
    store = tmp_path / "folder"
    store.mkdir()
    assert read_again(store, file) == [file]
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith("folder")) == ["folder"]


@pytest.mark.usefixtures("settled")
def test_files_that_are_gone_are_left_out(file: Path, store: Path) -> None:
    other = file.with_name("other.png")
    other.write_bytes(b"other")
    read_again(store, file, other)
    assert read_again(store, file, other) == []
    other.rename(file.with_name("third.png"))
    read_again(store, file, file.with_name("third.png"))
    assert sorted(Path(path).name for path in json.loads(store.read_text())["files"]) == [
        "image.png",
        "third.png",
    ]


@pytest.mark.usefixtures("settled")
def test_an_unreadable_file_is_an_error_even_where_its_digest_is_known(file: Path, store: Path) -> None:
    read_again(store, file)
    forget()
    file.unlink()
    with persistent_digests(store), pytest.raises(FileNotFoundError):
        content_digest(file)


WORKER = """
import hashlib
import json
import sys
from pathlib import Path
from seg_mia.data import digests
digests._SETTLED = -1.0
folder, store, first = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
paths = [folder / f"{number % 60}.png" for number in range(first, first + 40)]
for _ in range(20):
    digests._rows.clear()
    with digests.persistent_digests(store):
        for path in paths:
            assert digests.content_digest(path) == hashlib.sha256(path.read_bytes()).digest()
    assert json.loads(store.read_text())["format"] == 1
"""


def test_several_processes_at_once(tmp_path: Path, store: Path) -> None:
    folder = tmp_path / "many"
    folder.mkdir()
    for number in range(60):
        (folder / f"{number}.png").write_bytes(bytes([number]) * 100)
    words = [sys.executable, "-c", WORKER, str(folder), str(store)]
    running = [subprocess.Popen([*words, str(first)]) for first in (0, 15, 30, 45)]
    assert [each.wait(120) for each in running] == [0, 0, 0, 0]
    assert [path.name for path in store.parent.iterdir()] == [store.name]
    assert len(json.loads(store.read_text())["files"]) >= 40


def opened(root: Path) -> tuple[Folder, int]:
    """Open a data set as a new process would, and count the images and masks that are read."""
    forget()
    data = Folder(root=str(root), threshold=127, members=4, nonmembers=2)
    read = list[Path]()
    whole = Path.open

    def counting(path: Path, *args: object, **words: object) -> object:
        read.append(path)
        return whole(path, *args, **words)  # type: ignore[call-overload]  # whatever it was called with

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "open", counting)
        data.setup()
    return data, sum(path.suffix == ".png" for path in read)


@pytest.mark.usefixtures("settled")
def test_a_data_set_that_was_opened_before_is_read_no_more(folder: Callable[..., Path]) -> None:
    root = folder()
    first, read = opened(root)
    assert read > 0
    again, read = opened(root)
    assert again.fingerprint == first.fingerprint
    assert read == 0
    mask = root / "masks" / "s03.png"
    with Image.open(mask) as picture:
        changed = np.array(picture)
    changed[:, 0] ^= 255
    Image.fromarray(changed).save(mask)
    second, read = opened(root)
    assert second.fingerprint != first.fingerprint
    assert read > 0
    np.testing.assert_array_equal(second.cached.masks[3], changed > 127)
