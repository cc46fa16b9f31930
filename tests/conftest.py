import gc
import os
import re
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image

from tests.peers import missing
from tests.trained_runs import Trained, TrainedRuns

os.environ["CUDA_VISIBLE_DEVICES"] = ""  # answers are the CPU's
torch.set_num_threads(1)  # tests run side by side
MARKED = {"slow and not peers": "slow", "peers": "peers"}
"""What the Makefile selects by `-m`, and a mark that each of those tests has."""
pytest.register_assert_rewrite("tests.trainings", "tests.defences.dp.helpers", "tests.grad_sample.helpers")


def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> None:
    """In CI a test that skips for want of the real data has failed."""
    skipped = call.excinfo is not None and call.excinfo.errisinstance(pytest.skip.Exception)
    if skipped and os.environ.get("CI") and "SEG_MIA_TEST_DATA" in str(call.excinfo):
        pytest.exit(f"{item.nodeid} skipped in CI: SEG_MIA_TEST_DATA is not set", returncode=1)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test whose framework is not installed; where SEG_MIA_PEERS is `required` it has failed."""
    absent = missing(tuple(name for mark in item.iter_markers("peers") for name in mark.args))
    if not absent:
        return
    reason = f"{', '.join(absent)} not installed; make peers installs what these tests compare with"
    if os.environ.get("SEG_MIA_PEERS") == "required":
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real data and reference vectors; without it the test is skipped."""
    root = os.environ.get("SEG_MIA_TEST_DATA")
    if root is None:
        pytest.skip("SEG_MIA_TEST_DATA is not set: the real data is not at hand")
    return Path(root)


@pytest.fixture(autouse=True)
def own_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test runs in an empty folder, with a cache of its own."""
    place = tmp_path / "place"
    place.mkdir()
    monkeypatch.chdir(place)
    monkeypatch.setenv("SEG_MIA_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("SEG_MIA_DATA", raising=False)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Where marked tests alone are run, leave files without any unread."""
    mark = MARKED.get(config.option.markexpr)
    is_test = mark is not None and collection_path.match("test_*.py")
    return True if is_test and mark not in marks_in(collection_path) else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the longest tests first, so that no worker has one left when the others are done."""
    for item in items:
        if unseen := {mark.name for mark in item.iter_markers()} & {*MARKED.values()} - marks_in(item.path):
            raise pytest.UsageError(f"{item.nodeid} would be left out: its file must say mark.{min(unseen)}")
    items.sort(key=lambda item: -seconds_of(item))


def pytest_collection_finish() -> None:
    """Leave what is imported out of the collections of garbage that each stage of an audit asks for."""
    gc.collect()
    gc.freeze()


def pytest_unconfigure() -> None:
    """Let the interpreter free them as it ends."""
    gc.unfreeze()


@cache
def marks_in(file: Path) -> frozenset[str]:
    """Return the marks that a file of tests names."""
    return frozenset(re.findall(r"\bmark\.(\w+)", file.read_text(encoding="utf-8")))


def seconds_of(item: pytest.Item) -> int:
    """Return about how long a test takes, by its mark `slow`; 0 if it does not say."""
    return max((int(seconds) for mark in item.iter_markers("slow") for seconds in mark.args), default=0)


@pytest.fixture
def all_cores() -> Iterator[None]:
    """Let a test use its share of the cores: all of them where it runs alone."""
    threads, workers = torch.get_num_threads(), int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // workers))
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def folder(tmp_path: Path) -> Callable[..., Path]:
    """Make a data set of bright squares on noise: images/NAME.png and masks/NAME.png (0 and 255)."""

    def make(count: int = 12, size: int = 32, channels: int = 3) -> Path:
        root = tmp_path / "data"
        rng = np.random.default_rng(0)
        for part in ("images", "masks"):
            (root / part).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            shape = (size, size) if channels == 1 else (size, size, channels)
            image = rng.integers(0, 100, shape, dtype=np.uint8)
            mask = np.zeros((size, size), np.uint8)
            top, left = rng.integers(2, size // 2, 2)
            image[top : top + size // 3, left : left + size // 3] += 120
            mask[top : top + size // 3, left : left + size // 3] = 255
            Image.fromarray(image).save(root / "images" / f"s{number:02d}.png")
            Image.fromarray(mask).save(root / "masks" / f"s{number:02d}.png")
        return root

    return make


@pytest.fixture
def tiny(tmp_path: Path, folder: Callable[..., Path]) -> Path:
    """Write a config that trains a very small network on the squares within a second."""
    folder()
    file = tmp_path / "tiny.yaml"
    file.write_text("""
seed_everything: 0
trainer: {max_epochs: 1, accelerator: cpu, enable_progress_bar: false, enable_model_summary: false}
model:
  class_path: seg_mia.tasks.segmentation.Segmentation
  init_args:
    network:
      class_path: seg_mia.models.smp.Smp
      init_args: {encoder: tu-test_resnet, channels: 3, classes: 1, depth: 3}
    lr: 0.01
data:
  class_path: seg_mia.data.sets.folder.Folder
  init_args: {root: ../data, threshold: 127, members: 4, nonmembers: 2, batch_size: 2}
""")
    return file


@pytest.fixture(autouse=True)
def brief_checks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a check of gradients take a step and two queries, but in tests that ask for `thorough_checks`.

    By its default it takes 71 gradients and 50 queries an image, most of the time of an attack of few steps.
    """
    if "thorough_checks" not in request.fixturenames:
        monkeypatch.setattr("seg_mia.attacks.sanity.STEPS", 1)
        monkeypatch.setattr("seg_mia.attacks.sanity.QUERIES", 2)


@pytest.fixture
def thorough_checks() -> None:
    """Have checks of gradients take the steps that they always take: for tests of what they find."""


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave figures blank, for tests that look at no picture: drawing takes a third of an attack's time.

    They are small, and not laid out, which takes as long as the rest of an audit whose stages are cached.
    """
    monkeypatch.setattr(Figure, "draw", lambda *_: None)
    monkeypatch.setattr(Figure, "get_tightbbox", lambda figure, *_, **__: figure.bbox_inches)
    for resolution in ("charts.png.DPI", "pictures._DPI"):
        monkeypatch.setattr(f"seg_mia.results.{resolution}", 10)


@pytest.fixture(scope="session")
def trained_runs(tmp_path_factory: pytest.TempPathFactory) -> TrainedRuns:
    """Hold the trainings that tests share, those of other workers included."""
    base = tmp_path_factory.getbasetemp()
    store = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "trained"
    store.mkdir(exist_ok=True)
    return TrainedRuns(store)


@pytest.fixture
def common_cache(trained_runs: TrainedRuns, monkeypatch: pytest.MonkeyPatch) -> None:
    """Share decoded samples with other tests, those of other workers included."""
    monkeypatch.setenv("SEG_MIA_CACHE", str(trained_runs.store / "cache"))


@pytest.fixture
def trained(tmp_path: Path, trained_runs: TrainedRuns) -> Trained:
    """Return `trained(CONFIG, *OPTIONS)`: a run in the test's folder, of a training done once in a session.

    For tests that need a trained network, not its training. The data root must be relative (`tiny` has
    `../data`), so that a run finds the data of its own test. Patches of the code are not told apart.
    """

    def run(config: Path, *options: str) -> Path:
        return trained_runs.fit(tmp_path, ["--config", str(config), *options])

    return run
