"""An audit whose victim is a server on this machine: queried, never differentiated, queries counted."""

import io
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from seg_mia.cli import main


class Server:
    """A segmentation by a threshold, which remembers how many images it was asked."""

    def __init__(self) -> None:
        self.asked = 0
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                content = self.rfile.read(int(self.headers["Content-Length"]))
                answer = io.BytesIO()
                np.save(answer, server.predict(np.load(io.BytesIO(content), allow_pickle=False)))
                self.send_response(200)
                self.end_headers()
                self.wfile.write(answer.getvalue())

            def log_message(self, *_: Any) -> None:
                """Print nothing."""

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}/predict"

    def predict(self, images: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """Return probabilities of bright pixels."""
        self.asked += len(images)
        foreground = 1 / (1 + np.exp(-20 * (images[:, :1] - 0.6)))
        return np.concatenate([1 - foreground, foreground], axis=1).astype(np.float32)


@pytest.fixture
def server() -> Iterator[Server]:
    running = Server()
    thread = threading.Thread(target=running.http.serve_forever, daemon=True)
    thread.start()
    yield running
    running.http.shutdown()
    running.http.server_close()
    thread.join()


def audit_file(config: Path, server: Server, root: Path, attacks: list[Any]) -> Path:
    """Write an audit of the server, and the configs of victim and shadow, on squares with stated parts."""
    names = sorted(file.name for file in (root / "images").iterdir())
    parts = ["train"] * 4 + ["test"] * 4 + ["shadow"] * 8
    lines = [f"{name},{part}" for name, part in zip(names, parts, strict=True)]
    (root / "list.csv").write_text("\n".join(["case,part", *lines]))
    content = yaml.safe_load(config.read_text())
    content["data"]["init_args"] |= {"parts": "list.csv", "members": None, "nonmembers": None}
    config.write_text(yaml.safe_dump(content))
    # `classes` of the base's network would be the service's, too
    service = {"url": server.url, "version": "2026-11", "batch": 4, "classes": 2}
    network = {"class_path": "seg_mia.models.service.Service", "init_args": service}
    deployed = {"base": str(config), "model": {"init_args": {"network": network}}}
    Path("deployed.yaml").write_text(yaml.safe_dump(deployed))
    audit = {
        "version": 1,
        "victim": "deployed.yaml",
        "shadow": {"config": str(config), "options": {"data.members": 4, "data.nonmembers": 4}},
        "attacks": attacks,
        "trust": ["seg_mia.models.service.Service"],
        "workers": 1,
    }
    file = Path("service_audit.yaml")
    file.write_text(yaml.safe_dump(audit))
    return file


def square(queries: int) -> dict[str, Any]:
    return {"attack": "square", "settings": {"queries": queries}, "data": {"limit": 2}}


def test_gradient_attacks_on_a_service_are_refused_before_any_training(
    tiny: Path, folder: Callable[..., Path], server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    file = audit_file(tiny, server, folder(16), ["pgd", square(3)])
    assert main(["audit", "--config", str(file)]) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert "pgd needs gradients, and the victim is a Service, which gives answers only; use square" in line
    assert "`{attack: pgd, settings: {surrogate: shadow}}`" in line
    assert server.asked == 0
    assert not Path("runs").exists()


def test_gradient_attacks_on_a_service_that_options_name_are_refused_likewise(
    tiny: Path, folder: Callable[..., Path], server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    file = audit_file(tiny, server, folder(16), ["pgd"])
    options = {"model.network": "seg_mia.models.service.Service", "model.network.url": server.url}
    content = yaml.safe_load(file.read_text()) | {"victim": {"config": str(tiny), "options": options}}
    file.write_text(yaml.safe_dump(content))
    assert main(["audit", "--config", str(file)]) == 2
    assert "pgd needs gradients, and the victim is a Service" in capsys.readouterr().err
    assert server.asked == 0


@pytest.mark.slow
def test_a_server_is_audited_by_its_answers(tiny: Path, folder: Callable[..., Path], server: Server) -> None:
    limited = {"data": {"limit": 2}, "settings": {"surrogate": "shadow", "steps": 2}}
    attacks = ["mia-global-loss", square(6), {"attack": "pgd", **limited}, {"attack": "transfer", **limited}]
    file = audit_file(tiny, server, folder(16), attacks)
    assert main(["audit", "--config", str(file)]) == 0
    audit = Path("runs/service_audit/version_0")
    results = {entry["name"]: entry for entry in json.loads((audit / "audit.json").read_text())["attacks"]}
    queried = {name: result["victim_queries"] for name, result in results.items()}
    assert queried["mia-blind"] == 0
    assert queried["mia-global-loss"] >= 8  # four members, four non-members, and the check of the version
    assert 2 <= results["square"]["results"]["queries"]["mean"] <= 6
    assert results["square"]["attacker_knowledge"] == "probabilities"
    assert results["pgd"]["attacker_knowledge"] == "a surrogate, no answer of the victim"
    assert results["transfer"]["attacker_knowledge"] == "none of the victim; networks of the attacker"
    assert sum(queried.values()) <= server.asked
    page = (audit / "report.html").read_text()
    total = sum(queried.values())
    assert f"the service {server.url}, version 2026-11, which gives probabilities: {total} images" in page
    evidence = json.loads((audit / "report.json").read_text())["evidence"]
    threats = {row["attack"]: row for row in evidence["threats"]}
    assert threats["square"]["queries"] == results["square"]["results"]["queries"]["mean"]
    assert main(["audit", "--config", str(file)]) == 0  # the same version, with the same answers
    assert len(list(Path("runs").glob("deployed/version_0/square/version_*"))) == 1
