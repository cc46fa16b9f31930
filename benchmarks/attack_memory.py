"""Memory that the tensors of every attack hold at once, for each further image of a batch and in all.

python benchmarks/attack_memory.py
python benchmarks/attack_memory.py --side 32 --few 2 --many 3

Each attack runs on two batches. Every tensor that it makes is counted from its operation until it is freed,
those kept for a gradient included (`suite/held_memory.py`): the same numbers come out each time, on any
machine. Not counted: network, images, and what a kernel takes for itself while it runs. Every step of an
attack takes the same memory, so that few are run. `certify` shows noisy copies of one image at a time.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.suite.memory import ATTACKS, held, slower
from benchmarks.suite.sizes import Sizes


def main() -> None:
    """Measure and print."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--side", type=int, default=128)
    parser.add_argument("--few", type=int, default=2, help="images of the smaller batch")
    parser.add_argument("--many", type=int, default=4, help="images of the larger batch")
    given = parser.parse_args()
    if not 0 < given.few < given.many:
        parser.error(f"--few must be above 0 and below --many, got {given.few} and {given.many}")
    print(f"| attack | MiB for each further image | MiB for {given.many} images |\n| --- | --- | --- |")
    for name, attack in ATTACKS.items():
        few, many = (held(attack, given.side, count) for count in (given.few, given.many))
        print(f"| {name} | {(many - few) / (given.many - given.few):.2f} | {many:.1f} |", flush=True)
    ratios = slower(Sizes(side=given.side, images=given.many), repeats=5)
    middle = ratios[len(ratios) // 2]
    print(f"\npgd with checkpointing takes {middle:.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f}) times as long")


if __name__ == "__main__":
    main()
