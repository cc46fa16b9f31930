"""An epoch of a membership classifier on cached answers, against one that asks the network again each time.

python benchmarks/membership_epochs.py
python benchmarks/membership_epochs.py --encoder tu-tf_efficientnet_lite0 --classifier tf_efficientnet_lite0

The two are timed in turn, pair by pair, on the same samples of the phantom.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from seg_mia.data.predictions import SignalBatch, SignalSamples, predictions
from seg_mia.data.samples import EpochSampler
from seg_mia.data.sets.phantom import Phantom
from seg_mia.membership.scorers import Classifier
from seg_mia.membership.signals import PosteriorAndMask
from seg_mia.models.smp import Smp
from seg_mia.tasks.membership import MembershipTask


def main() -> None:
    """Time and print."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--encoder", default="resnet34", help="of the network that is asked")
    parser.add_argument("--classifier", default="resnet18")
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--count", type=int, default=64, help="samples")
    parser.add_argument("--pairs", type=int, default=5)
    given = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    data = Phantom(size=given.size, members=given.count // 2, nonmembers=given.count // 2)
    data.setup()
    indices = data.indices("all")[: given.count]
    network = Smp(encoder=given.encoder, channels=1, classes=1).to(device).eval()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "weights"
        file.touch()
        cache = Path(folder)
        answers = predictions(
            network, data, indices, built=None, checkpoint=file, folder=cache, device=device
        )
        samples = SignalSamples(data, indices, np.arange(len(indices)) % 2 == 0, np.array(answers))
    settings = Classifier(architecture=given.classifier, batch_size=16, augment=True)
    zero_mean, unit_std = torch.zeros(2), torch.ones(2)
    task = (
        MembershipTask(PosteriorAndMask(), settings, mean=zero_mean, std=unit_std, members=0.5)
        .to(device)
        .train()
    )
    optimizer = torch.optim.NAdam(task.network.parameters())

    def epoch(answer: Callable[[SignalBatch], Tensor]) -> float:
        sampler = EpochSampler(len(samples), shuffle=True, seed=0)
        loader = torch.utils.data.DataLoader(samples, batch_size=16, sampler=sampler)
        begun = time.perf_counter()
        for batch in loader:
            on_device = SignalBatch(*(part.to(device) for part in batch))
            output = task.training_step(on_device._replace(logits=answer(on_device)), 0)
            optimizer.zero_grad()
            output["loss"].backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
            optimizer.step()
        if device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - begun

    @torch.no_grad()
    def ask_again(batch: SignalBatch) -> Tensor:
        logits: Tensor = network(batch.image)
        return logits

    pairs = [(epoch(lambda batch: batch.logits), epoch(ask_again)) for _ in range(given.pairs + 1)][1:]
    ratios = sorted(again / cached for cached, again in pairs)
    print(
        f"{device}, {torch.get_num_threads()} threads, {given.encoder} U-Net, {given.classifier} classifier, "
        f"{given.count} samples of {given.size}x{given.size}"
    )
    print(f"an epoch on cached answers takes {statistics.median(cached for cached, _ in pairs):.2f} s")
    spread = f"pairs {ratios[0]:.2f} to {ratios[-1]:.2f}"
    print(f"asking again takes {statistics.median(ratios):.2f} times as long ({spread})")


if __name__ == "__main__":
    main()
