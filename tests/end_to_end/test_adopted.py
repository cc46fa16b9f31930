"""A network that was trained elsewhere: taken as it is, measured, attacked, never trained."""

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch.nn.functional import interpolate
from torch.testing import assert_close

from seg_mia.checkpoint import load_victim, read_card
from seg_mia.cli import main
from seg_mia.data.sets.phantom import Phantom
from seg_mia.errors import InputError
from seg_mia.experiment.trained_networks import check_members
from seg_mia.runs import checkpoint_file
from tests.trained_runs import Trained

ADOPTED = Path("runs/tiny/version_1")


@pytest.fixture
def known(tiny: Path, folder: Callable[..., Path]) -> Path:
    """A config whose data says who was trained on."""
    names = sorted(file.name for file in (folder() / "images").iterdir())
    parts = ["train"] * 4 + ["test"] * 2 + ["shadow"] * 6
    lines = [f"{name},{part}" for name, part in zip(names, parts, strict=True)]
    (folder() / "list.csv").write_text("\n".join(["case,part", *lines]))
    stated = "threshold: 127, parts: list.csv,"
    tiny.write_text(tiny.read_text().replace("threshold: 127,", stated))
    return tiny


@pytest.fixture
def elsewhere(tiny: Path, tmp_path: Path, trained: Trained) -> Path:
    """A state dict as another trainer would have saved it: of a network of other weights."""
    state = load_victim(checkpoint_file(trained(tiny, "--seed_everything", "7"))).state_dict()
    file = tmp_path / "their.pth"
    torch.save({"state_dict": {f"module.{name}": value for name, value in state.items()}}, file)
    return file


def test_an_adopted_network_is_the_one_in_the_file(
    known: Path, elsewhere: Path, tiny: Path, trained: Trained
) -> None:
    assert known == tiny
    assert main(["adopt", "--config", str(tiny), f"--model.weights={elsewhere}"]) == 0
    x = torch.rand(2, 3, 32, 32)
    theirs = load_victim(checkpoint_file("runs/tiny/version_0"))
    mine = load_victim(checkpoint_file(ADOPTED))
    assert_close(mine(x), theirs(x), rtol=0, atol=0)
    card = read_card(checkpoint_file(ADOPTED))
    assert card.training is not None
    assert card.training["adopted"] is True
    assert card.training["metrics"]["val/dice"] >= 0
    assert card.split is not None
    assert len(card.split["members"]) == 4
    trained(tiny, "--data.role=shadow")
    words = ["test", "--attack", "mia-global-loss", "--victim", str(ADOPTED)]
    assert main(words) == 0
    found = json.loads((ADOPTED / "mia-global-loss" / "version_0" / "summary.json").read_text())
    assert found["same_seed"] is False  # both say seed 0, and the victim never began with it
    assert (ADOPTED / "mia-global-loss" / "version_0" / "scores.csv").is_file()


def test_members_that_are_drawn_are_not_those_it_was_trained_on(
    tiny: Path, elsewhere: Path, trained: Trained, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["adopt", "--config", str(tiny), f"--model.weights={elsewhere}"]) == 0
    trained(tiny, "--data.role=shadow")
    assert main(["test", "--attack", "mia-global-loss", "--victim", str(ADOPTED)]) == 2
    assert "state its training samples (--data.parts)" in capsys.readouterr().err.splitlines()[-1]


def test_a_shadow_from_elsewhere_is_refused(
    known: Path, elsewhere: Path, trained: Trained, capsys: pytest.CaptureFixture[str]
) -> None:
    """Even where the data states its split, it does not state who of the shadow's half was trained on."""
    fit = ["--config", str(known)]
    trained(known)
    assert main(["adopt", *fit, f"--model.weights={elsewhere}", "--data.role=shadow"]) == 0
    both = ["--victim=runs/tiny/version_1", "--shadow=runs/tiny/version_2"]
    for attack in ("mia-global-loss", "mia-blind"):
        assert main(["test", "--attack", attack, *both]) == 2
        line = capsys.readouterr().err.splitlines()[-1]
        assert "shadow runs/tiny/version_2/checkpoints/last.ckpt was trained elsewhere" in line
        assert "state them (--data.parts, with shadow_train and shadow_test)" in line
        assert "fit --role shadow" in line
    # It is not taken for the newest shadow either.
    assert main(["test", "--attack", "mia-global-loss", both[0]]) == 2
    assert "no shadow under runs/ matches victim" in capsys.readouterr().err.splitlines()[-1]
    # Nor can it be the victim: members of that half are drawn, whatever the data states of the other.
    turned = ["--victim=runs/tiny/version_2", "--shadow=runs/tiny/version_1"]
    assert main(["test", "--attack", "mia-global-loss", *turned]) == 2
    assert "victim runs/tiny/version_2/checkpoints/last.ckpt was" in capsys.readouterr().err.splitlines()[-1]


def test_a_shadow_from_elsewhere_with_stated_members_is_taken(
    known: Path, elsewhere: Path, trained: Trained, folder: Callable[..., Path]
) -> None:
    file = folder() / "list.csv"
    parts = iter(["shadow_train"] * 3 + ["shadow_test"] * 3)
    lines = [re.sub("shadow$", lambda _: next(parts), line) for line in file.read_text().splitlines()]
    file.write_text("\n".join(lines))
    trained(known)
    whole = ["--data.role=shadow", "--data.members=null", "--data.nonmembers=null"]
    assert main(["adopt", "--config", str(known), f"--model.weights={elsewhere}", *whole]) == 0
    card = read_card(checkpoint_file("runs/tiny/version_2"))
    assert card.split is not None
    assert card.split["stated"] is True
    assert [len(card.split[part]) for part in ("members", "nonmembers")] == [3, 3]
    # The victim is version_1; the shadow is found by itself.
    assert main(["test", "--attack", "mia-global-loss", "--victim=runs/tiny/version_1"]) == 0
    found = json.loads(next(Path("runs/tiny/version_1").glob("mia-global-loss/*/summary.json")).read_text())
    assert found["shadows"] == ["runs/tiny/version_2/checkpoints/last.ckpt"]


def test_an_audit_refuses_it_before_any_training(
    tiny: Path, elsewhere: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    guess = "--attacks=[mia-global-loss]"
    plain, own = f"--victim={tiny}", f"--shadow={{config: {tiny}, options: {{data.role: shadow}}}}"
    theirs = f"{{config: {tiny}, options: {{data.role: shadow}}, weights: {elsewhere}}}"
    assert main(["adopt", "--config", str(tiny), f"--model.weights={elsewhere}", "--data.role=shadow"]) == 0
    drawn = "trained elsewhere"
    for words in (
        [plain, f"--shadow={theirs}"],
        [plain, "--shadow=runs/tiny/version_1"],
        [f"--victim={{config: {tiny}, weights: {elsewhere}}}", own],
    ):
        assert main(["audit", *words, guess]) == 2
        assert drawn in capsys.readouterr().err.splitlines()[-1]
        assert not Path("runs/tiny/version_2").exists()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_shadow_of_the_victims_weights_is_refused(
    tiny: Path, trained: Trained, capsys: pytest.CaptureFixture[str], dtype: torch.dtype
) -> None:
    """By another way than adoption: a training that changes next to nothing, of rounded weights or not."""
    state = load_victim(checkpoint_file(trained(tiny))).state_dict()
    torch.save({name: value.to(dtype).to(value.dtype) for name, value in state.items()}, "theirs.pth")
    small = ["--model.weights=theirs.pth", "--model.lr=1e-12", "--data.role=shadow"]
    assert main(["fit", "--config", str(tiny), *small]) == 0
    both = ["--victim=runs/tiny/version_0", "--shadow=runs/tiny/version_1"]
    assert main(["test", "--attack", "mia-global-loss", *both]) == 2
    assert "got the same weights" in capsys.readouterr().err.splitlines()[-1]


def test_a_reader_that_states_no_split_is_not_told_of_one() -> None:
    data = Phantom(patients=40, size=32)
    data.prepare_data()
    with pytest.raises(InputError, match="adopt it on the data it was trained on") as refused:
        check_members(data, "victim x")
    assert "--data" not in str(refused.value)


def test_an_audit_adopts(tiny: Path, elsewhere: Path, tmp_path: Path) -> None:
    file = tmp_path / "their_audit.yaml"
    file.write_text(f"""
victim: {{config: {tiny}, weights: {elsewhere}}}
attacks: [{{attack: asma, settings: {{steps: 1}}, data: {{limit: 1}}}}]
sanity_images: 0
""")
    assert main(["audit", "--config", str(file)]) == 0
    card = read_card(checkpoint_file(ADOPTED))
    assert card.training is not None
    assert card.training["adopted"] is True
    # The same file is not adopted twice; another one is.
    assert main(["audit", "--config", str(file)]) == 0
    assert not Path("runs/tiny/version_2").exists()
    content = torch.load(elsewhere, weights_only=True)
    first = next(iter(content["state_dict"]))
    content["state_dict"][first] = content["state_dict"][first] + 1
    torch.save(content, elsewhere)
    assert main(["audit", "--config", str(file)]) == 0
    assert Path("runs/tiny/version_2").exists()


HEADS = """
from torch import cat, nn, ones


class Heads(nn.Module):
    \"\"\"Squares are brighter than 100 of 255; the first map sees little of them, the last all.\"\"\"

    def __init__(self, scale: float = 1.0, offset: float = 0.0, order: str = "last") -> None:
        super().__init__()
        self.gain = nn.Parameter(ones(1))
        self.scale, self.offset, self.order = scale, offset, order

    def forward(self, x):
        grey = x.mean(1, keepdim=True)
        good = self.gain * (grey * self.scale - 0.41 - self.offset) * 50
        poor = good.roll(8, 3)
        several = {"last": (poor, poor + 1, good), "twins": (good, good + 1)}
        pair = cat((-good, good), 1) / 2
        values = {"softmax": pair.softmax(1), "sigmoid": good.sigmoid(), "quarter": good[..., ::4, ::4]}
        found = {**several, **values, "alone": good, "nan": 0 * good / 0}
        return {"aux": poor, "out": good} if self.order == "dict" else found[self.order]
"""


@pytest.fixture
def made(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The command that adopts a network with several maps."""
    (tmp_path / "their_heads.py").write_text(HEADS)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "their_heads", raising=False)
    text = tiny.read_text().replace("seg_mia.models.smp.Smp", "their_heads.Heads")
    text = text.replace("{encoder: tu-test_resnet, channels: 3, classes: 1, depth: 3}", "{}")
    tiny.write_text(text.replace("nonmembers: 2", "nonmembers: 6").replace("members: 4", "members: 6"))
    tiny.write_text(tiny.read_text().replace("batch_size", "shadow_share: 0, batch_size"))
    torch.save({"gain": torch.ones(1)}, "heads.pth")
    return ["adopt", "--config", str(tiny), "--model.weights=heads.pth"]


@pytest.mark.parametrize(("order", "head"), [("last", 2), ("dict", "out")])
def test_the_map_that_leads_on_labelled_images_is_the_one_that_is_audited(
    made: list[str], capsys: pytest.CaptureFixture[str], order: str, head: int | str
) -> None:
    assert main([*made, f"--model.network.order={order}"]) == 0
    said = [line for line in capsys.readouterr().err.splitlines() if "is evaluated" in line]
    assert len(said) == 1
    assert f"; {head} is evaluated: it has the highest Dice on 6 labelled images" in said[0]
    file = checkpoint_file("runs/tiny/version_0")
    card = read_card(file, trust=["their_heads.Heads"])
    assert card.model["init_args"]["head"] == head
    assert card.training is not None
    assert card.training["metrics"]["val/dice"] > 0.9
    victim, x = load_victim(file, trust=["their_heads.Heads"]), torch.rand(1, 3, 32, 32)
    assert_close(victim(x)[0], (x.mean(1, keepdim=True) - 0.41) * 50)
    words = ["--victim=runs/tiny/version_0", "--trust=their_heads.Heads"]
    assert main(["validate", *words]) == 0
    again = json.loads(Path("runs/tiny/version_0/validate/version_0/summary.json").read_text())
    assert again["dice"] == pytest.approx(card.training["metrics"]["val/dice"])


@pytest.mark.parametrize(
    ("order", "said"),
    [
        ("softmax", "gives probabilities, not logits: its values sum to 1 over 2 channels"),
        ("sigmoid", "gives the result of a sigmoid, not logits: its values lie in [0, 1]"),
        ("quarter", "has 1/4 of the image's size, (8, 8) for (32, 32), and is enlarged"),
    ],
)
def test_probabilities_and_smaller_maps_are_understood_and_told(
    made: list[str], capsys: pytest.CaptureFixture[str], order: str, said: str
) -> None:
    assert main([*made, f"--model.network.order={order}"]) == 0
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "the network" in line]
    assert said in line
    file, x = checkpoint_file("runs/tiny/version_0"), torch.rand(1, 3, 32, 32)
    logits = load_victim(file, trust=["their_heads.Heads"])(x)[0]
    z = (x.mean(1, keepdim=True) - 0.41) * 50
    match order:
        case "softmax":
            assert_close(logits.softmax(1)[:, 1:], z.sigmoid())
        case "sigmoid":
            assert_close(logits.sigmoid(), z.sigmoid())
        case _:
            assert_close(logits, interpolate(z[..., ::4, ::4], (32, 32), mode="bilinear"))
    assert main(["validate", "--victim=runs/tiny/version_0", "--trust=their_heads.Heads"]) == 0


def test_what_was_found_may_be_overruled(made: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*made, "--model.network.order=softmax", "--model.gives=logits"]) == 0
    assert "gives" not in capsys.readouterr().err
    assert main([*made, "--model.network.order=quarter", "--model.resize=false"]) == 2
    assert "set --model.resize true" in capsys.readouterr().err.splitlines()[-1]


def test_a_function_is_no_class(made: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    path = "torchvision.models.segmentation.fcn_resnet50"
    assert main([*made, f"--model.network={path}"]) == 2
    assert f"{path} is a function; write a class that calls it" in capsys.readouterr().err.splitlines()[-1]


def test_maps_that_are_as_good_are_asked_about(made: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*made, "--model.network.order=twins"]) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert "on 6 labelled images none is clearly best (Dice of 0: " in line
    assert "--model.head NAME" in line
    assert main([*made, "--model.network.order=twins", "--model.head=1"]) == 0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["--model.network.offset=5"], "predicts class 0 for every pixel of 6 images"),
        (["--model.network.offset=-5"], "predicts class 1 for every pixel of 6 images"),
        (["--model.network.scale=0.00392156862745098"], "with images in 0 to 255 its Dice is"),
        (
            ["--model.network.scale=-1", "--model.network.offset=-0.82"],
            "with the two classes exchanged its Dice",
        ),
    ],
    ids=["background", "foreground", "range", "exchanged"],
)
def test_a_network_that_segments_nothing_is_warned_of(
    made: list[str], capsys: pytest.CaptureFixture[str], settings: list[str], message: str
) -> None:
    assert main([*made, "--model.network.order=alone", *settings]) == 0
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "WARNING: the network" in line]
    assert message in line
    assert "its audit would be meaningless" in line


def test_a_network_that_segments_is_not_warned_of(
    made: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*made, "--model.network.order=alone"]) == 0
    assert "WARNING" not in capsys.readouterr().err


def test_answers_that_are_no_numbers_are_refused(made: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*made, "--model.network.order=nan"]) == 2
    assert "NaN or infinity on a labelled image" in capsys.readouterr().err.splitlines()[-1]
    assert not Path("runs/tiny/version_0").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "--model.weights FILE"),
        (["--model.weights=FILE", "--defence", "mixup"], "adopt trains nothing"),
        (["--model.weights=nowhere.pth"], "nowhere.pth"),
        (["--model.weights=FILE", "--resume", "runs/tiny/version_0"], "--resume does not apply to adopt"),
        (["--resume", "runs/tiny/version_0"], "--resume does not apply to adopt"),
    ],
)
def test_what_cannot_be_adopted(
    tiny: Path, elsewhere: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    config = [] if "--resume" in words else ["--config", str(tiny)]
    own = [word.replace("FILE", str(elsewhere)) for word in words]
    assert main(["adopt", *config, *own]) == 2
    assert message in capsys.readouterr().err.splitlines()[-1]
