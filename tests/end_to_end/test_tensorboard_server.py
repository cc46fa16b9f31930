"""TensorBoard itself, asked over HTTP for what an audit has logged."""

import json
import re
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from seg_mia.cli import main

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("drawn")]


@pytest.fixture
def runs(tiny: Path, tmp_path: Path) -> Path:
    file = tmp_path / "small_audit.yaml"
    file.write_text(f"""
victim: {{config: {tiny}, options: {{trainer.max_epochs: 2}}}}
shadow: {{config: {tiny}, options: {{data.role: shadow}}}}
data: {{members: 3, nonmembers: 3}}
attacks: [mia-global-loss, {{attack: asma, settings: {{steps: 2}}, data: {{limit: 1}}}}]
scorer: {{architecture: test_resnet, epochs: 1}}
defences: [none, argmax]
""")
    assert main(["audit", "--config", str(file)]) == 0
    return Path("runs")


@pytest.fixture
def server(runs: Path) -> Iterator[str]:
    """The address of a TensorBoard that has read the runs."""
    words = [
        sys.executable,
        "-m",
        "tensorboard.main",
        "--logdir",
        str(runs),
        "--host",
        "127.0.0.1",
        "--port",
        "0",
    ]
    with subprocess.Popen(words, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as process:
        try:
            assert process.stderr is not None
            said = ""
            while not (found := re.search(r"http://[\w.]+:\d+/", said)):
                line = process.stderr.readline()
                assert line, f"TensorBoard ended: {said}"
                said += line
            yield found[0]
        finally:
            process.kill()


def asked(server: str, path: str, **query: str) -> Any:
    """Return the answer; TensorBoard reads its folders in the background, so the first ones may be empty."""
    address = f"{server}data/{path}" + (f"?{urllib.parse.urlencode(query)}" if query else "")
    deadline = time.monotonic() + 120
    while True:
        with urllib.request.urlopen(address) as answer:
            body = answer.read()
            kind = answer.headers["Content-Type"]
        content = json.loads(body) if "json" in kind else body
        if content or time.monotonic() > deadline:
            return content
        time.sleep(1)


def tags(server: str, plugin: str, least: int) -> dict[str, Any]:
    """Return the tags of every run, once as many runs are known as there must be."""
    for _ in range(60):
        found: dict[str, Any] = asked(server, f"plugin/{plugin}/tags")
        if len(found) >= least:
            return found
        time.sleep(1)
    raise AssertionError(found)


def test_curves_pictures_settings_and_the_page_of_the_audit(server: str) -> None:
    scalars = tags(server, "scalars", 6)
    assert {"val/dice", "train/dice"} <= set(scalars["tiny/version_0"])
    assert "membership/auc" in scalars["tiny/version_0/mia-global-loss/version_0"]
    board = "small_audit/version_0/tensorboard"
    first = scalars[f"{board}/0_none_seed_0"]
    assert {"utility/dice_nonmembers", "privacy/auc/mia-global-loss", "robustness/iou/asma"} <= set(first)

    points = asked(server, "plugin/scalars/scalars", run="tiny/version_0", tag="val/dice")
    assert len(points) == 2
    assert all(0 <= value <= 1 for _, _, value in points)

    images = tags(server, "images", 3)
    for run, tag in (
        ("tiny/version_0", "val/panel"),
        ("tiny/version_0/asma/version_0", "attack/panel"),
        ("tiny/version_0/mia-global-loss/version_0", "membership/roc"),
    ):
        assert tag in images[run]
        (sheet, *_) = asked(server, "plugin/images/images", run=run, tag=tag, sample="0")
        picture = asked(server, f"plugin/images/individualImage?{sheet['query']}")
        assert picture.startswith(b"\x89PNG")

    layout = asked(server, "plugin/custom_scalars/layout")
    titles = [category["title"] for category in layout["category"]]
    assert titles == ["utility", "privacy", "robustness"]
    patterns = [
        tag for one in layout["category"] for chart in one["chart"] for tag in chart["multiline"]["tag"]
    ]
    logged = {tag for run in scalars.values() for tag in run}
    unused = [one for one in patterns if not any(re.match(one, tag) for tag in logged)]
    assert unused == []  # no chart of the page asks for what nothing logs

    experiment = asked(server, "plugin/hparams/experiment", request="{}")
    names = {info["name"] for info in experiment["hparamInfos"]}
    assert {"defence", "seed", "model.lr"} <= names
    measures = {info["name"]["tag"] for info in experiment["metricInfos"]}
    assert {"val/dice", "attack/iou", "privacy/auc/mia-global-loss"} <= measures
