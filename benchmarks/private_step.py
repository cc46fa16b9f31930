"""What one step of DP-SGD costs beyond a bare forward and backward pass of the same network and batch.

python benchmarks/private_step.py --encoder resnet18 --size 64 --batch 16

Each way of finding the clipped sum runs in a process of its own. There it and the bare pass are timed in
turn, so that a machine whose speed drifts does not decide. Memory is the greatest that two steps add; on a
CPU, to the process. A way counts if its sum is that of `loop`, which takes image after image; they are
compared in float64, for in float32 rounding alone changes which side of zero a ReLU is on. Opacus' ways and
vmap get the network with nothing changed in place, which they do not allow.

With --cached the network is the pixel classifier of `kvasir_dp` on features that are already computed, as in
a training with cached features: every way gets the same features.

python benchmarks/private_step.py --cached --encoder tu-tf_efficientnet_lite0 --channels 3 --batch 300
"""

import argparse
import copy
import functools
import json
import resource
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from torch.profiler import ProfilerActivity, profile

from seg_mia.grad_sample.clipping import Mode, clipped_sum
from seg_mia.models.hypercolumn import Hypercolumn
from seg_mia.models.smp import Smp

CLIP = 0.1
Sums = dict[str, Tensor]
Step = Callable[[], Sums]
"""Returns the clipped sums by parameter, without noise."""


class OutOfPlace(TorchFunctionMode):
    """Within it, activations and residual additions leave their inputs as they are."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Run the function, or the one that makes a new tensor."""
        del types
        kwargs = {name: value for name, value in (kwargs or {}).items() if name != "inplace"}
        return (torch.add if func in {Tensor.__iadd__, Tensor.add_} else func)(*args, **kwargs)


class CachedHead(nn.Module):
    """The classifiers of a `Hypercolumn` on rows of concatenated feature maps."""

    def __init__(self, classifier: Hypercolumn, shapes: Sequence[torch.Size], size: Sequence[int]) -> None:
        super().__init__()
        self.classifier, self.shapes, self.size = classifier, shapes, tuple(size)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (N, 1, H, W) of features (N, sum of all maps' values)."""
        parts = x.split_with_sizes([shape.numel() for shape in self.shapes], dim=1)
        maps = [part.reshape(len(x), *shape) for part, shape in zip(parts, self.shapes, strict=True)]
        return self.classifier.classified([x, *maps], self.size)


@torch.no_grad()
def cached(encoder: str, images: Tensor) -> tuple[CachedHead, Tensor]:
    """Return the classifiers, without encoder, and the features of images, (N, sum of all maps' values)."""
    network = Smp(architecture="Hypercolumn", encoder=encoder, channels=images.shape[1], classes=1).eval()
    rows = [network.encoder(part)[1:] for part in torch.chunk(images, max(len(images) // 16, 1))]
    shapes = [maps.shape[1:] for maps in rows[0]]
    classifier = network.network
    assert isinstance(classifier, Hypercolumn)
    classifier.encoder = nn.Identity()
    features = torch.cat([torch.cat([maps.flatten(1) for maps in row], 1) for row in rows])
    return CachedHead(classifier.train(), shapes, images.shape[2:]), features


class Problem:
    """A network with random weights, images and masks, and the loss of each image."""

    def __init__(self, given: argparse.Namespace, dtype: torch.dtype = torch.float32) -> None:
        torch.manual_seed(0)
        device = torch.device(given.device)
        channels, side = given.channels, given.size
        self.x = torch.rand(given.batch, channels, side, side)
        self.network: nn.Module
        if given.cached:
            self.network, self.x = cached(given.encoder, self.x)
        else:
            self.network = Smp(encoder=given.encoder, channels=channels, norm="group")
        self.network, self.x = self.network.to(device, dtype), self.x.to(device, dtype)
        for module in self.network.modules():
            module.training &= "Drop" not in type(module).__name__  # ways that draw apart cannot be compared
        self.parameters = dict(self.network.named_parameters())
        self.mask = (torch.rand(given.batch, 1, side, side) > 0.5).to(device, dtype)
        self.device = device

    def costs(self, logits: Tensor, rows: Tensor | slice = slice(None)) -> Tensor:
        """Return each image's mean cross-entropy."""
        mask = self.mask[rows]
        return functional.binary_cross_entropy_with_logits(logits, mask, reduction="none").flatten(1).mean(1)

    def plain(self) -> Sums:
        """Return the gradient of the sum of losses: what no step can do without."""
        loss = self.costs(self.network(self.x)).sum()
        gradients = torch.autograd.grad(loss, list(self.parameters.values()))
        return dict(zip(self.parameters, gradients, strict=True))

    def clipped(self, mode: Mode) -> Sums:
        """Return what the package gives."""
        count = len(self.x)
        units = torch.arange(count, device=self.device)
        return clipped_sum(
            lambda rows: self.costs(self.network(self.x[rows]), rows),
            self.parameters,
            units,
            clip=CLIP,
            physical=count,
            mode=mode,
        ).sums


def shortened(grad_samples: Mapping[str, Tensor]) -> Sums:
    """Return the sum of clipped gradients, of each image's gradients (N, *shape)."""
    norms = torch.stack([part.flatten(1).norm(dim=1) for part in grad_samples.values()]).norm(dim=0)
    factors = (CLIP / norms).clamp(max=1)
    return {name: torch.tensordot(factors, part, 1) for name, part in grad_samples.items()}


def by_vmap(problem: Problem) -> Step:
    """Take the gradient of one image's loss, mapped over images."""
    frozen = {name: parameter.detach() for name, parameter in problem.parameters.items()}

    def loss(parameters: Sums, x: Tensor, mask: Tensor) -> Tensor:
        logits = torch.func.functional_call(problem.network, parameters, (x[None],))
        return functional.binary_cross_entropy_with_logits(logits, mask[None])

    mapped = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0, 0), randomness="different")

    def step() -> Sums:
        with OutOfPlace():
            return shortened(mapped(frozen, problem.x, problem.mask))

    return step


def by_opacus(problem: Problem, way: str) -> Step:
    """Take Opacus' gradients of single images, and clip and add them as it does."""
    from opacus.grad_sample import GradSampleModule
    from opacus.grad_sample.gsm_exp_weights import GradSampleModuleExpandedWeights

    network = copy.deepcopy(problem.network)
    if way == "ew":
        watched = GradSampleModuleExpandedWeights(network, loss_reduction="sum")
    else:
        watched = GradSampleModule(
            network, loss_reduction="sum", strict=False, force_functorch=way == "functorch"
        )

    def step() -> Sums:
        watched.zero_grad()
        with OutOfPlace():
            loss = problem.costs(watched(problem.x)).sum()
        torch.autograd.backward(loss)
        return shortened(
            {name: parameter.grad_sample for name, parameter in watched._module.named_parameters()}
        )

    return step


def by_ghost(problem: Problem) -> Step:
    """Take Opacus' norms from one backward pass, and the weighted gradient from a second."""
    from opacus.grad_sample import GradSampleModuleFastGradientClipping

    network = copy.deepcopy(problem.network)
    watched = GradSampleModuleFastGradientClipping(
        network, loss_reduction="sum", strict=False, max_grad_norm=CLIP, use_ghost_clipping=True
    )
    parameters = dict(network.named_parameters())

    def step() -> Sums:
        watched.enable_hooks()
        with OutOfPlace():
            losses = problem.costs(watched(problem.x))
        torch.autograd.backward(losses.sum(), retain_graph=True)
        watched.zero_grad()
        watched.disable_hooks()
        loss = (watched.get_clipping_coef() * losses).sum()
        return dict(zip(parameters, torch.autograd.grad(loss, list(parameters.values())), strict=True))

    return step


WAYS: dict[str, Callable[[Problem], Step]] = {
    "plain": lambda problem: problem.plain,
    "fused": lambda problem: functools.partial(problem.clipped, "fused"),
    "loop": lambda problem: functools.partial(problem.clipped, "loop"),
    "vmap": by_vmap,
    "hooks": functools.partial(by_opacus, way="hooks"),
    "functorch": functools.partial(by_opacus, way="functorch"),
    "ghost": by_ghost,
    "ew": functools.partial(by_opacus, way="ew"),
}


CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}


def milliseconds(work: Callable[[], object], device: torch.device, clock: Callable[[], float]) -> float:
    """Return how long `work` takes, the accelerator's queue included."""
    begun = clock()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return 1000 * (clock() - begun)


def mebibytes(device: torch.device) -> float:
    """Return the most memory that was in use at once so far."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def off_loop(way: str, given: argparse.Namespace) -> float:
    """Return the greatest difference to the sum of `loop`, over its greatest number."""
    problem = Problem(given, torch.float64)
    expected, sums = problem.clipped("loop"), WAYS[way](problem)()
    scale = max(gradient.abs().max().item() for gradient in expected.values())
    return max((sums[name] - gradient).abs().max().item() for name, gradient in expected.items()) / scale


def measure(way: str, given: argparse.Namespace) -> dict[str, float]:
    """Measure one way; what comes last must not add to the memory of what comes first."""
    problem, clock = Problem(given), CLOCKS[given.clock]
    device, step = problem.device, WAYS[way](problem)
    before = mebibytes(device)
    step()
    step()
    memory = mebibytes(device) - before
    problem.plain()
    times, ratios = [], []
    for _ in range(given.repeats):
        plain = milliseconds(problem.plain, device, clock)
        times.append(milliseconds(step, device, clock))
        ratios.append(times[-1] / plain)
    return {
        "milliseconds": statistics.median(times),
        "ratio": statistics.median(ratios),
        "memory": memory,
        "difference": 0.0 if way == "plain" else off_loop(way, given),
    }


def show_profile(given: argparse.Namespace) -> None:
    """Print what the fused way spends its time on."""
    problem = Problem(given)
    problem.clipped("fused")
    kinds = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if problem.device.type == "cuda" else [])]
    with profile(activities=kinds) as seen:
        problem.clipped("fused")
    order = "self_device_time_total" if problem.device.type == "cuda" else "self_cpu_time_total"
    print(seen.key_averages().table(sort_by=order, row_limit=10, max_name_column_width=50))


def main() -> None:
    """Run each way in its own process and print a table."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--encoder", default="resnet18")
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--channels", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--cached", action="store_true", help="a pixel classifier on cached features")
    parser.add_argument(
        "--clock", choices=list(CLOCKS), default="wall", help="cpu: where other work takes the cores"
    )
    parser.add_argument("--modes", nargs="+", choices=list(WAYS), default=list(WAYS))
    parser.add_argument("--profile", action="store_true", help="of the fused way, instead of the table")
    parser.add_argument("--worker", choices=list(WAYS), help=argparse.SUPPRESS)
    given = parser.parse_args()
    warnings.simplefilter("ignore")  # Opacus' and torch's, which say nothing of time or memory
    if given.profile:
        show_profile(given)
        return
    if given.worker:
        print(json.dumps(measure(given.worker, given)))
        return
    network = "Hypercolumn on cached features" if given.cached else "Unet"
    print(
        f"{network}, {given.encoder}, {given.batch} images of {given.channels}x{given.size}x{given.size}, "
        f"{given.device}, {torch.get_num_threads()} threads, {given.clock} time"
    )
    print(f"{'mode':<10}{'ms':>9}{'to plain':>10}{'MiB added':>11}{'off loop':>10}")
    for mode in given.modes:
        done = subprocess.run(
            [sys.executable, __file__, *sys.argv[1:], "--worker", mode],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            reason = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
            print(f"{mode:<10}failed: {reason[:110]}", flush=True)
            continue
        measurement = json.loads(done.stdout.splitlines()[-1])
        off = "" if mode == "plain" else f"{measurement['difference']:.1e}"
        print(
            f"{mode:<10}{measurement['milliseconds']:>9.0f}{measurement['ratio']:>10.2f}{measurement['memory']:>11.0f}{off:>10}",
            flush=True,
        )


if __name__ == "__main__":
    main()
