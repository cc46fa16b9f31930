"""Adapters of a frozen encoder in a whole private training: trained, loaded, attacked."""

from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

from seg_mia.checkpoint import load_victim
from seg_mia.cli import main
from seg_mia.models.smp import Smp
from seg_mia.models.wrapper import bare
from tests.defences.dp.helpers import EVERYTHING, ONE_EPOCH, UNLIMITED, fit, option
from tests.trainings import weights

FROZEN = ["--model.frozen=[encoder]", "--model.encoder_weights=imagenet", option("batch_norm", "fixed")]


@pytest.mark.parametrize(
    "kind",
    [
        ["--model.network.adapters=scale_shift"],
        ["--model.network.adapters=low_rank", "--model.network.rank=1"],
    ],
    ids=["scale_shift", "low_rank"],
)
def test_adapters_are_trained_privately_stored_loaded_and_attacked(kind: list[str], head: Path) -> None:
    words = [*kind, "--model.network.adapted=[layer4.*.conv2]", *FROZEN, *UNLIMITED, EVERYTHING, ONE_EPOCH]
    folder = fit(head, *words, option("gradients", "fused"))
    victim = load_victim(folder / "checkpoints" / "last.ckpt").eval()
    network = bare(victim)
    assert isinstance(network, Smp)
    assert network.adapters is not None
    assert list(network.adapters) == ["layer4_0_conv2", "layer4_1_conv2"]
    before = {name: each for name, each in Smp.imagenet_encoder(network).items() if "num_batches" not in name}
    kept = network.encoder.state_dict()
    assert all(torch.equal(kept[name], each) for name, each in before.items())
    stored = {name: each for name, each in weights(folder).items() if ".adapters." in name}
    assert len(stored) == len(list(network.adapters.parameters())) == 4
    loaded = [each.detach() for each in network.adapters.parameters()]
    assert_close(list(stored.values()), loaded, rtol=0, atol=0)
    assert all(bool(each.any()) for each in loaded)

    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        changed = victim(images)
        for parameter in network.adapters.parameters():
            parameter.zero_()
        assert not torch.allclose(victim(images), changed)  # the hooks of the loaded network are its own
    assert main(["test", "--attack", "fgsm", "--data.limit=1"]) == 0
    assert (folder / "fgsm" / "version_0" / "summary.json").is_file()
