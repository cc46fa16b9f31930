import io
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from seg_mia.config.spec import check_spec, is_self_contained, paths_to_trust
from seg_mia.errors import InputError
from seg_mia.models import service
from seg_mia.models.service import Service

CLIENT = """
import numpy as np

calls = []
failures = 0


def probabilities(images):
    global failures
    calls.append(len(images))
    if failures:
        failures -= 1
        raise TimeoutError("busy")
    p = images[:, :1] * 0.5 + 0.25
    return np.concatenate([1 - p, p], axis=1)


def labels(images):
    return (images[:, 0] > 0.5).astype(np.uint8)


no_function = 3
"""


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A client's module, importable as `audited_client`."""
    (tmp_path / "audited_client.py").write_text(CLIENT)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(service, "_FIRST_WAIT", 0.0)
    import audited_client  # type: ignore[import-not-found]

    yield audited_client
    del sys.modules["audited_client"]


def images(count: int = 5) -> Tensor:
    return torch.rand(count, 1, 4, 6, generator=torch.Generator().manual_seed(0))


def test_probabilities_become_logits_batch_by_batch(client: Any) -> None:
    network, x = Service(function="audited_client.probabilities", batch=2), images()
    assert_close(network(x).softmax(1)[:, 1:], x * 0.5 + 0.25)
    assert client.calls == [2, 2, 1]
    assert network.queries == 5
    assert not network.state_dict()


@pytest.mark.usefixtures("client")
def test_labels_become_certain_logits() -> None:
    network, x = Service(function="audited_client.labels", gives="labels", classes=3), images()
    logits = network(x)
    assert logits.shape == (5, 3, 4, 6)
    assert torch.equal(logits.argmax(1), (x[:, 0] > 0.5).long())


def test_a_failed_call_is_repeated_and_each_attempt_counted(client: Any) -> None:
    client.failures = 2
    network = Service(function="audited_client.probabilities", retries=2)
    assert network(images(3)).shape == (3, 2, 4, 6)
    assert client.calls == [3, 3, 3]
    assert network.queries == 9


def test_a_service_that_keeps_failing_is_told_in_one_line(client: Any) -> None:
    client.failures = 9
    with pytest.raises(InputError, match="failed in 2 attempts: TimeoutError: busy"):
        Service(function="audited_client.probabilities", retries=1)(images())


@pytest.mark.usefixtures("client")
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "either a function or a url"),
        ({"function": "a.b", "url": "http://localhost/"}, "either a function or a url"),
        ({"function": "audited_client.probabilities", "batch": 0}, "batch must be at least 1"),
        ({"function": "absent_client.f"}, "PYTHONPATH"),
        ({"function": "audited_client.no_function"}, "path of a function"),
        ({"function": "word"}, "path of a function"),
        ({"url": "http://example.org/predict"}, "address of this machine"),
        ({"url": "https://127.0.0.1/predict"}, "address of this machine"),
        ({"url": "http://127.0.0.1.example.org/"}, "address of this machine"),
        ({"url": "file:///etc/passwd"}, "address of this machine"),
    ],
)
def test_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Service(**settings)


@pytest.mark.usefixtures("client")
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"function": "audited_client.labels"}, r"must return probabilities \(5, K, h, w\)"),
        ({"function": "audited_client.probabilities", "gives": "labels"}, "must return labels"),
    ],
)
def test_answers_of_another_kind_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Service(**settings)(images())


def test_a_checkpoint_needs_trust_in_the_function_or_the_class() -> None:
    name = "seg_mia.models.service.Service"
    by_function = {"class_path": name, "init_args": {"function": "os.system"}}
    by_address = {"class_path": name, "init_args": {"url": "http://127.0.0.1:1/"}}
    assert paths_to_trust([by_function, by_address]) == ["os.system", name]
    for trust in ([], [name]):
        with pytest.raises(InputError, match="--trust os.system"):
            check_spec(by_function, trust=trust)
    with pytest.raises(InputError, match=f"--trust {name}"):
        check_spec(by_address)


def test_answers_are_kept_only_with_a_version() -> None:
    def spec(**arguments: str) -> dict[str, Any]:
        inner = {"class_path": "seg_mia.models.service.Service", "init_args": arguments}
        return {"class_path": "seg_mia.models.one_head.OneHead", "init_args": {"network": inner}}

    assert is_self_contained(spec(function="a.b", version="2026-11"))
    assert not is_self_contained(spec(function="a.b"))
    assert not is_self_contained(spec(function="a.b", version=""))


class Handler(BaseHTTPRequestHandler):
    """Answers the images' half as probabilities of class 1; /moved redirects, /words answers text."""

    def do_POST(self) -> None:
        images = np.load(io.BytesIO(self.rfile.read(int(self.headers["Content-Length"]))))
        if self.path == "/moved":
            self.send_response(307)
            self.send_header("Location", "/predict")
            self.end_headers()
            return
        answer = io.BytesIO()
        np.save(answer, np.concatenate([1 - images / 2, images / 2], axis=1))
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"words" if self.path == "/words" else answer.getvalue())

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[str]:
    """The address of a server on this machine."""
    running = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{running.server_port}"
    running.shutdown()
    thread.join()
    running.server_close()


def test_a_local_server_answers(server: str) -> None:
    x = images()
    assert_close(Service(url=f"{server}/predict", batch=3)(x).softmax(1)[:, 1:], x / 2)


@pytest.mark.parametrize("path", ["moved", "words"])
def test_redirects_and_other_answers_are_failures(server: str, path: str) -> None:
    with pytest.raises(InputError, match="failed in 1 attempts"):
        Service(url=f"{server}/{path}", retries=0)(images())
