"""An audit of predictions in files, without the network that made them."""

import csv
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from seg_mia.audit.predictions.results import shown_ids
from seg_mia.audit.predictions.settings import PredictionSettings, read_prediction_settings
from seg_mia.checkpoint import load_victim
from seg_mia.cli import main
from seg_mia.data.prediction_files.reader import Predictions
from seg_mia.data.sets.folder import Folder
from seg_mia.errors import InputError
from seg_mia.membership.compare import compare, read_scores
from seg_mia.membership.fleet import lira_vector, standardised
from seg_mia.membership.fleet.confidences import confidences
from seg_mia.runs import checkpoint_file
from tests.data.prediction_files.releases import save, table
from tests.trained_runs import Trained
from tests.trainings import one_error

pytestmark = pytest.mark.usefixtures("undrawn")
Rows = list[dict[str, str]]
SIZES = [(10, 8), (7, 9), (12, 12)]


def phantoms(
    root: Path, *, members: int = 6, nonmembers: int = 6, prefix: str = "", depth: int = 0, gain: float = 3.0
) -> Rows:
    """Write maps that are surer on members, of squares in sizes that differ."""
    rng, rows = np.random.default_rng(len(prefix)), Rows()
    for number in range(members + nonmembers):
        inside = number < members
        shape = (*SIZES[number % 3], *([depth] * bool(depth)))
        mask = np.zeros(shape, np.uint8)
        mask[2:6, 3:7] = 1
        sure = gain if inside else 1.0
        z = sure * (2.0 * mask - 1) + rng.normal(0, 0.5, shape)
        case = f"{prefix}{number}"
        save(root / f"{case}.npy", (1 / (1 + np.exp(-z))).astype(np.float32))
        save(root / f"{case}_m.npy", mask)
        rows.append(
            {"prediction": f"{case}.npy", "mask": f"{case}_m.npy", "patient": f"{prefix}p{number}"}
            | {"part": f"{prefix}{'train' if inside else 'test'}", "network": ""}
        )
    return rows


def audit(file: Path, *words: str) -> int:
    return main(["audit", f"--predictions={file}", "--classes=2", *words])


def report(version: int = 0) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Path(f"runs/release/version_{version}/report.json").read_text())
    return found


def test_written_probabilities_give_the_auc_of_the_network(
    tiny: Path, folder: Callable[..., Path], trained: Trained
) -> None:
    root = folder(40)
    counts = ["--data.members=10", "--data.nonmembers=10"]
    run = trained(tiny, *counts, "--trainer.max_epochs=6")
    trained(tiny, *counts, "--data.role=shadow")
    assert main(["test", "--attack", "mia-global-loss"]) == 0
    known = json.loads(next(run.glob("mia-global-loss/*/summary.json")).read_text())["results"]

    data = Folder(root=str(root), threshold=127, members=10, nonmembers=10)
    data.setup()
    network, rows = load_victim(checkpoint_file(run)).eval(), Rows()
    for part in ("members", "nonmembers"):
        for index in data.indices(part):
            name = data.source.ids[index]
            image = data.dataset(np.array([index]))[0, 0].image[None]
            with torch.no_grad():
                p = network(image).sigmoid()[0, 0].numpy()
            save(root / f"{name}.npz", np.stack([1 - p, p]))
            rows.append(
                {"prediction": f"{name}.npz", "mask": f"masks/{name}.png", "image": f"images/{name}.png"}
                | {"patient": name, "part": "train" if part == "members" else "test"}
            )
    assert audit(table(root, rows), "--threshold=127") == 0
    said = report()
    (loss,) = [one for one in said["membership"] if one["name"] == "mia-global-loss"]
    assert 0.5 < known["auc"]["value"] < 1
    assert loss["results"]["auc"]["value"] == pytest.approx(known["auc"]["value"], abs=5e-4)
    assert loss["results"]["auc"]["low"] == pytest.approx(known["auc"]["low"], abs=5e-4)
    (blind,) = [one for one in said["membership"] if one["blind"]]
    assert blind["name"] == "mia-blind-statistics"


def test_without_a_shadow_thresholds_and_classifiers_are_absent(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = table(tmp_path, phantoms(tmp_path))
    assert audit(file, "--fail-on", "mia.auc>0.9", "--fail-on", "mia-dice.auc>1") == 1
    out = capsys.readouterr().out
    assert "foreground (detected); 2 classes; victim 6 train and 6 test of 12 patients" in out
    assert "absent: decision thresholds and classifiers (mia-type1, mia-type2, mia-loss-map)" in out
    assert "absent: mia-calibrated, mia-base, mia-rmia, mia-lira: needs reference networks" in out
    assert "gate mia.auc>0.9: mia.auc is 1 (mia-global-loss" in out
    said = report()
    assert {one["name"] for one in said["membership"]} == {
        "mia-blind-statistics", "mia-global-loss", "mia-entropy", "mia-dice",
    }  # fmt: skip
    loss = next(one for one in said["membership"] if one["name"] == "mia-global-loss")["results"]
    assert (loss["threshold"], loss["confusion"], loss["accuracy"]["value"]) == (None, None, None)
    assert any("there are no decision thresholds" in line for line in said["caveats"])
    assert said["verdicts"][0]["privacy"]["word"] == "Unknown"
    assert (
        said["victims"][0]["utility"]["members"]["dice"] > said["victims"][0]["utility"]["nonmembers"]["dice"]
    )
    with Path("runs/release/version_0/mia-global-loss/scores.csv").open() as text:
        assert {row["called_member"] for row in csv.DictReader(text)} == {""}
    assert audit(file, "--fail-on", "mia.balanced_accuracy>0.6") == 2
    assert "matches nothing in this audit" in one_error(capsys)


def test_a_shadow_gives_thresholds_and_classifiers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = phantoms(tmp_path) + phantoms(tmp_path, members=8, nonmembers=8, prefix="shadow_")
    small = "{architecture: test_resnet, epochs: 1, batch_size: 2, validation: 0.3}"
    attacks = "[mia-global-loss, mia-type2, {attack: mia-dice, settings: {scorer.rule: shadow_roc}}]"
    assert audit(table(tmp_path, rows), f"--attacks={attacks}", f"--scorer={small}") == 0
    assert "absent" not in capsys.readouterr().out
    found = {one["name"]: one for one in report()["membership"]}
    shadow = [row for row in rows if row["part"] == "shadow_train"]
    losses = [loss_of(tmp_path, row) for row in shadow]
    assert found["mia-global-loss"]["results"]["threshold"] == pytest.approx(-np.mean(losses), abs=1e-6)
    assert found["mia-type2"]["results"]["confusion"] is not None
    assert len(read_scores("runs/release/version_0/mia-type2").ids) == 12
    assert not list(Path("runs/release/version_0").glob("maps*"))


def loss_of(root: Path, row: dict[str, str]) -> float:
    """Return Dice and cross-entropy of a map, as the definition has them."""
    p, y = np.load(root / row["prediction"]).astype(float), np.load(root / row["mask"])
    dice = 1 - (2 * (p * y).sum() + 1) / (p.sum() + y.sum() + 1)
    return float(dice - np.log(np.where(y == 1, p, 1 - p)).mean())


def test_volumes_are_read_one_at_a_time_and_classified_by_slices(tmp_path: Path) -> None:
    rows = phantoms(tmp_path, depth=3) + phantoms(tmp_path, members=6, nonmembers=6, prefix="shadow_")
    small = "{architecture: test_resnet, epochs: 1, batch_size: 2, validation: 0.3}"
    words = ["--attacks=[mia-type1, mia-entropy]", f"--scorer={small}", "--images=false"]
    assert audit(table(tmp_path, rows), *words) == 0
    assert len(read_scores("runs/release/version_0/mia-type1").ids) == 12
    assert not Path("runs/release/version_0/mia-type1/exposed.png").exists()


def fleet(root: Path, networks: int = 6) -> tuple[Rows, NDArray[np.bool_]]:
    """Return rows of a victim and of networks that were each trained on half of its cases."""
    rows, rng = phantoms(root, gain=1.5), np.random.default_rng(7)
    inside = np.array([rng.permutation(12) < 6 for _ in range(networks // 2)])
    inside = np.stack([inside, ~inside], axis=1).reshape(networks, 12)
    further = Rows()
    for network, members in enumerate(inside):
        for row, member in zip(rows, members, strict=True):
            mask = np.load(root / row["mask"])
            z = (1.5 if member else 1.0) * (2.0 * mask - 1) + rng.normal(0, 0.5, mask.shape)
            name = f"{network}_{row['prediction']}"
            save(root / name, 1 / (1 + np.exp(-z)))
            part = "train" if member else "test"
            further.append(row | {"prediction": name, "network": f"n{network}", "part": part})
    return rows + further, inside


def test_reference_networks_are_those_of_the_table(tmp_path: Path) -> None:
    rows, inside = fleet(tmp_path)
    assert audit(table(tmp_path, rows), "--attacks=[mia-lira, mia-base, mia-rmia, mia-calibrated]") == 0
    scored = read_scores("runs/release/version_0/mia-lira")
    order = [row["mask"].removesuffix(".npy") for row in rows[:12]]
    signals = np.stack([signals_of(tmp_path, row) for row in rows]).reshape(7, 12, 3)
    sorted_columns = np.argsort(order)
    assert scored.ids.tolist() == sorted(order)
    target, references = standardised(signals[:1])[0], standardised(signals[1:])
    expected = lira_vector(target, references, inside)[sorted_columns]
    np.testing.assert_allclose(scored.scores, expected, rtol=1e-6)
    (lira,) = [one for one in report()["membership"] if one["name"] == "mia-lira"]
    assert len(lira["shadows"]) == 6
    assert lira["results"]["confusion"] is not None


def signals_of(root: Path, row: dict[str, str]) -> NDArray[np.float64]:
    """Return log cross-entropy, logit of Dice and log entropy of a prediction, (3,), higher for members."""
    p, y = (torch.from_numpy(np.load(root / row[name]))[None] for name in ("prediction", "mask"))
    return confidences(p.double().logit()[:, None], y.long())[0, [0, 1, 3]]


def test_two_releases_of_one_network_are_compared(tmp_path: Path) -> None:
    rows = phantoms(tmp_path)
    assert audit(table(tmp_path, rows), "--attacks=[mia-dice, mia-global-loss]", "--images=false") == 0
    for row in rows:
        save(tmp_path / row["prediction"], (np.load(tmp_path / row["prediction"]) > 0.5).astype(np.uint8))
    assert audit(table(tmp_path, rows), "--attacks=[mia-dice]", "--images=false") == 0
    folders = [f"runs/release/version_{version}/mia-dice" for version in (0, 1)]
    assert compare(*folders).value == 0
    assert main(["compare", *folders]) == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--attacks=[pgd]"], "pgd changes images and queries the network"),
        (["--attacks=[mia-type2]"], "mia-type2 trains a classifier on rows shadow_train and shadow_test"),
        (["--attacks=[mia-lira]"], "mia-lira needs reference networks, named in a column network"),
        (["--attacks=[mia-quantile]"], "needs predictions of the victim on non-members"),
        (["--attacks=[{attack: mia-dice, data: {limit: 3}}]"], "mia-dice takes no data settings"),
        (["--fail-on", "epsilon>1"], "neither the training nor the network is known"),
        (["--fail-on", "pgd.dice<1"], "matches nothing in this audit"),
        (["--classes=1"], "classes must be 2 to 255"),
        (["--victim=phantom_victim"], "victim"),
        (["--root=nowhere"], "root must be a folder"),
        (["--released=logits"], "probabilities"),
    ],
)
def test_what_predictions_do_not_allow(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: Sequence[str], message: str
) -> None:
    file = table(tmp_path, phantoms(tmp_path, members=2, nonmembers=2))
    assert audit(file, *words) == 2
    assert message in one_error(capsys)
    assert not Path("runs").exists()


def test_labels_have_no_entropy(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = phantoms(tmp_path, members=2, nonmembers=2)
    for row in rows:
        save(tmp_path / row["prediction"], np.load(tmp_path / row["mask"]))
    assert audit(table(tmp_path, rows)) == 0
    assert "absent: mia-entropy: needs probabilities, labels have no entropy" in capsys.readouterr().out
    names = {one["name"]: one["attacker_knowledge"] for one in report()["membership"]}
    assert names["mia-global-loss"] == "released labels, true mask"
    assert "mia-entropy" not in names


def test_masks_of_255_alone_are_counted_or_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = phantoms(tmp_path, members=4, nonmembers=4)
    save(tmp_path / rows[0]["mask"], np.full(SIZES[0], 255, np.uint8))
    assert audit(table(tmp_path, rows), "--attacks=[mia-dice]") == 0
    assert "1 predictions of the victim have masks of 255 alone: not scored" in capsys.readouterr().out
    (dice,) = [one for one in report()["membership"] if one["name"] == "mia-dice"]
    assert dice["results"]["members"] == 3
    assert dice["data"]["left_out"]["victim"] == {"unlabelled": 1}
    for row in rows[1:]:
        save(tmp_path / row["mask"], np.load(tmp_path / row["mask"]) * 255)
    assert audit(table(tmp_path, rows)) == 2
    assert "which is ignored; where 255 is foreground, set threshold 127" in one_error(capsys)


def test_a_file_says_the_same_as_the_command_line(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(
        "predictions: {table: release.csv, classes: 3, released: sigmoid, root: data}\nattacks: [mia-dice]\n"
    )
    expected = PredictionSettings(
        Predictions("release.csv", 3, root="data", released="sigmoid"), attacks=["mia-dice"], name="mine"
    )
    assert read_prediction_settings(["--config", str(file)]) == expected
    words = ["--predictions", "release.csv", "--classes", "3", "--released=sigmoid", "--root", "data"]
    assert read_prediction_settings([*words, "--attacks", "mia-dice", "--name=mine"]) == expected
    with pytest.raises(InputError, match="did you mean --predictions.released"):
        read_prediction_settings([*words, "--predictions.relased=labels"])


def test_sigmoid_channels_count_equally(tmp_path: Path) -> None:
    """Overlapping labels of volumes: a number is the mean of the channels' numbers."""
    rng, rows, expected = np.random.default_rng(0), Rows(), dict[str, float]()
    for number in range(4):
        p = rng.uniform(0.1, 0.9, (2, 5, 4, 3)).astype(np.float32)
        masks = rng.integers(0, 2, p.shape).astype(np.uint8)
        save(tmp_path / f"{number}.npy", p)
        save(tmp_path / f"{number}_m.npy", masks)
        for channel in range(2):
            save(tmp_path / f"{number}_{channel}.npy", p[channel])
            save(tmp_path / f"{number}_{channel}_m.npy", masks[channel])
        parts = [{"prediction": f"{number}_{c}.npy", "mask": f"{number}_{c}_m.npy"} for c in range(2)]
        expected[f"{number}_m"] = -float(np.mean([loss_of(tmp_path, part) for part in parts]))
        row = {"prediction": f"{number}.npy", "mask": f"{number}_m.npy", "patient": str(number)}
        rows.append(row | {"part": "train" if number < 2 else "test"})
    words = ["--classes=3", "--released=sigmoid", "--attacks=[mia-global-loss, mia-entropy, mia-dice]"]
    assert main(["audit", f"--predictions={table(tmp_path, rows)}", *words]) == 0
    scored = read_scores("runs/release/version_0/mia-global-loss")
    assert dict(zip(scored.ids.tolist(), scored.scores.tolist(), strict=True)) == pytest.approx(
        expected, abs=1e-5
    )


def regions_release(root: Path, *, depth: int = 0) -> Rows:
    """Write sigmoid channels of two labels that overlap, and masks of ids; every fourth lacks id 2."""
    rng, rows = np.random.default_rng(0), Rows()
    for number in range(12):
        inside, shape = number < 6, (*SIZES[number % 3], *([depth] * bool(depth)))
        ids = np.zeros(shape, np.uint8)
        ids[2:6, 3:7] = 1
        if number % 4:
            ids[3:5, 4:6] = 2
        ids[0] = 255
        truth = np.stack([(ids == 1) | (ids == 2), ids == 2])
        z = (3.0 if inside else 1.0) * (2.0 * truth - 1) + rng.normal(0, 0.5, truth.shape)
        save(root / f"{number}.npy", (1 / (1 + np.exp(-z))).astype(np.float32))
        save(root / f"{number}_m.npy", ids)
        row = {"prediction": f"{number}.npy", "mask": f"{number}_m.npy", "patient": str(number)}
        rows.append(row | {"part": "train" if inside else "test"})
    return rows


@pytest.mark.parametrize("depth", [0, 3])
def test_labels_that_overlap_come_from_ids(tmp_path: Path, depth: int) -> None:
    file = table(tmp_path, regions_release(tmp_path, depth=depth))
    words = ["--regions={whole: [1, 2], core: [2]}", "--attacks=[mia-global-loss, mia-entropy, mia-dice]"]
    assert main(["audit", f"--predictions={file}", *words]) == 0
    content = report()
    labels = {label["label"]: label for label in content["evidence"]["utility"][0]["labels"]}
    assert list(labels) == ["whole", "core"]
    settings = Predictions(table=str(file), regions={"whole": [1, 2], "core": [2]})
    assert settings.classes == 3
    for name, ids in (("whole", (1, 2)), ("core", (2,))):
        dice = []
        for number in range(6, 12):
            mask = np.load(tmp_path / f"{number}_m.npy")
            p = np.load(tmp_path / f"{number}.npy")[list(labels).index(name)] > 0.5
            truth, known = np.isin(mask, ids), mask != 255
            total = (p & known).sum() + truth.sum()
            dice += [2 * (p & truth & known).sum() / total] if total else []
        assert labels[name]["nonmembers"]["value"] == pytest.approx(np.mean(dice), abs=1e-6)
    assert {result["label"] for result in content["membership"]} >= {"mia-global-loss", "mia-dice"}
    assert Path("runs/release/version_0/mia-dice/exposed.png").is_file()


def test_volumes_of_several_classes_have_a_dice_each(tmp_path: Path) -> None:
    rows = Rows()
    for number in range(8):
        ids = np.zeros((6, 5, 4), np.uint8)
        ids[1:3], ids[3:5] = 1, 2
        p = np.moveaxis(np.eye(3)[ids], -1, 0) * 0.8 + 0.2 / 3
        if number >= 4:  # the second class is missed
            p[:, 3:5] = p[:, :1]
        save(tmp_path / f"{number}.npy", p.astype(np.float32))
        save(tmp_path / f"{number}_m.npy", ids)
        row = {"prediction": f"{number}.npy", "mask": f"{number}_m.npy", "patient": str(number)}
        rows.append(row | {"part": "train" if number < 4 else "test"})
    words = ["--classes=3", "--attacks=[mia-global-loss, mia-entropy]", "--images=false"]
    assert main(["audit", f"--predictions={table(tmp_path, rows)}", *words]) == 0
    labels = report()["evidence"]["utility"][0]["labels"]
    values = [(label["label"], label["members"]["value"], label["nonmembers"]["value"]) for label in labels]
    assert values == [("class1", 1, 1), ("class2", 1, 0)]
    assert "class2" in Path("runs/release/version_0/report.html").read_text()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"regions": {"whole": []}}, "ids of 1 to 254 each"),
        ({"regions": {"whole": [1], "core": [2]}, "classes": 4}, "2 regions make 3 classes"),
        ({"regions": {"whole": [1]}, "released": "labels"}, "released=labels"),
    ],
)
def test_regions_that_contradict_other_settings(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Predictions(table="release.csv", **settings)


def test_an_id_of_no_region_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = table(tmp_path, regions_release(tmp_path))
    assert main(["audit", f"--predictions={file}", "--regions={core: [2], rim: [3]}"]) == 2
    assert "must hold the ids of the regions, 0 and 255, got 1" in one_error(capsys)


def test_exclusive_channels_are_shown_by_class_numbers() -> None:
    truth, guess = torch.zeros(3, 2, 4, dtype=torch.int64), torch.zeros(3, 2, 4, dtype=torch.int64)
    truth[0, 0, 0] = truth[1, 0, 1] = truth[2, 0, 2] = guess[2, 1, 1] = 1
    truth[:, 1, 3] = 255
    ids = shown_ids(truth, guess)
    assert ids[0].tolist() == [[1, 2, 3, 0], [0, 0, 0, 255]]
    assert int(ids[1].max()) == 3
    guess[0, 1, 1] = 1  # two labels
    assert [int(part[part < 255].max()) for part in shown_ids(truth, guess)] == [4, 5]
    many = torch.ones(9, 1, 1, dtype=torch.int64)
    many[8] = 0
    assert shown_ids(many)[0].tolist() == [[8]]
