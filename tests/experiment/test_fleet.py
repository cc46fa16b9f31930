"""Difficulty calibration by means of many networks, whose answers are known."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer
from numpy.typing import NDArray
from torch import Tensor, nn

from seg_mia.callbacks.membership_curves import MembershipCurves
from seg_mia.callbacks.outputs import Findings
from seg_mia.checkpoint import Card
from seg_mia.data.base import SegmentationData
from seg_mia.data.sets.folder import Folder
from seg_mia.data.trained_model import TrainedModel
from seg_mia.errors import InputError
from seg_mia.experiment import membership
from seg_mia.experiment.answers import population_of, seen_by
from seg_mia.experiment.membership import infer, membership_summary
from seg_mia.experiment.plan import Plan, Shadow
from seg_mia.experiment.request import RunRequest
from seg_mia.experiment.requirements import check_membership, fleet_command
from seg_mia.membership import auc, auc_bounds, image_loss
from seg_mia.membership.base import Membership
from seg_mia.membership.fleet.confidences import CrossEntropy
from seg_mia.membership.fleet.scorers import Calibrated, Lira, Rmia
from seg_mia.membership.signals import ImageLoss
from seg_mia.runs import FleetNetwork, FleetRecord

PER_SIDE = 12


class Noisy(nn.Module):
    """Answers with noise of its own, and a little nearer to the truth about the images that it holds."""

    def __init__(self, images: Tensor, masks: Tensor, seed: int, gain: float) -> None:
        super().__init__()
        self.images, self.masks, self.seed, self.gain = images, masks, seed, gain

    def forward(self, x: Tensor) -> Tensor:
        answers = []
        for image in x:
            number = int(image.sum() * 1000)
            generator = torch.Generator().manual_seed(number)
            # How hard an image is all networks agree on.
            hard = 3 * torch.randn((), generator=generator)
            noise = torch.randn(image.shape[1:], generator=generator.manual_seed(1000 * number + self.seed))
            known = [n for n, own in enumerate(self.images) if torch.equal(own, image)]
            gain = self.gain * (2.0 * self.masks[known[0]] - 1) if known else torch.zeros(())
            answers.append((hard + 0.1 * noise + gain)[None])
        return torch.stack(answers)


@pytest.fixture
def root(folder: Callable[..., Path]) -> Path:
    return folder(count=4 * PER_SIDE, size=16)


def side(root: Path, number: int, *, gain: float = 1.0, **options: object) -> TrainedModel:
    """Return a network that knows its members a little, by its number."""
    given = {"root": str(root), "threshold": 127, "members": PER_SIDE, "nonmembers": PER_SIDE} | options
    data = Folder(**given)  # type: ignore[arg-type]
    data.setup()
    members = data.dataset(data.indices("members"))
    known = [members[0, row] for row in range(len(members))]
    images, masks = (torch.stack([sample[part] for sample in known]) for part in (0, 1))
    file = root.parent / f"{number}.ckpt"
    file.write_text(f"{number} {gain}")
    return TrainedModel(lambda: Noisy(images, masks, number, gain), data, file, built=[number])


def fleet(root: Path, count: int, pool: str, **options: object) -> list[TrainedModel]:
    return [
        side(root, k + 1, role="shadow", shadow=k, shadow_pool=pool, **options)  # type: ignore[arg-type]
        for k in range(count)
    ]


def trainer(_number: int = 0) -> Trainer:
    return Trainer(
        accelerator="cpu",
        max_epochs=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[MembershipCurves()],
    )


ATTACK = Membership(signal=ImageLoss(loss="cross_entropy"), scorer=Calibrated(standardise=False))


def losses(side: TrainedModel, indices: list[int], data: SegmentationData) -> NDArray[np.float64]:
    samples = data.dataset(np.array(indices))
    batch = [samples[0, row] for row in range(len(indices))]
    logits = side.network(torch.stack([sample.image for sample in batch]))
    return image_loss(logits, torch.stack([sample.mask for sample in batch]), loss="cross_entropy")


def at_chance(findings: Findings) -> bool:
    """Whether an AUC of 0.5 lies in the interval that misses it once in 500 times."""
    low, high = auc_bounds(findings.scores, findings.samples.members, tail=0.001)
    return low < 0.5 < high


@pytest.mark.parametrize("pool", ["shadow", "victim"])
def test_scores_are_the_mean_loss_without_a_sample_minus_the_victims(root: Path, pool: str) -> None:
    victim, shadows = side(root, 0), fleet(root, 4, pool)
    findings = infer(ATTACK, victim, shadows, trainer=trainer, seed=0)
    indices = findings.samples.indices.tolist()
    own = losses(victim, indices, victim.data)
    others = np.stack([losses(shadow, indices, victim.data) for shadow in shadows])
    for row, index in enumerate(indices):
        without = [k for k, shadow in enumerate(shadows) if index not in shadow.data.splits.members]
        assert len(without) == (2 if pool == "victim" else 4)
        expected = np.mean([others[k, row] for k in without]) - own[row]
        assert findings.scores[row] == pytest.approx(expected, abs=1e-6)
    assert auc(findings.scores, findings.samples.members) == 1
    assert auc(-own, findings.samples.members) < 0.95
    called = findings.scores >= findings.threshold
    assert (called == findings.samples.members).mean() > 0.9


def test_a_victim_that_learnt_nothing_is_guessed_about_by_chance(root: Path) -> None:
    shadows = fleet(root, 4, "victim")
    findings = infer(ATTACK, side(root, 0, gain=0.0), shadows, trainer=trainer, seed=0)
    assert at_chance(findings)


def test_the_control_asks_a_shadow_that_saw_none_of_the_samples(root: Path) -> None:
    victim = side(root, 0)
    findings = infer(ATTACK, victim, fleet(root, 3, "shadow"), trainer=trainer, seed=0, control=True)
    assert at_chance(findings)
    with pytest.raises(InputError, match="trained without the victim's samples, .* was trained on some"):
        infer(ATTACK, victim, fleet(root, 2, "victim"), trainer=trainer, seed=0, control=True)
    with pytest.raises(InputError, match="got 1 shadow; name two or more"):
        infer(ATTACK, victim, fleet(root, 1, "shadow"), trainer=trainer, seed=0, control=True)


def test_no_shadow_is_queried_before_the_sides_are_checked(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def queried(*_: object) -> None:
        raise AssertionError("a shadow was queried")

    monkeypatch.setattr(membership, "without_untrained", queried)
    shadows = fleet(root, 6, "victim")
    with pytest.raises(InputError, match="the victim's half has 1"):
        infer(ATTACK, side(root, 0, nonmembers=1), shadows, trainer=trainer, seed=0)
    unseen = tuple(shadows[2].data.splits.members)
    shadows[2] = replace(shadows[2], unseen=unseen)
    with pytest.raises(InputError, match=r"the shadow's half has 0, \d+ untrained left out"):
        infer(ATTACK, side(root, 0), shadows, trainer=trainer, seed=0)


def test_shadows_left_out_are_in_no_result_and_what_remains_must_suffice(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    victim, shadows = side(root, 0), fleet(root, 6, "victim")
    monkeypatch.setattr(membership, "without_untrained", lambda sides, _: sides[1:])
    findings = infer(ATTACK, victim, shadows, trainer=trainer, seed=0)
    assert list(findings.shadows) == shadows[1:]
    summary = membership_summary(
        plan_of(victim, shadows),
        ATTACK,
        None,
        victim=victim,
        findings=findings,
        settings={"attack": {}, "release": None},
    )
    assert summary.shadows == [str(shadow.file) for shadow in shadows[1:]]
    assert summary.defences["shadow"] == ["D1", "D2", "D3", "D4", "D5"]
    monkeypatch.setattr(membership, "without_untrained", lambda sides, _: sides[:1])
    with pytest.raises(InputError, match="not trained on it, 12 of 24 have fewer among 1"):
        infer(ATTACK, victim, shadows, trainer=trainer, seed=0)


def plan_of(victim: TrainedModel, shadows: Sequence[TrainedModel]) -> Plan:
    """Return the plan of an attack on networks of which shadow k was trained with the defence Dk."""
    cards = [
        Card(model={"class_path": "M", "init_args": {"defences": listed}}, classes=2, channels=3)
        for listed in ([], *([{"class_path": f"own.D{k}"}] for k in range(len(shadows))))
    ]
    known = tuple(Shadow(shadow.file, card) for shadow, card in zip(shadows, cards[1:], strict=True))
    return Plan(
        RunRequest("test"), "test", (), victim.file, checkpoint=victim.file, card=cards[0], shadows=known
    )


def test_one_shadow_of_a_pair_does_not_suffice(root: Path) -> None:
    with pytest.raises(InputError, match="not trained on it, 12 of 24 have fewer among 1"):
        infer(ATTACK, side(root, 0), fleet(root, 1, "victim"), trainer=trainer, seed=0)


def test_patients_are_seen_as_a_whole_and_what_was_never_trained_on_is_not(root: Path) -> None:
    shadow = side(root, 0, role="shadow", reference=0)
    data = shadow.data
    groups = list(data.source.groups)
    first, second = data.splits.members[:2]
    other = data.splits.nonmembers[0]
    groups[other] = groups[first]
    object.__setattr__(data.source, "groups", groups)
    unseen = TrainedModel(shadow.load, data, shadow.file, unseen=(second,))
    assert set(np.flatnonzero(seen_by(unseen))) == {*data.splits.members, other} - {second}


def test_a_population_is_of_patients_that_no_network_knows(
    root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    victim, shadows = side(root, 0), fleet(root, 2, "victim")
    data = victim.data
    pool = {*data.splits.members, *data.splits.nonmembers}
    others = sorted(set(range(len(data.source.ids))) - pool)
    outside = population_of(victim, shadows, untouched=True)
    assert outside.tolist() == others
    groups = list(data.source.groups)
    groups[others[0]] = groups[data.splits.nonmembers[0]]
    object.__setattr__(data.source, "groups", groups)
    assert population_of(victim, shadows, untouched=True).tolist() == others[1:]
    # On the other half's pool nothing is left, which a warning says.
    assert not len(population_of(victim, fleet(root, 2, "shadow"), untouched=True))
    assert "the attack compares with the evaluated samples themselves" in caplog.text


def test_reference_parts_are_outside_where_no_network_had_a_defence(root: Path) -> None:
    victim = side(root, 0, members=6, nonmembers=6, reference=12)
    shadows = fleet(root, 2, "victim", members=6, nonmembers=6, reference=12)
    reference = set(victim.data.splits.reference)
    assert reference
    with_it, without = (population_of(victim, shadows, untouched=given) for given in (True, False))
    assert reference <= set(with_it.tolist())
    assert not reference & set(without.tolist())


def test_rmia_asks_every_network_about_the_population(root: Path) -> None:
    attack = Membership(signal=CrossEntropy(), scorer=Rmia(offline_a=1.0))
    victim, shadows = side(root, 0), fleet(root, 4, "victim")
    findings = infer(attack, victim, shadows, trainer=trainer, seed=0)
    # 24 samples of the other half: scores are multiples of 1 / 24.
    assert findings.resolution == pytest.approx(10 / 24)
    np.testing.assert_allclose(findings.scores * 24, np.round(findings.scores * 24), atol=1e-9)
    assert auc(findings.scores, findings.samples.members) > 0.8


def test_a_refusal_names_the_command_of_the_fleet(root: Path) -> None:
    shadows = fleet(root, 2, "victim")
    runs = root.parent / "runs"
    networks = list[FleetNetwork]()
    for number, shadow in enumerate(shadows):
        file = runs / "x-shadow" / f"version_{number}" / "checkpoints" / "last.ckpt"
        file.parent.mkdir(parents=True)
        shadows[number] = replace(shadow, file=file)
        networks.append(FleetNetwork(run=f"x-shadow/version_{number}", shadow=number, seed=number))
    assert fleet_command(shadows) is None
    command = "python -m seg_mia fleet --config x --count 2 --pool victim"
    record = FleetRecord(command=command, pool="victim", networks=networks)
    (runs / "x-fleet" / "version_0").mkdir(parents=True)
    (runs / "x-fleet" / "version_0" / "fleet.json").write_text(record.model_dump_json())
    assert fleet_command(shadows) == "python -m seg_mia fleet --config x --pool victim"
    assert fleet_command([*shadows, side(root, 9, role="shadow")]) is None
    with pytest.raises(InputError, match="--config x --pool victim --count 4, which keeps"):
        check_membership(Membership(signal=CrossEntropy(), scorer=Lira()), side(root, 0), shadows, seed=0)
