"""Where the texture attack's auto-encoders come from, and what is refused."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from seg_mia.attacks import adain as module
from seg_mia.attacks.adain import Adain, adain
from seg_mia.attacks.auto_encoders import load_pairs
from seg_mia.errors import InputError
from seg_mia.models.style_autoencoder import LEVELS, TextureAutoEncoders, load_texture, save_texture
from tests.texture_weights import by_rule

WIDTHS = (6, 6, 6, 7, 8)
CPU = torch.device("cpu")


@pytest.fixture
def compressed(tmp_path: Path) -> Path:
    """SE1..5.pth and SD1..5.pth, each nested below "model"; level 1 is wider than the others' first layer."""
    return by_rule(tmp_path / "compressed", widths=WIDTHS, first=5)


@pytest.fixture
def own(tmp_path: Path) -> tuple[TextureAutoEncoders, Path]:
    """Auto-encoders, and a folder of E1..5.pth and D1..5.pth."""
    torch.manual_seed(0)
    pairs = TextureAutoEncoders(widths=WIDTHS)
    save_texture(pairs, tmp_path / "own")
    return pairs, tmp_path / "own"


def inputs() -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    return (
        nn.Conv2d(1, 1, 1),
        torch.rand(2, 1, 32, 32, generator=generator),
        torch.randint(2, (2, 32, 32), generator=generator),
    )


def checkpoint(pairs: TextureAutoEncoders, file: Path) -> Path:
    """Write what a training writes, as far as the auto-encoders are concerned."""
    state = {f"network.{name}": tensor for name, tensor in pairs.state_dict().items()}
    torch.save({"seg_mia": {}, "state_dict": state}, file)
    return file


def test_a_folder_of_full_weights(own: tuple[TextureAutoEncoders, Path]) -> None:
    pairs, folder = own
    found = load_pairs(folder)
    assert_close(dict(found.state_dict()), dict(pairs.state_dict()), rtol=0, atol=0)
    assert found.source == f"E1..5.pth and D1..5.pth in {folder}"
    assert not found.training


def test_a_folder_of_compressed_weights(compressed: Path) -> None:
    found = load_pairs(compressed)
    assert found.source == f"SE1..5.pth and SD1..5.pth in {compressed}"
    for level in LEVELS:
        for kind, part in (("E", found.encoders), ("D", found.decoders)):
            expected = torch.load(compressed / f"S{kind}{level}.pth", weights_only=True)["model"]
            assert_close(dict(part[str(level)].state_dict()), expected, rtol=0, atol=0)


def test_full_weights_are_preferred(own: tuple[TextureAutoEncoders, Path]) -> None:
    by_rule(own[1], widths=WIDTHS)
    assert load_pairs(own[1]).source.startswith("E1..5.pth")


def test_auxiliary_layers_are_left_out(compressed: Path) -> None:
    plain = load_pairs(compressed)
    for file in compressed.iterdir():
        content = torch.load(file, weights_only=True)
        content["model"] |= {"conv11_aux.weight": torch.zeros(4, 3, 1, 1), "conv11_aux.bias": torch.zeros(4)}
        torch.save(content, file)
    assert_close(dict(load_pairs(compressed).state_dict()), dict(plain.state_dict()), rtol=0, atol=0)


def test_a_run_and_its_checkpoint(tmp_path: Path) -> None:
    pairs = TextureAutoEncoders(widths=WIDTHS)
    run = tmp_path / "runs" / "mine" / "version_0"
    save_texture(pairs, run / "texture")
    (run / "checkpoints").mkdir()
    file = checkpoint(pairs, run / "checkpoints" / "last.ckpt")
    for path in (run, file):
        found = load_pairs(path)
        assert_close(dict(found.state_dict()), dict(pairs.state_dict()), rtol=0, atol=0)
        assert not found.training
        assert str(path) in found.source
    model, x, masks = inputs()
    one, other = (Adain(weights=str(path)).run(model, x, masks) for path in (run, file))
    assert_close(one.images, other.images, rtol=0, atol=0)


def test_weights_are_read_once(
    own: tuple[TextureAutoEncoders, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    read = []

    def counted(path: str) -> TextureAutoEncoders:
        read.append(path)
        return load_texture(path)

    monkeypatch.setattr(module, "load_pairs", counted)
    attack = Adain(weights=str(own[1]))
    assert not read  # nothing is read before it is needed
    for _ in range(3):
        attack.run(*inputs())
    assert read == [str(own[1])]


def test_weights_written_anew_are_read_anew(own: tuple[TextureAutoEncoders, Path]) -> None:
    _, folder = own
    before = Adain(weights=str(folder)).pairs(CPU)
    new = TextureAutoEncoders(widths=WIDTHS)
    save_texture(new, folder)
    found = Adain(weights=str(folder)).pairs(CPU)
    assert_close(dict(found.state_dict()), dict(new.state_dict()), rtol=0, atol=0)
    assert before is not found


def test_what_is_bound_is_what_is_called(own: tuple[TextureAutoEncoders, Path]) -> None:
    settings: dict[str, Any] = {"ssim_floor": 0.2, "region": "organ", "feather": 1.0}
    attack = Adain(
        weights=str(own[1]), organs=[3], noise_mu=[0.3, 0.9], noise_sigma=0.5, fine_psize=2, **settings
    )
    found = attack.run(*inputs())
    expected = adain(
        *inputs(),
        pairs=own[0],
        organs=[3],
        noise_mu=[0.3, 0.9],
        noise_sigma=0.5,
        fine_psize=2,
        **settings,
    )
    assert_close(found.images, expected.images, rtol=0, atol=0)
    assert_close(found.notes, expected.notes, rtol=0, atol=0)


def test_without_weights() -> None:
    with pytest.raises(InputError, match="--attack.weights FOLDER.*texture_phantom"):
        Adain().run(*inputs())


def test_a_file_that_is_missing_is_named(own: tuple[TextureAutoEncoders, Path]) -> None:
    (own[1] / "D3.pth").unlink()
    (own[1] / "E5.pth").unlink()
    with pytest.raises(InputError, match="D3.pth, E5.pth are missing"):
        load_pairs(own[1])


@pytest.mark.parametrize("left", [0, 10, 0.5, -200, -1])
def test_a_truncated_file_is_named(own: tuple[TextureAutoEncoders, Path], left: float) -> None:
    file = own[1] / "D4.pth"
    content = file.read_bytes()
    file.write_bytes(content[: int(left * len(content)) if isinstance(left, float) else left])
    with pytest.raises(InputError, match=r"D4.pth is (.*damaged|no file of PyTorch.*), so it was not read"):
        load_pairs(own[1])


def of_a_level_below(folder: Path) -> None:
    (folder / "E3.pth").write_bytes((folder / "E2.pth").read_bytes())


def of_a_level_above(folder: Path) -> None:
    (folder / "E3.pth").write_bytes((folder / "E4.pth").read_bytes())


def a_decoder_of_another_level(folder: Path) -> None:
    (folder / "D3.pth").write_bytes((folder / "D4.pth").read_bytes())


def a_decoder_for_an_encoder(folder: Path) -> None:
    (folder / "E2.pth").write_bytes((folder / "D2.pth").read_bytes())


def a_decoder_of_other_widths(folder: Path) -> None:
    save_texture(TextureAutoEncoders(widths=(6, 6, 5, 7, 8)), folder.parent / "wider")
    (folder / "D4.pth").write_bytes((folder.parent / "wider" / "D4.pth").read_bytes())


def other_tensors(folder: Path) -> None:
    torch.save({"weight": torch.zeros(3)}, folder / "E1.pth")


def no_tensors(folder: Path) -> None:
    torch.save([1, 2], folder / "E1.pth")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (of_a_level_below, "E3.pth must hold conv22.weight.*no encoder of level 3"),
        (of_a_level_above, "E3.pth does not fit the encoder of its level: conv32.weight is unknown"),
        (a_decoder_of_another_level, "D3.pth does not fit the decoder of its level"),
        (a_decoder_for_an_encoder, "E2.pth"),
        (a_decoder_of_other_widths, "D4.pth does not fit the decoder of its level"),
        (other_tensors, "E1.pth must hold conv11.weight"),
        (no_tensors, "E1.pth must hold a state dict"),
    ],
)
def test_files_that_are_not_what_they_are_called(
    own: tuple[TextureAutoEncoders, Path], damage: Callable[[Path], None], message: str
) -> None:
    damage(own[1])
    with pytest.raises(InputError, match=message):
        load_pairs(own[1])


def test_folders_and_files_without_auto_encoders(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="must be a folder of E1..5.pth.*holds none"):
        load_pairs(tmp_path)
    with pytest.raises(InputError, match="nowhere"):
        load_pairs(tmp_path / "nowhere")
    victim = tmp_path / "victim.ckpt"
    torch.save({"seg_mia": {}, "state_dict": {"network.encoder.conv1.weight": torch.zeros(1)}}, victim)
    with pytest.raises(InputError, match="must hold texture auto-encoders"):
        load_pairs(victim)


def test_a_checkpoint_without_weights(tmp_path: Path) -> None:
    torch.save({"seg_mia": {}}, tmp_path / "last.ckpt")
    with pytest.raises(InputError, match="last.ckpt"):
        load_pairs(tmp_path / "last.ckpt")


def test_a_checkpoint_of_other_layers(tmp_path: Path) -> None:
    pairs = TextureAutoEncoders(widths=WIDTHS)
    pairs.decoders["2"] = nn.Identity()
    with pytest.raises(InputError, match="must hold five pairs"):
        load_pairs(checkpoint(pairs, tmp_path / "last.ckpt"))
