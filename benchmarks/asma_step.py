"""What one ASMA iteration costs beyond one bare forward and input gradient of the same network and batch.

python benchmarks/asma_step.py

The two are timed in turn, pair by pair, so that a machine whose speed drifts does not decide. Also: bfloat16
autocast, and whether the IoU that it reaches holds when the images are judged in float32.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from seg_mia.attacks.asma import asma
from seg_mia.attacks.base import attack_mode
from seg_mia.metrics.overlap import foreground_iou
from seg_mia.models.heads import predicted
from seg_mia.models.smp import Smp


def bare(model: nn.Module, x: Tensor, steps: int) -> None:
    """One forward and one input gradient a step, and a last forward: what no attack can do without."""
    with attack_mode(model):
        for _ in range(steps):
            image = x.clone().requires_grad_()
            torch.autograd.grad(model(image).sum(), image)
        model(x)


def seconds(work: Callable[[], object], device: torch.device) -> float:
    """Return how long `work` takes, the accelerator's queue included."""
    begun = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - begun


def main() -> None:
    """Time and print."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--pairs", type=int, default=7)
    given = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(0)
    model = Smp(encoder="resnet34", channels=3, classes=1).to(device).eval()
    x = torch.rand(given.batch, 3, given.size, given.size, device=device)
    target = (torch.rand(given.batch, given.size, given.size, device=device) > 0.5).long()
    print(f"{device}, {torch.get_num_threads()} threads, ResNet-34 U-Net, {tuple(x.shape)}")

    def attack(history: int = 0) -> Tensor:
        return asma(model, x, target, steps=given.steps, tau=1e-5, beta=1e-4, history_every=history).images

    # The attack's own last forwards, which measure what it returns, are not part of an iteration.
    def measuring() -> None:
        with torch.no_grad():
            model(x), model(x)

    ratios = []
    for pair in range(given.pairs + 1):
        bare_seconds = seconds(lambda: bare(model, x, given.steps), device)
        asma_seconds = seconds(attack, device) - seconds(measuring, device)
        if pair:  # the first one warms up
            ratios.append(asma_seconds / bare_seconds)
    print(f"an iteration costs {statistics.median(ratios):.3f} times the bare one (pairs {sorted(ratios)})")

    with torch.autocast(device.type, dtype=torch.bfloat16):
        attack()
        half = statistics.median(seconds(attack, device) for _ in range(given.pairs))
        images = asma(model, x, target, steps=20, tau=1e-5, beta=1e-4).images
    full = statistics.median(seconds(attack, device) for _ in range(given.pairs))
    exact = asma(model, x, target, steps=20, tau=1e-5, beta=1e-4).images
    ious = [foreground_iou(predicted(model(result)), target, 2).mean().item() for result in (exact, images)]
    print(f"bfloat16 autocast: {full / half:.2f} times as fast; IoU after 20 steps, judged in float32:")
    print(f"  attacked in float32 {ious[0]:.6f}, in bfloat16 {ious[1]:.6f}")


if __name__ == "__main__":
    main()
