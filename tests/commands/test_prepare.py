import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from seg_mia.cli import main
from seg_mia.data.sets.kvasir import DUPLICATES
from seg_mia.data.survey import difference_hash, equal, near_pairs, thumbnail

PLACE = Path("runs/prepare/tiny/version_0")


def report(file: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(file.read_text())
    return found


def prepared(tiny: Path, *words: str) -> dict[str, Any]:
    assert main(["prepare", "--config", str(tiny), *words]) == 0
    folder = sorted(PLACE.parent.iterdir())[-1]
    assert folder.joinpath("prepare.md").read_text()
    with Image.open(folder / "sheet.png") as sheet:
        assert min(sheet.size) > 200
    return report(folder / "prepare.json")


def pixels(file: Path) -> NDArray[np.uint8]:
    with Image.open(file) as picture:
        return np.asarray(picture)


@pytest.fixture
def root(tiny: Path) -> Path:
    return Path(tiny.read_text().split("root: ")[1].split(",")[0])


@pytest.fixture
def tidy(tiny: Path, root: Path) -> Path:
    """Twelve smooth images that look nothing alike, instead of squares on noise."""
    ramps = np.linspace(0, 2 * np.pi, 32)
    for number, file in enumerate(sorted((root / "images").iterdir())):
        rng = np.random.default_rng(number)
        turns = rng.normal(0, 2, (6, 3))
        waves = sum(np.sin(a * ramps[:, None] + b * ramps + 4 * c) for a, b, c in turns)
        grey = (np.asarray(waves) - np.min(waves)) / np.ptp(waves) * 200
        Image.fromarray(np.repeat(grey[..., None], 3, axis=2).astype(np.uint8)).save(file)
    return tiny


def test_a_report_counts_what_is_in_the_files(
    tidy: Path, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = prepared(tidy)
    masks = np.array([pixels(file) > 0 for file in sorted((root / "masks").iterdir())])
    assert found["samples"] == found["groups"]["count"] == 12
    assert found["images"] == {
        "shape": [32, 32, 3],
        "type": "uint8",
        "low": 0,
        "high": pytest.approx(200 / 255),
    }
    assert found["masks"]["shape"] == [32, 32]
    assert found["masks"]["foreground"]["median"] == pytest.approx(np.median(masks.mean((1, 2))))
    assert [one["samples"] for one in found["classes"]] == [12, 12]
    assert found["classes"][1]["share"] == pytest.approx(masks.mean())
    assert found["split"] == {"other half": 6, "members": 4, "nonmembers": 2}
    assert not any([*found["suspicious"].values(), found["equal"], found["near"]["across_groups"]])
    said = capsys.readouterr().out
    assert "# tiny: 12 samples" in said
    assert str(PLACE) in said


def test_suspicious_files_are_named(tidy: Path, root: Path) -> None:
    Image.fromarray(np.zeros((32, 32), np.uint8)).save(root / "masks" / "s01.png")
    Image.fromarray(np.full((32, 32), 255, np.uint8)).save(root / "masks" / "s02.png")
    for name in ("s03", "s05"):
        Image.new("RGB", (32, 32), (9, 9, 9)).save(root / "images" / f"{name}.png")
    found = prepared(tidy)
    assert found["suspicious"] == {
        "empty masks": ["s01"],
        "almost full masks": ["s02"],
        "masks with only ignored pixels": [],
        "constant images": ["s03", "s05"],
    }
    assert found["equal"] == [["s03", "s05"]]
    assert found["near"]["across_groups"] == []  # what is constant resembles nothing


def test_duplicates_across_groups_are_found_and_who_keeps_them_together(tidy: Path, root: Path) -> None:
    images = root / "images"
    shutil.copy(images / "s00.png", images / "s01.png")  # an equal file
    Image.fromarray(pixels(images / "s02.png") // 2 + 30).save(images / "s03.png")  # known to the user
    brighter = pixels(images / "s04.png").astype(int) + np.random.default_rng(0).integers(0, 9, (32, 32, 3))
    Image.fromarray(brighter.astype(np.uint8)).save(images / "s05.png")  # known to nobody
    found = prepared(tidy, "--data.duplicates=[[s02, s03]]")
    rows = {(row["first"], row["second"]): row for row in found["near"]["across_groups"]}
    assert {pair: row["together"] for pair, row in rows.items()} == {
        ("s00", "s01"): True,
        ("s02", "s03"): True,
        ("s04", "s05"): False,
    }
    assert found["equal"] == [["s00", "s01"]]
    assert found["near"]["loose"] == [["s04", "s05"]]
    assert (
        f"train victim and shadow with `--data.near_duplicates {PLACE / 'prepare.json'}`"
        in (PLACE / "prepare.md").read_text()
    )
    kept = prepared(tidy, f"--data.near_duplicates={PLACE / 'prepare.json'}")
    assert kept["fingerprint"] == found["fingerprint"]
    assert all(row["together"] for row in kept["near"]["across_groups"])
    assert kept["near"]["loose"] == []
    assert kept["near"]["parted"] == 0
    parts = rows["s04", "s05"]["parts"]
    assert found["near"]["parted"] == (parts[0] != parts[1])
    assert (PLACE / "duplicates.png").is_file()


def test_patients_tied_by_one_equal_file_are_tied_with_all_their_slices(tidy: Path, root: Path) -> None:
    images = root / "images"
    names = [f"s{n:02d}" for n in range(12)]
    rows = "".join(f"{name},p{number // 2}\n" for number, name in enumerate(names))
    (root / "index.csv").write_text("image,group\n" + rows)
    shutil.copy(images / "s00.png", images / "s02.png")
    Image.fromarray(pixels(images / "s01.png") // 2).save(images / "s03.png")
    Image.fromarray(pixels(images / "s04.png") // 2).save(images / "s05.png")
    near = prepared(tidy, "--data.manifest=index.csv")["near"]
    assert [(row["first"], row["second"], row["together"]) for row in near["across_groups"]] == [
        ("s00", "s02", True),
        ("s01", "s03", True),
    ]
    assert (near["within_groups"], near["loose"]) == (1, [])
    assert near["within"][0][:2] == ["s04", "s05"]


def test_a_config_is_read_with_its_bases_and_results_go_where_they_are_sent(
    tidy: Path, tmp_path: Path
) -> None:
    (tmp_path / "more.yaml").write_text(
        "base: tiny\ndefence: dp\nruns: elsewhere\ndata: {init_args: {members: 3}}\n"
    )
    assert main(["prepare", "--config", str(tmp_path / "more.yaml"), "--data.nonmembers=1"]) == 0
    split = report(Path("elsewhere/prepare/more/version_0/prepare.json"))["split"]
    assert split == {"other half": 6, "members": 3, "nonmembers": 1, "reference": 2}
    assert main(["prepare", "--config", str(tidy), "--out", "here", "--data.members=90", "--tiles=3"]) == 0
    assert "90 + 2" in report(Path("here/prepare.json"))["split"]  # what does not fit is reported, too


def test_bad_input_is_one_line(tidy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words, telling in (
        ([], "kvasir_victim"),
        (["--config", str(tidy), "--model.lr=3"], "model.lr"),
        (["--config", str(tidy), "--data.speed=3"], "speed"),
        (["--config", str(tidy), "--data.root=nowhere"], "nowhere"),
        (["--config", str(tidy), "--data.channels=2"], "must be a TIFF file to hold 2 channels"),
        (["--config", str(tidy), "--similarity=2"], "similarity above 0"),
        (["--config", str(tidy), "--data.near_duplicates=none"], "'none' is no file; write it with"),
        (
            ["--config", str(tidy), "--data.duplicates=[[s00, x]]"],
            "ids of this data set, such as 's00', got 'x'",
        ),
        (["--config", "phantom_audit"], "is an audit file"),
        (["--config", str(tidy), "--tiles=-3"], "tiles must be at least 1, got -3"),
        (["--config", str(tidy), "--tiles=0"], "tiles must be at least 1, got 0"),
        (["--config", str(tidy), "--full=2"], "at most 1, got 2.0"),
        (["--config", str(tidy), "--full=0"], "full must be"),
        (["--config", str(tidy), "--tile=3"], "did you mean --tiles?"),
        (["--config", str(tidy), "--out", str(tidy)], "choose another folder with --out"),
    ):
        capsys.readouterr()
        assert main(["prepare", *words]) == 2
        (line,) = [text for text in capsys.readouterr().err.splitlines() if "seg_mia: error" in text]
        assert telling in line
    assert not Path("runs").exists()


def test_a_hash_withstands_brightness_contrast_and_noise() -> None:
    rng = np.random.default_rng(0)
    image = np.asarray(Image.fromarray(rng.integers(0, 200, (6, 6), dtype=np.uint8)).resize((64, 64)))[
        ..., None
    ]
    other = rng.integers(0, 200, (64, 64, 1), dtype=np.uint8)
    first = difference_hash(thumbnail(image))
    assert first.shape == (64,)
    for changed in (image // 2 + 20, image + 40, image + rng.integers(0, 12, image.shape, dtype=np.uint8)):
        assert (difference_hash(thumbnail(changed)) != first).sum() <= 4
    assert (difference_hash(thumbnail(other)) != first).sum() > 16


def test_blocks_find_the_pairs_that_a_plain_loop_finds() -> None:
    rng = np.random.default_rng(1)
    count = 2100  # more than two blocks
    hashes = rng.random((count, 64)) < 0.5
    thumbnails = rng.normal(size=(count, 1024)).astype(np.float16)
    for one, other in ((0, 2099), (5, 6), (1023, 1024), (700, 1500)):
        hashes[other], thumbnails[other] = hashes[one], thumbnails[one]
        hashes[other, :3] ^= True
    thumbnails /= np.linalg.norm(thumbnails.astype(np.float32), axis=1, keepdims=True).astype(np.float16)
    found = near_pairs(hashes, thumbnails, distance=3, similarity=0.9)
    assert {(pair.first, pair.second) for pair in found} == {(0, 2099), (5, 6), (1023, 1024), (700, 1500)}
    assert {pair.distance for pair in found} == {3}
    assert near_pairs(hashes, thumbnails, distance=2, similarity=0.9) == []


def test_equal_values_are_listed_once_each() -> None:
    assert equal(["a", "b", "a", "c", "b", "a"]) == [[0, 2, 5], [1, 4]]


def test_the_known_duplicates_of_kvasir_are_found_and_no_others(shared: Path) -> None:
    root = shared / "data" / "kvasir_seg"
    assert main(["prepare", "--config", "kvasir_victim", "--data.root", str(root), "--tiles=4"]) == 0
    near = report(Path("runs/prepare/kvasir_victim/version_0/prepare.json"))["near"]
    assert {frozenset((row["first"], row["second"])) for row in near["across_groups"]} == set(
        map(frozenset, DUPLICATES)
    )
    assert near["parted"] == 0
    assert near["loose"] == []


def test_two_patients_of_acdc_are_one(shared: Path) -> None:
    root = shared / "data" / "acdc"
    assert main(["prepare", "--config", "acdc_victim", "--data.root", str(root), "--tiles=4"]) == 0
    near = report(Path("runs/prepare/acdc_victim/version_0/prepare.json"))["near"]
    pairs = {(row["first"][:10], row["second"][:10], row["together"]) for row in near["across_groups"]}
    assert pairs == {("patient074", "patient076", True)}
