"""A network of another class than the base's takes none of its arguments."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from seg_mia.cli import main
from seg_mia.config.networks import last_networks, without_replaced
from seg_mia.config.options import Layer, Option

SMALL = {"class_path": "own.Small", "init_args": {"width": 8, "classes": 3}}


def config(name: str, network: object) -> Layer:
    return Layer(name, {"model": {"init_args": {"network": network, "lr": 1}}, "seed_everything": 0})


def network_of(layer: Layer) -> object:
    content: Any = layer.content
    return content["model"]["init_args"].get("network")


def test_another_class_keeps_nothing_and_a_line_says_so() -> None:
    lines = list[str]()
    base, top = config("base.yaml", SMALL), config("top.yaml", {"class_path": "own.Large"})
    left, right = without_replaced([base, top], tell=lines.append)
    assert (network_of(left), right) == (None, top)
    assert left.content["model"]["init_args"]["lr"] == 1
    assert yaml.safe_load(left.source) == left.content
    assert network_of(base) == SMALL  # what was given is not changed
    assert lines == ["top.yaml: the network is own.Large; left out of own.Small: classes, width"]


@pytest.mark.parametrize(
    "network",
    [{"class_path": "own.Small"}, {"class_path": "Small"}, {"init_args": {"width": 9}}, "own.Small", None],
)
def test_the_same_class_keeps_its_arguments(network: object) -> None:
    layers = [config("base.yaml", SMALL), config("top.yaml", network)]
    assert without_replaced(layers) == layers


def test_a_network_inside_another_counts_for_itself() -> None:
    around = {"class_path": "own.Around", "init_args": {"mean": 0.5, "network": SMALL}}
    base = config("base.yaml", around)
    other = config("top.yaml", {"init_args": {"network": {"class_path": "own.Large"}}})
    left, _ = without_replaced([base, other])
    assert network_of(left) == {"class_path": "own.Around", "init_args": {"mean": 0.5}}
    for options in (
        [Option("--model.network.network", "own.Large")],
        [Option("--model.init_args.network.init_args.network.class_path", "own.Large")],
        [Option("--model.network", '{"init_args": {"network": {"class_path": "own.Large"}}}')],
    ):
        assert without_replaced([base], options) == [left]
    assert without_replaced([base], [Option("--model.network.mean", "own.Large")]) == [base]
    (without,) = without_replaced([base], [Option("--model.network", "own.Other")])
    assert network_of(without) is None


def test_options_of_a_network_that_a_later_one_replaces_are_left_out() -> None:
    small, large = Option("--model.network", "own.Small"), Option("--model.network", "own.Large")
    width, lr = Option("--model.network.width", "8"), Option("--model.lr", "1")
    lines = list[str]()
    assert last_networks([small, width, lr, large, width], tell=lines.append) == [lr, large, width]
    assert lines == ["--model.network: the network is own.Large; left out of own.Small: width"]
    inline = Option("--model.network", '{"class_path": "own.Small", "init_args": {"classes": 3}}')
    assert last_networks([inline, large], tell=lines.append) == [large]
    assert lines[1].endswith("left out of own.Small: classes")
    for same in ([small, width, small], [small, width, Option("--model.network.class_path", "Small")]):
        assert last_networks(same, tell=lines.append) == same
    # A network inside a network counts for itself.
    inner, other = (
        Option("--model.network.network", "own.Small"),
        Option("--model.network.network", "own.Else"),
    )
    deep, mean = (
        Option("--model.network.init_args.network.init_args.width", "8"),
        Option("--model.network.mean", "0"),
    )
    assert last_networks([small, mean, inner, deep, other]) == [small, mean, other]
    assert last_networks([small, mean, inner, deep, large]) == [large]
    assert len(lines) == 2


def test_a_file_that_names_the_same_class_keeps_the_arguments() -> None:
    base = config("base.yaml", SMALL)
    Path("net.yaml").write_text(yaml.safe_dump({"class_path": "own.Small", "init_args": {"width": 9}}))
    assert without_replaced([base], [Option("--model.network", "net.yaml")]) == [base]
    Path("net.yaml").write_text(yaml.safe_dump({"init_args": {"width": 9}}))
    assert without_replaced([base], [Option("--model.network", "net.yaml")]) == [base]
    Path("net.yaml").write_text(yaml.safe_dump({"class_path": "own.Large"}))
    (left,) = without_replaced([base], [Option("--model.network", "net.yaml")])
    assert network_of(left) is None


def test_a_training_does_not_take_the_arguments_of_its_bases_network(
    tiny: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    network = "{class_path: seg_mia.models.unpadded_unet.UnpaddedUNet, init_args: {channels: 3}}"
    Path("other.yaml").write_text(f"base: {tiny}\nmodel: {{init_args: {{network: {network}}}}}\n")
    with pytest.raises(SystemExit):
        main(["fit", "--config", "other.yaml", "--print_config"])
    captured = capsys.readouterr()
    printed = yaml.safe_load(captured.out)["model"]["init_args"]["network"]["init_args"]
    assert "encoder" not in printed
    assert printed["classes"] == 2  # its own default, not the base's
    (line,) = [line for line in captured.err.splitlines() if "left out" in line]
    assert line == (
        "other.yaml: the network is seg_mia.models.unpadded_unet.UnpaddedUNet; left out of "
        "seg_mia.models.smp.Smp: channels, classes, depth, encoder"
    )
