"""Training the texture attack's auto-encoders: what is learned, what a run leaves, whose run it is not."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional
from torch.testing import assert_close

from seg_mia.cli import main
from seg_mia.data.sets.phantom import Phantom
from seg_mia.errors import InputError
from seg_mia.metrics.similarity import ssim
from seg_mia.models.imagenet import STD
from seg_mia.models.style_autoencoder import LAYERS, LEVELS, TextureAutoEncoders, load_texture
from seg_mia.models.vgg import PLACES
from seg_mia.tasks.style_autoencoder import TextureTraining, coloured
from tests.trainings import KilledError, content, log_of, one_error, same, weights

WIDTHS = (2, 3, 4, 5, 6)
RUN = Path("runs/texture_phantom/version_0")
DATA = {"size": 32, "patients": 8, "members": 4, "nonmembers": 3, "batch_size": 2}
FIT = [
    *("fit", "--config", "texture_phantom", "--model.network.widths", str(list(WIDTHS))),
    *("--trainer.max_epochs=2", "--trainer.check_val_every_n_epoch=1", "--trainer.precision=32-true"),
    *("--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false"),
    "--trainer.enable_model_summary=false",
    *(f"--data.{name}={value}" for name, value in DATA.items()),
]


def network() -> TextureAutoEncoders:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return TextureAutoEncoders(widths=WIDTHS)


def task(**settings: Any) -> TextureTraining:
    # From a config the arguments are plain values; Lightning warns of a module given in Python.
    with pytest.warns(UserWarning, match="already saved during checkpointing"):
        return TextureTraining(network(), **settings)


def noise(*shape: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0))


def held_out() -> Tensor:
    """Return the images that a run of FIT is judged by, (3, 3, 32, 32)."""
    data = Phantom(role="shadow", **DATA)  # type: ignore[arg-type]
    data.setup()
    return torch.cat([batch.image for batch in data.val_dataloader()]).expand(-1, 3, -1, -1)


def vgg(file: Path) -> dict[str, Tensor]:
    """Write a VGG-19 that is as narrow as the auto-encoders, under torchvision's names; return its layers."""
    torch.manual_seed(1)
    state, inward = dict[str, Tensor](), 3
    for name, place in zip(LAYERS, PLACES, strict=True):
        layer = nn.Conv2d(inward, WIDTHS[int(name[4]) - 1], 3)
        inward = layer.out_channels
        state |= {f"features.{place}.{part}": value for part, value in layer.state_dict().items()}
    torch.save(state, file)
    own = zip(LAYERS, PLACES, strict=True)
    return {f"{name}.{part}": state[f"features.{place}.{part}"] for name, place in own for part in PARTS}


PARTS = ("weight", "bias")


def test_from_vgg_the_encoder_stays() -> None:
    frozen = task(vgg="vgg.pth").network
    assert not any(parameter.requires_grad for parameter in frozen.encoders.parameters())
    assert all(parameter.requires_grad for parameter in frozen.decoders.parameters())
    assert all(parameter.requires_grad for parameter in task().parameters())


def test_features_count_for_decoders_alone() -> None:
    # Otherwise an encoder could lower the loss by making its features small.
    training = task()
    images = noise(2, 3, 32, 32)
    wanted = training.network.encode_all(images)[3].detach()
    again = training.network.decode(3, wanted)
    loss = training._feature_loss(3, again, wanted)
    expected = functional.mse_loss(training.network.encode(3, again), wanted) / wanted.var()
    assert_close(loss, expected)
    loss.backward()  # type: ignore[no-untyped-call]
    assert all(parameter.grad is None for parameter in training.network.encoders.parameters())
    assert any(parameter.grad is not None for parameter in training.network.decoders["3"].parameters())
    assert all(parameter.requires_grad for parameter in training.network.parameters())


def test_a_level_costs_what_its_reconstruction_misses(monkeypatch: pytest.MonkeyPatch) -> None:
    images = noise(2, 1, 32, 32)
    colour = images.expand(-1, 3, -1, -1)
    batch: Any = type("Batch", (), {"image": images})
    training = task(feature_weight=0)
    monkeypatch.setattr(training, "log", lambda *_, **__: None)
    with torch.no_grad():
        total = torch.zeros(())
        for level in LEVELS:
            again = training.network.decode(level, training.network.encode(level, colour), bounded=False)
            total += (again - colour).square().mean()
        assert_close(training.training_step(batch, 0), total)


def test_grey_becomes_three_channels_and_other_shapes_are_refused() -> None:
    grey, colour = noise(2, 1, 32, 48), noise(2, 3, 16, 16)
    assert_close(coloured(grey), torch.cat([grey] * 3, 1), rtol=0, atol=0)
    assert coloured(colour).data_ptr() == colour.data_ptr()
    for shape in ((1, 2, 32, 32), (1, 1, 32, 40), (1, 1, 24, 32)):
        with pytest.raises(InputError, match="multiples of 16.*set --data.size"):
            coloured(noise(*shape))


@pytest.mark.usefixtures("drawn")
def test_what_a_run_leaves(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(FIT) == 0
    said = capsys.readouterr().out
    assert f"test --attack adain --attack.weights {RUN}" in said
    assert [file.name for file in (RUN / "checkpoints").iterdir()] == ["last.ckpt"]
    with Image.open(RUN / "reconstructions.png") as sheet:
        assert sheet.width > 6 * 200  # the image and five levels

    found = load_texture(RUN / "texture")
    state = {name: tensor for name, tensor in weights(RUN).items() if name.startswith("network.")}
    assert_close({f"network.{name}": value for name, value in found.state_dict().items()}, state)
    for level in LEVELS:  # one encoder, cut off at five places
        own = found.encoders[str(level)].state_dict()
        assert_close(dict(own), {name: found.encoders["5"].state_dict()[name] for name in own})

    images = held_out()
    assert len(images) == 3
    last = log_of(RUN)[-1]
    assert last["epoch"] == 1
    with torch.no_grad():
        for level in LEVELS:
            again = found.decode(level, found.encode(level, images))
            likeness = float(ssim(again, images).mean())
            assert last[f"val/ssim_{level}"] == pytest.approx(likeness, abs=1e-5)
            assert f"{likeness:.3f}" in said.partition("levels 1 to 5")[2]


def test_twenty_steps_beat_the_mean_of_an_image() -> None:
    words = ["--model.network.widths=[8, 8, 8, 8, 8]", "--trainer.max_epochs=20", "--data.batch_size=4"]
    assert main([*FIT, *words, "--model.lr=0.01", "--trainer.check_val_every_n_epoch=20"]) == 0
    images, found = held_out(), load_texture(RUN / "texture")
    with torch.no_grad():
        for level, share in ((1, 0.5), (2, 0.8)):  # of the variance, at most
            missed = (found.decode(level, found.encode(level, images)) - images).square().mean()
            assert missed < share * images.var()


def test_an_interrupted_run_goes_on_as_if_nothing_had_happened(monkeypatch: pytest.MonkeyPatch) -> None:
    assert main([*FIT, "--trainer.max_epochs=3"]) == 0
    step = TextureTraining.training_step

    def dies(self: TextureTraining, batch: Any, batch_idx: int) -> Tensor:
        if self.trainer.current_epoch == 1 and batch_idx == 1:
            raise KilledError
        return step(self, batch, batch_idx)

    with monkeypatch.context() as patched:
        patched.setattr(TextureTraining, "training_step", dies)
        with pytest.raises(KilledError):
            main([*FIT, "--trainer.max_epochs=3"])
    other = RUN.with_name("version_1")
    assert not (other / "texture").exists()
    assert main(["fit", "--resume", str(other)]) == 0
    same(RUN, other)
    for file in (RUN / "texture").iterdir():
        one, two = (torch.load(path, weights_only=True) for path in (file, other / "texture" / file.name))
        assert_close(one, two, rtol=0, atol=0)


def test_decoders_of_vgg_19(tmp_path: Path) -> None:
    file = tmp_path / "vgg.pth"
    layers = vgg(file)
    words = [*FIT, "--trainer.max_epochs=1", "--model.vgg", str(file)]
    assert main(words) == 0
    file.unlink()  # the checkpoint holds what a longer training needs
    assert main(["fit", "--resume", str(RUN), "--trainer.max_epochs=2"]) == 0
    assert content(RUN)["epoch"] == 1
    found = load_texture(RUN / "texture")
    for level in LEVELS:
        state = found.encoders[str(level)].state_dict()
        assert_close(state.pop("conv0.weight")[..., 0, 0], torch.diag(1 / torch.tensor(STD)))
        state.pop("conv0.bias")
        assert_close(dict(state), {name: layers[name] for name in state}, rtol=0, atol=0)
        assert found.decoders[str(level)].state_dict()["conv11.bias"].all()  # which began with 0


def test_refusals(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    def said(*words: str) -> str:
        capsys.readouterr()
        assert main([*FIT, *words]) == 2
        return one_error(capsys)

    assert "multiples of 16, got (1, 40, 40); set --data.size" in said("--data.size=40")
    assert "five numbers of channels" in said("--model.network.widths=[2, 3]")
    assert "lr must be above 0" in said("--model.lr=0")
    assert "feature_weight at least 0" in said("--model.feature_weight=-1")
    assert "schedule" in said("--model.schedule=linear")
    assert "found none at nowhere.pth" in said("--model.vgg=nowhere.pth")
    torch.save({"features.0.weight": torch.zeros(64, 3, 3, 3)}, tmp_path / "vgg.pth")
    assert "must hold features.0.bias" in said(f"--model.vgg={tmp_path / 'vgg.pth'}")
    vgg(tmp_path / "vgg.pth")
    wide = said(f"--model.vgg={tmp_path / 'vgg.pth'}", "--model.network.widths=[4, 3, 4, 5, 6]")
    assert "set its widths to [64, 128, 256, 512, 512]" in wide


def test_auto_encoders_are_nobodys_victim_and_nobodys_shadow(
    tiny: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def said(*words: str) -> str:
        capsys.readouterr()
        assert main([*words]) == 2
        return one_error(capsys)

    for role in ("victim", "shadow"):
        assert main([*FIT, f"--data.role={role}", "--trainer.max_epochs=1"]) == 0
    assert "no victim found under runs/" in said("test", "--attack", "asma")
    assert "no victim found under runs/" in said("validate")
    assert "no victim found under runs/" in said("test", "--attack", "mia-global-loss")

    assert main(["fit", "--config", str(tiny)]) == 0
    file = Path("runs/tiny/version_0/checkpoints/last.ckpt")
    for version in ("version_0", "version_1"):  # newer than the victim
        shutil.copy(RUN.with_name(version) / "checkpoints" / "last.ckpt", "kept.ckpt")
        shutil.copy("kept.ckpt", RUN.with_name(version) / "checkpoints" / "last.ckpt")
    capsys.readouterr()
    assert main(["test", "--attack", "asma", "--attack.steps=1"]) == 0
    assert f"victim: {file}" in capsys.readouterr().out
    assert "no shadow under runs/ matches victim" in said("test", "--attack", "mia-global-loss")

    for words in (["test", "--attack", "asma"], ["validate"], ["predict"]):
        line = said(*words, "--victim", str(RUN))
        assert "holds a TextureTraining, not a segmentation network" in line
    inferred = ["test", "--attack", "mia-global-loss", "--victim", str(file)]
    assert "version_1" in said(*inferred, "--shadow", str(RUN.with_name("version_1")))
    crafted = ["test", "--attack", "asma", "--attack.steps=1", "--victim", str(file)]
    assert said(*crafted, "--attack.surrogate", str(RUN))


def test_the_shipped_config_trains_as_it_stands() -> None:
    few = ["--data.members=8", "--data.nonmembers=4", "--data.patients=20", "--data.size=32"]
    words = [
        "--trainer.max_epochs=1",
        "--trainer.check_val_every_n_epoch=1",
        "--trainer.enable_progress_bar=false",
    ]
    assert main(["fit", "--config", "texture_quick", *few, *words]) == 0
    assert (Path("runs") / "texture_quick" / "version_0" / "texture" / "D5.pth").is_file()
