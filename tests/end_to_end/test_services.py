"""A network behind a function, and one in a file: adopted without weights, and attacked."""

import json
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from seg_mia.checkpoint import load_victim, read_card
from seg_mia.cli import main
from seg_mia.runs import checkpoint_file
from tests.trained_runs import Trained

CLIENT = """
import torch

from seg_mia.checkpoint import load_victim

network = load_victim("{checkpoint}")
asked = []


def predict(images):
    asked.append(len(images))
    with torch.no_grad():
        p = network(torch.from_numpy(images)).sigmoid()
    return torch.cat([1 - p, p], dim=1).numpy()
"""
ADOPTED = "runs/deployed/version_0"


@pytest.fixture
def stated(tiny: Path, folder: Callable[..., Path]) -> Path:
    """A config whose data says who was trained on."""
    names = sorted(file.name for file in (folder() / "images").iterdir())
    parts = ["train"] * 4 + ["test"] * 2 + ["shadow"] * 6
    lines = [f"{name},{part}" for name, part in zip(names, parts, strict=True)]
    (folder() / "list.csv").write_text("\n".join(["case,part", *lines]))
    tiny.write_text(tiny.read_text().replace("threshold: 127,", "threshold: 127, parts: list.csv,"))
    return tiny


def deployed(config: Path, network: str) -> Path:
    """The config with another network."""
    text = config.read_text()
    start, end = text.index("    network:"), text.index("    lr:")
    file = config.with_name("deployed.yaml")
    file.write_text(f"{text[:start]}    network: {network}\n{text[end:]}")
    return file


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stated: Path, trained: Trained) -> Iterator[Path]:
    """A deployed network as a function, `deployed_client.predict`, and the config that names it."""
    checkpoint = Path(checkpoint_file(trained(stated, "--seed_everything", "7"))).resolve()
    (tmp_path / "deployed_client.py").write_text(CLIENT.format(checkpoint=checkpoint))
    monkeypatch.syspath_prepend(tmp_path)
    arguments = "{function: deployed_client.predict, batch: 2}"
    yield deployed(stated, f"{{class_path: seg_mia.models.service.Service, init_args: {arguments}}}")
    sys.modules.pop("deployed_client", None)


def summary(attack: str, victim: str = ADOPTED) -> dict[str, object]:
    (file,) = Path(victim, attack).glob("version_*/summary.json")
    content: dict[str, object] = json.loads(file.read_text())
    return content


def test_a_service_is_adopted_without_weights_queried_and_refused_to_gradients(
    client: Path, stated: Path, trained: Trained, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["adopt", "--config", str(client)]) == 0
    assert "--trust deployed_client.predict" in capsys.readouterr().out
    own = trained(stated, "--seed_everything", "7")
    trained(stated, "--data.role=shadow")
    victim = ["--victim", ADOPTED, "--trust", "deployed_client.predict"]

    assert main(["test", "--attack", "pgd", "--victim", ADOPTED]) == 2
    assert "--trust deployed_client.predict" in capsys.readouterr().err.splitlines()[-1]

    assert main(["test", "--attack", "pgd", *victim]) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert "pgd needs gradients, and Service gives answers only; use --attack square" in line
    assert "--attack.surrogate RUN" in line

    assert main(["test", "--attack", "square", "--attack.queries", "5", *victim]) == 0
    assert "5.000 queries per image" in capsys.readouterr().out
    results = summary("square")["results"]
    assert isinstance(results, dict)
    assert 1 <= results["queries"]["mean"] <= 5

    for words in (victim, ["--victim", str(own)]):
        assert main(["test", "--attack", "mia-global-loss", *words]) == 0
    by_answers, by_weights = (summary("mia-global-loss", run)["results"] for run in (ADOPTED, str(own)))
    assert by_answers == by_weights


def test_a_surrogate_attacks_a_service_without_asking_it(
    client: Path, stated: Path, trained: Trained, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["adopt", "--config", str(client)]) == 0
    surrogate = trained(stated, "--data.role=shadow")
    words = ["--victim", ADOPTED, "--trust", "deployed_client.predict", "--attack.surrogate", str(surrogate)]
    capsys.readouterr()
    asked = sys.modules["deployed_client"].asked
    asked.clear()
    assert main(["test", "--attack", "pgd", "--attack.steps", "2", *words]) == 0
    found = summary("pgd")
    assert found["attacker_knowledge"] == "a surrogate, no answer of the victim"
    assert found["no_gradient"] == 0
    assert sum(asked) < 2 * 8  # of two images: the originals, the results, also rounded, twice; no steps
    results = found["results"]
    assert isinstance(results, dict)
    assert results["dice_adversarial"]["mean"] == results["transfer_dice"]["mean"]
    assert results["linf"]["mean"] > 0


def test_a_network_in_a_file_is_audited_like_itself(
    stated: Path, tmp_path: Path, trained: Trained, capsys: pytest.CaptureFixture[str]
) -> None:
    own = trained(stated, "--seed_everything", "7")
    network = load_victim(checkpoint_file(own))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(network, torch.rand(1, 3, 32, 32))  # type: ignore[no-untyped-call]
        torch.jit.save(traced, tmp_path / "model.ts")
    config = deployed(
        stated, f"{{class_path: seg_mia.models.file.TorchScript, init_args: {{file: {tmp_path}/model.ts}}}}"
    )
    assert main(["adopt", "--config", str(config)]) == 0
    (tmp_path / "model.ts").unlink()
    trust = ["--trust", "seg_mia.models.file.TorchScript"]
    capsys.readouterr()
    assert main(["test", "--attack", "pgd", "--victim", ADOPTED]) == 2
    assert "which runs code of a file" in capsys.readouterr().err.splitlines()[-1]
    for run, words in ((ADOPTED, trust), (str(own), [])):
        assert main(["test", "--attack", "pgd", "--attack.steps", "2", "--victim", run, *words]) == 0
    in_file, itself = (summary("pgd", run)["results"] for run in (ADOPTED, str(own)))
    assert in_file == itself
    network_spec = read_card(checkpoint_file(ADOPTED), trust=trust[1:]).model["init_args"]["network"]
    assert network_spec["init_args"] == {}

    assert main(["adopt", "--config", str(config)]) == 2
    assert "found none at" in capsys.readouterr().err.splitlines()[-1]


def test_a_network_without_weights_is_not_trained(client: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", "--config", str(client)]) == 2
    assert "Service has no weights to train; use adopt" in capsys.readouterr().err.splitlines()[-1]
    assert main(["adopt", "--config", str(client), "--model.weights", str(client)]) == 2
    assert "no weights of its own to load; leave out" in capsys.readouterr().err.splitlines()[-1]
