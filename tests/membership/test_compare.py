import json
from pathlib import Path

import numpy as np
import pytest

from seg_mia.cli import main
from seg_mia.errors import InputError
from seg_mia.membership.compare import compare, read_scores
from seg_mia.membership.intervals import paired_difference


def written(
    folder: Path, scores: np.ndarray, members: np.ndarray, *, order: int = 1, attack: str = "a"
) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    rows = [f"s{n:03d},g{n // 2},{int(members[n])},{scores[n]:.9g}" for n in range(len(scores))][::order]
    (folder / "scores.csv").write_text("\n".join(["id,group,member,score", *rows, ""]))
    summary = {"attack": {"class_path": attack}, "control": False, "data": {"fingerprint": "f"}}
    (folder / "summary.json").write_text(json.dumps(summary))
    return folder


@pytest.fixture
def scores() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    members = np.arange(80) < 40
    base = rng.normal(size=80)
    return base + 2 * members, base + 0.5 * members, members


def test_lines_are_matched_by_id_and_resampled_by_group(
    scores: tuple[np.ndarray, np.ndarray, np.ndarray], tmp_path: Path
) -> None:
    first, second, members = scores
    found = compare(
        written(tmp_path / "a", first, members), written(tmp_path / "b", second, members, order=-1)
    )
    groups = np.array([f"g{n // 2}" for n in range(80)])
    expected = paired_difference(first, second, members, groups)
    assert found.value == pytest.approx(expected.value)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-9)
    assert found.low > 0


def test_the_command_says_whether_it_is_sure(
    scores: tuple[np.ndarray, np.ndarray, np.ndarray], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second, members = scores
    a, b = written(tmp_path / "a", first, members), written(tmp_path / "b", second, members)
    assert main(["compare", str(a), str(b)]) == 0
    assert "the interval excludes 0" in capsys.readouterr().out
    assert main(["compare", str(a), str(a)]) == 0
    assert "difference of AUC +0.000 [+0.000, +0.000]: the interval includes 0" in capsys.readouterr().out
    assert main(["compare", str(a)]) == 2
    assert main(["compare", "--help"]) == 0


def test_what_cannot_be_compared(scores: tuple[np.ndarray, np.ndarray, np.ndarray], tmp_path: Path) -> None:
    first, _, members = scores
    a = written(tmp_path / "a", first, members)
    with pytest.raises(InputError, match="must have the same samples"):
        compare(a, written(tmp_path / "b", first, ~members))
    with pytest.raises(InputError, match="must have the same samples"):
        compare(a, written(tmp_path / "c", first[:60], members[:60]))
    with pytest.raises(InputError, match="must come from the same attack"):
        compare(a, written(tmp_path / "d", first, members, attack="other"))
    with pytest.raises(InputError, match="holds no scores.csv; name a membership attack's folder"):
        read_scores(tmp_path)
    for damage in (b"id,score\na,1\n", b"id,group,member,score\na,g,1\n", b"\xff\xfe\x00"):
        (tmp_path / "scores.csv").write_bytes(damage)
        with pytest.raises(InputError, match="must have the columns id, group, member, score"):
            read_scores(tmp_path)
