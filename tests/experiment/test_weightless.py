"""Whether a config's network is a service or a file, options included."""

from pathlib import Path

import pytest
import yaml

from seg_mia.config.options import Option
from seg_mia.experiment.weightless import answers_only, configured_network, weightless

SERVICE = "seg_mia.models.service.Service"
ADAPTER = "seg_mia.models.adapter.InputAdapter"


@pytest.fixture
def config() -> str:
    network = {"class_path": "seg_mia.models.smp.Smp", "init_args": {"encoder": "resnet18"}}
    Path("own.yaml").write_text(yaml.safe_dump({"model": {"init_args": {"network": network}}}))
    return "own.yaml"


@pytest.mark.parametrize(
    "options",
    [
        {"model.network": SERVICE, "model.network.url": "http://127.0.0.1:8000/predict"},
        {"model.init_args.network.class_path": SERVICE},
        {"model.network": ADAPTER, "model.network.network": SERVICE, "model.network.mean": "0.5"},
        {"model.network": f"{{class_path: {ADAPTER}, init_args: {{network: {{class_path: {SERVICE}}}}}}}"},
        {"model.network": "seg_mia.models.tiled.Tiled", "model.network.network": SERVICE,
         "model.network.class_path": ADAPTER},
    ],
)  # fmt: skip
def test_a_service_named_by_options_is_found(config: str, options: dict[str, str]) -> None:
    chosen = [Option(f"--{name}", value) for name, value in options.items()]
    assert weightless(config, chosen)
    assert answers_only(configured_network(config, chosen)) == "Service"


def test_a_service_replaced_by_options_is_not(config: str) -> None:
    assert not weightless(config)
    network = {"class_path": SERVICE, "init_args": {"url": "http://127.0.0.1:8000/predict"}}
    Path("service.yaml").write_text(yaml.safe_dump({"model": {"init_args": {"network": network}}}))
    assert weightless("service.yaml")
    assert not weightless("service.yaml", [Option("--model.network", "seg_mia.models.smp.Smp")])
    assert weightless("service.yaml", [Option("--model.network.batch", "2")])


def test_options_change_a_network_as_its_parser_does(config: str) -> None:
    smp = {"class_path": "seg_mia.models.smp.Smp"}
    Path("net.yaml").write_text(yaml.safe_dump({**smp, "init_args": {"depth": 3}}))
    kept = configured_network(config, [Option("--model.network", "net.yaml")])
    assert kept == {**smp, "init_args": {"encoder": "resnet18", "depth": 3}}
    Path("net.yaml").write_text(yaml.safe_dump({"class_path": SERVICE, "init_args": {"batch": 2}}))
    assert weightless(config, [Option("--model.network", "net.yaml")])
    other = [Option("--model.network", ADAPTER), Option("--model.network.mean", "0")]  # which Tiled has not
    changed = configured_network(config, [*other, Option("--model.network", "seg_mia.models.tiled.Tiled")])
    assert changed == {"class_path": "seg_mia.models.tiled.Tiled", "init_args": {}}
