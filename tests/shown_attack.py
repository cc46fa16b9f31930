"""Run the attack that CONTRIBUTING.md walks through, in a process of its own.

Its class stays known to jsonargparse for the life of a process and would turn up in other tests' lists.
"""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import yaml
from jsonargparse import ArgumentParser

from seg_mia.attacks.base import Perturbation


def load(name: str, file: Path) -> ModuleType:
    """Import a file as the module `name`."""
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def try_attack(folder: Path) -> None:
    """Build the attack from its config and from options, and run its tests."""
    attack = load("seg_mia.attacks.sparse", folder / "sparse.py")
    config = yaml.safe_load((folder / "sparse.yaml").read_text(encoding="utf-8"))
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(Perturbation, "attack")
    words = [f"--attack={config['class_path']}", f"--attack.values={config['init_args']['values']}"]
    parsed = parser.instantiate(parser.parse_args([*words, "--attack.size=0.25"])).attack
    assert parsed.settings == {"values": 100, "size": 0.25, "loss": "cross_entropy"}
    assert attack.Sparse(**config["init_args"]).attacker_knowledge
    tests = load("shown_test_sparse", folder / "test_sparse.py")
    called = [test for name, test in vars(tests).items() if name.startswith("test_")]
    assert len(called) == 3
    for test in called:
        test()


if __name__ == "__main__":
    try_attack(Path(sys.argv[1]))
