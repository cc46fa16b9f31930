"""A network behind a Python function or a local address: answers, no weights."""

import io
import logging
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from importlib import import_module
from ipaddress import ip_address
from typing import Any, Literal
from urllib.parse import urlsplit

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812  (torch's own name for it)
from torch import Tensor, nn

from seg_mia.errors import InputError
from seg_mia.models.answers import AnswersOnly, in_batches
from seg_mia.models.output_form import Gives, as_logits
from seg_mia.models.user_errors import reason_with_location

log = logging.getLogger(__name__)

Answer = Gives | Literal["labels"]
Values = np.ndarray[Any, Any]
_FIRST_WAIT = 0.5
_MOST_BYTES = 2**32


class Service(AnswersOnly):
    """A deployed system that is queried: a Python function, or a server on this machine.

    The function is called with images, a float32 array (n, C, H, W) in [0, 1], and returns (n, K, h, w), or
    labels (n, h, w). A server receives the images by POST in NumPy's .npy format, and returns an array of the
    same kind and format; redirects are not followed, and images never leave this machine. Failed calls are
    repeated after 0.5, 1, 2, ... seconds. Checkpoints with a service need `--trust` with its function, or
    with this class for an address.

    Args:
        function: path of the function, `my_client.predict`.
        url: the address instead, such as `http://127.0.0.1:8000/predict`.
        gives: what is returned: logits, probabilities that sum to 1 over K, sigmoid outputs, or labels.
        classes: number of classes, for labels.
        batch: images in one call.
        retries: repetitions of a failed call.
        timeout: seconds that a server may take for one call.
        version: of the deployed system. Results of earlier runs are reused only if it is given and equal, and
            the answers to a few images have not changed.

    Attributes:
        queries: images sent so far, in each attempt.

    Raises:
        InputError: neither or both of function and url, an unusable function or address, or settings out of
            range.
    """

    def __init__(
        self,
        *,
        function: str | None = None,
        url: str | None = None,
        gives: Answer = "probabilities",
        classes: int = 2,
        batch: int = 8,
        retries: int = 3,
        timeout: float = 60.0,
        version: str = "",
    ) -> None:
        super().__init__()
        if (function is None) == (url is None):
            raise InputError("a service needs either a function or a url; set one of them")
        if batch < 1 or retries < 0 or not timeout > 0 or classes < 2:
            raise InputError(
                "batch must be at least 1, retries 0, classes 2 and timeout above 0, got "
                f"{batch}, {retries}, {classes} and {timeout}"
            )
        self.gives, self.classes, self.batch, self.retries, self.version = (
            gives, classes, batch, retries, version,
        )  # fmt: skip
        self.place = str(function or url)
        self._call = _imported(self.place) if function is not None else _client(self.place, timeout)
        self.queries = 0

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (N, K, h, w) of images `x` (N, C, H, W).

        Raises:
            InputError: the service failed in all attempts, or returned another kind of array.
        """
        answers: Tensor = in_batches(self._asked, x, self.batch)
        return answers

    def _asked(self, x: Tensor) -> Tensor:
        images = x.detach().to("cpu", torch.float32).numpy()
        values = self._checked(self._tried(images), len(x))
        if self.gives != "labels":
            return as_logits(values.to(x.device, torch.float32), self.gives)
        one_hot = F.one_hot(values.to(x.device, torch.int64), self.classes).movedim(-1, 1)
        return as_logits(one_hot.float(), "probabilities")

    def _tried(self, images: Values) -> Any:
        for attempt in range(self.retries + 1):
            self.queries += len(images)
            try:
                return self._call(images)
            except InputError:
                raise
            except Exception as error:  # a client may raise anything
                if attempt == self.retries:
                    raise InputError(
                        f"{self.place} failed in {attempt + 1} attempts: {reason_with_location(error)}; "
                        "check the service, or raise retries"
                    ) from error
                log.debug("%s failed (%s), attempt %d follows", self.place, error, attempt + 2)
                time.sleep(_FIRST_WAIT * 2**attempt)
        raise AssertionError(self.retries)

    def _checked(self, answer: Any, count: int) -> Tensor:
        """Return the answer as a tensor; raise InputError for another shape or type than promised."""
        values = np.asarray(answer)
        axes = 3 if self.gives == "labels" else 4
        kinds = "biu" if self.gives == "labels" else "f"
        if values.ndim != axes or len(values) != count or values.dtype.kind not in kinds:
            expected = f"({count}, h, w) of integers" if axes == 3 else f"({count}, K, h, w) of floats"
            raise InputError(
                f"{self.place} must return {self.gives} {expected}, got {values.dtype} {values.shape}; set "
                "gives to what it returns"
            )
        if axes == 3 and not (values.min() >= 0 and values.max() < self.classes):
            raise InputError(
                f"{self.place} must return labels 0 to {self.classes - 1}, got {values.min()} to "
                f"{values.max()}; set classes"
            )
        return torch.from_numpy(np.ascontiguousarray(values))


def queries_of(network: nn.Module) -> int | None:
    """Return the number of images that the services in a network were asked; None if it has none."""
    counts = [module.queries for module in network.modules() if isinstance(module, Service)]
    return sum(counts) if counts else None


def _imported(path: str) -> Callable[[Values], Any]:
    module, _, name = path.rpartition(".")
    try:
        function = getattr(import_module(module), name, None) if module else None
    except ModuleNotFoundError as error:
        raise InputError(f"function {path}: {error}; run where it can be imported (PYTHONPATH)") from None
    if not callable(function):
        raise InputError(f"function must be the path of a function, module.name, got {path!r}")
    return function  # type: ignore[no-any-return]


def _client(url: str, timeout: float) -> Callable[[Values], Values]:
    """Return a function that sends images to a server on this machine."""
    parts = urlsplit(url)
    if parts.scheme != "http" or not _is_loopback(parts.hostname):
        raise InputError(
            "url must be an http address of this machine, such as http://127.0.0.1:8000/predict, got "
            f"{url!r}; for another machine write a function, which decides where images go"
        )
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), _NoRedirect())

    def ask(images: Values) -> Values:
        sent = io.BytesIO()
        np.save(sent, images, allow_pickle=False)
        request = urllib.request.Request(url, sent.getvalue(), {"Content-Type": "application/octet-stream"})
        with opener.open(request, timeout=timeout) as response:
            received = response.read(_MOST_BYTES)
        values: Values = np.load(io.BytesIO(received), allow_pickle=False)
        return values

    return ask


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Refuse redirects: they could lead images to another machine."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


def _is_loopback(host: str | None) -> bool:
    if host == "localhost":
        return True
    try:
        return host is not None and ip_address(host).is_loopback
    except ValueError:
        return False
