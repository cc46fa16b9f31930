"""Six losses in one batch against six attacks one after the other: time, and images through the network.

python benchmarks/medis_fusion.py runs/phantom_victim/version_0 --images 16

Also: the matrix of mean IoUs that finds each mask's nearest among 1000 of 256x256.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from seg_mia.attacks.medis import ALL, medis
from seg_mia.attacks.targets import mean_iou_matrix, random_other
from seg_mia.checkpoint import load_victim, read_card
from seg_mia.config.spec import resolve
from seg_mia.data.base import SegmentationData
from seg_mia.errors import InputError
from seg_mia.runs import checkpoint_file


def samples(run: str, count: int, device: torch.device) -> tuple[nn.Module, Tensor, Tensor]:
    """Return a victim, the first non-members, and another one's mask for each."""
    file = checkpoint_file(run)
    card = read_card(file)
    assert card.data is not None
    data: SegmentationData = resolve(card.data["class_path"])(**card.data["init_args"])
    data.setup()
    chosen = data.indices("nonmembers")[:count]
    batch = [data.dataset(chosen)[0, row] for row in range(len(chosen))]
    masks = torch.stack([mask for _, mask, _ in batch])
    x = torch.stack([image for image, _, _ in batch])
    return load_victim(file, device=device), x.to(device), masks[random_other(len(masks), 0)].to(device)


def counted(victim: nn.Module, work: Callable[[], object]) -> int:
    """Return how many images a piece of work shows to the network."""
    seen = 0

    def count(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        nonlocal seen
        seen += len(inputs[0])

    hook = victim.register_forward_pre_hook(count)
    work()
    hook.remove()
    return seen


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
    parser.add_argument("victim")
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--pairs", type=int, default=5)
    given = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    victim, x, target = samples(given.victim, given.images, device)
    print(f"{device}, {torch.get_num_threads()} threads, {tuple(x.shape)}")
    print("| a run ends | images through the network, fused | in turn | time of fused to in turn |")
    print("| --- | --- | --- | --- |")
    for name, history in (("where it succeeds", False), ("at the stop threshold, or after 10 steps", True)):

        def fused(history: bool = history) -> None:
            medis(victim, x, target, history=history)

        def in_turn(history: bool = history) -> None:
            for loss in ALL:
                medis(victim, x, target, losses=[loss], history=history)

        forwards = counted(victim, fused), counted(victim, in_turn)
        ratios = [seconds(fused, device) / seconds(in_turn, device) for _ in range(given.pairs)]
        spread = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        print(f"| {name} | {forwards[0]} | {forwards[1]} | {spread} |", flush=True)
    masks = (torch.rand(1000, 256, 256, device=device) > 0.5).to(torch.uint8)
    print(f"1000 masks of 256x256, all pairs: {seconds(lambda: mean_iou_matrix(masks, 2), device):.1f} s")


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        sys.exit(f"{Path(__file__).name}: error: {error}")
