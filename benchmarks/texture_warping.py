"""Slices per second of the texture attack's patch matching, against the usual one filter per patch.

python benchmarks/texture_warping.py

Features of random slices at level 4, of VGG-19's width and of the compressed set's; then the whole attack.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from seg_mia.attacks.feature_statistics import Texture, retextured
from seg_mia.attacks.warping import nearest_patches
from seg_mia.models.style_autoencoder import VGG19, TextureAutoEncoders

COMPRESSED = (16, 32, 64, 128, 128)


def one_filter_per_patch(content: Tensor, style: Tensor, patch: int) -> Tensor:
    """Return the number of the most similar patch of `style`, by a convolution with all of them."""
    filters = functional.unfold(style[None], patch)[0].T
    kernel = (filters / (filters.norm(dim=1, keepdim=True) + 1e-7)).view(-1, len(style), patch, patch)
    return functional.conv2d(content[None], kernel)[0].argmax(0)


def seconds(work: Callable[[], object], device: torch.device) -> float:
    """Return how long `work` takes, the accelerator's queue included."""
    begun = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - begun


@torch.inference_mode()
def main() -> None:
    """Time and print."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--pairs", type=int, default=5)
    given = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(0)
    side = given.size // 8
    print(f"{device}, {torch.get_num_threads()} threads, {given.size}x{given.size}")
    print(
        "| channels at level 4 | matching, slices/s | one filter per patch | ratio | whole attack, slices/s |"
    )
    print("| --- | --- | --- | --- | --- |")
    for widths in (COMPRESSED, VGG19):
        content, style = torch.rand(2, 2 * widths[3], side, side, device=device)

        def product(content: Tensor = content, style: Tensor = style) -> Tensor:
            return nearest_patches(content, style, 3)

        def filters(content: Tensor = content, style: Tensor = style) -> Tensor:
            return one_filter_per_patch(content, style, 3)

        agree = (product() == filters()).float().mean()
        assert agree > 0.999, agree
        times = [(seconds(product, device), seconds(filters, device)) for _ in range(given.pairs)]
        ratio = statistics.median(slow / fast for fast, slow in times)
        pairs = TextureAutoEncoders(widths=widths).to(device)
        images = torch.rand(2, 1, given.size, given.size, device=device)
        labels = torch.randint(0, 15, (2, given.size, given.size), device=device)
        total = seconds(lambda p=pairs, i=images, a=labels: list(retextured(p, i, a, Texture())), device)  # type: ignore[misc]
        matched_per_second, filtered_per_second = (
            1 / statistics.median(column) for column in zip(*times, strict=True)
        )
        print(
            f"| {widths[3]} | {matched_per_second:.1f} | {filtered_per_second:.2f} | {ratio:.1f} | "
            f"{2 / total:.2f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
