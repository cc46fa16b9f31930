"""A network whose masks are smaller than its images, through training and attack."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from seg_mia.cli import main


@pytest.mark.usefixtures("drawn")
def test_the_unpadded_network_of_the_paper_from_fit_to_panel(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for part in ("image_samples", "mask_samples"):
        (tmp_path / "fundus" / part).mkdir(parents=True)
    for number in range(2):
        mask = np.zeros((569, 428), np.uint8)
        mask[200 + 60 * number : 320 + 60 * number, 150:280] = 255
        image = rng.integers(0, 60, (569, 428, 3), dtype=np.uint8) + mask[..., None] // 2
        Image.fromarray(image).save(tmp_path / "fundus" / "image_samples" / f"eye{number}.png")
        Image.fromarray(mask).save(tmp_path / "fundus" / "mask_samples" / f"eye{number}.png")
    small = [
        "--model.network.init_args.network.init_args.widths=[2,2,2,2,2]",
        "--trainer.max_epochs=3",
        "--trainer.check_val_every_n_epoch=2",
    ]
    assert main(["fit", "--config", "fundus_victim", f"--data.root={tmp_path / 'fundus'}", *small]) == 0
    assert main(["test", "--attack", "asma", "--attack.steps=2", "--attack.tau=1e-4"]) == 0
    results = Path("runs/fundus_victim/version_0/asma/version_0")
    assert json.loads((results / "summary.json").read_text())["images"] == 2
    with Image.open(results / "panel.png") as panel:
        assert panel.size[0] > 1000
    assert main(["predict"]) == 0
    with Image.open("runs/fundus_victim/version_0/predict/version_0/masks/eye0.png") as predicted:
        assert predicted.size == (388, 388)
    assert (
        main(
            ["fit", "--config", "fundus_victim", f"--data.root={tmp_path / 'fundus'}", "--data.augment=flip"]
        )
        == 2
    )
