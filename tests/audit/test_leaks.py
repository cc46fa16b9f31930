import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from seg_mia.audit.leaks import leaks
from seg_mia.membership.compare import read_scores
from seg_mia.membership.leakage import leak_test
from seg_mia.results.membership import MembershipResult
from tests.report.audits import guess


def attack(name: str, shift: float, *, turned: bool = False, **place: Any) -> MembershipResult:
    """Return an attack whose scores lie in its folder: 20 members, 20 others, moved apart by `shift`."""
    entry = guess(name, **place) | {"folder": f"scores/{name}/{place.get('round_', 0)}/{place.get('row', 0)}"}
    folder = Path(entry["folder"])
    folder.mkdir(parents=True)
    rng = np.random.default_rng(len(name))
    lines = ["id,group,member,score,called_member"]
    for number in range(40):
        member = (number < 20) != turned
        lines.append(f"i{number:02d},i{number:02d},{int(member)},{rng.normal() + shift * member},0")
    (folder / "scores.csv").write_text("\n".join(lines) + "\n")
    return MembershipResult.read(entry | {"label": name}, "an attack")


def test_each_row_has_one_test_of_its_attacks_without_baselines_and_controls() -> None:
    results = [
        attack("mia-blind", 5, signal="ImageAndMask"),
        attack("mia-a", 0),
        attack("mia-b", 3),
        attack("mia-b-control", 5, control=True),
        attack("mia-a", 0, row=1, defence="argmax"),
    ]
    first, second = leaks(results)
    assert [(one.label, one.seed, one.kind) for one in first.tested] == [
        ("mia-a", 7, "auc"),
        ("mia-b", 7, "auc"),
    ]
    adjusted = [one.adjusted for one in first.tested]
    assert adjusted[0] > 0.05 > adjusted[1]
    assert (second.row, first.members, first.nonmembers, first.grouped) == (1, 20, 20, False)
    json.dumps([first.plain(), second.plain()], allow_nan=False)


def test_seeds_of_one_split_are_tested_together() -> None:
    (row,) = leaks([attack("mia-a", 1), attack("mia-a", 1, round_=1)])
    assert [one.seed for one in row.tested] == [7, 8]
    both = row.tested
    assert both[0].adjusted == pytest.approx(both[0].p_value, abs=0.01), "the same scores twice"


def test_seeds_of_several_splits_share_the_chance_of_error() -> None:
    one, other = attack("mia-a", 1), attack("mia-a", 1, round_=1, turned=True)
    (row,), (alone,) = leaks([one, other]), leaks([one])
    assert row.tested[0].adjusted == pytest.approx(2 * alone.tested[0].adjusted, abs=0.01)
    assert row.tested[0].low < alone.tested[0].low


def test_the_test_is_that_of_the_scores() -> None:
    one = attack("mia-a", 1)
    expected = leak_test([read_scores(one.folder)])
    (row,) = leaks([one])
    assert row.detectable == expected.detectable
    assert row.tested[0].adjusted == expected.tested[0].adjusted
