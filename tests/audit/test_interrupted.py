"""An audit that is killed goes on where it stopped, and says in the end what it would have said."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.forked import Forked

pytestmark = pytest.mark.slow(120)

KILLER = Path(__file__).with_name("killer.py")
TIMES = {"created", "seconds", "cached", "generated", "hours", "training_hours"}
DIGESTS = {"sha256", "audit_sha256", "bytes", "id", "group"}
"""Of files that hold times, and hashes with a salt of their own."""


@pytest.fixture
def audit(tmp_path: Path, folder: Callable[..., Path]) -> Path:
    """Trainings of several epochs with a shuffled order, a distilled victim, every kind of stage."""
    victim = tmp_path / "small.yaml"
    victim.write_text(f"""
seed_everything: 3
trainer: {{max_epochs: 3, accelerator: cpu, enable_progress_bar: false, enable_model_summary: false}}
model:
  class_path: seg_mia.tasks.segmentation.Segmentation
  init_args:
    network:
      class_path: seg_mia.models.smp.Smp
      init_args: {{encoder: tu-test_resnet, channels: 3, classes: 1, depth: 3, dropout: 0.3}}
    lr: 0.01
data:
  class_path: seg_mia.data.sets.folder.Folder
  init_args: {{root: {folder(48)}, threshold: 127, members: 8, nonmembers: 6, reference: 8, batch_size: 2}}
""")
    file = tmp_path / "small_audit.yaml"
    file.write_text(f"""
version: 1
victim: {victim}
shadow: {{config: {victim}, options: {{data.role: shadow}}}}
scorer: {{architecture: test_resnet, epochs: 2}}
attacks: [mia-type2, {{attack: asma, settings: {{steps: 2}}, data: {{limit: 2}}}}]
defences: [none, distilled]
""")
    return file


def begun(place: Path, audit: Path, *modes: str, name: str = "killer") -> Forked:
    """Begin an audit in a folder, killed as each mode says; its streams are NAME.out and NAME.err there."""
    place.mkdir(exist_ok=True)
    words = [str(KILLER), ",".join(modes), "audit", "--config", str(audit)]
    return Forked(words, folder=place, output=place / f"{name}.out", errors=place / f"{name}.err")


def ends_in(output: Path) -> list[int]:
    """Return what `killer` has written of how each of its children ended."""
    lines = [line for line in output.read_text().splitlines() if line.startswith("ENDS ")]
    assert lines, output.with_suffix(".err").read_text()[-3000:]
    ends: list[int] = json.loads(lines[-1].removeprefix("ENDS "))
    return ends


def run(place: Path, audit: Path, *modes: str) -> list[int]:
    """Run an audit in a folder of its own, killed as each mode says; return how each ended."""
    begun(place, audit, *modes).wait()
    ends = ends_in(place / "killer.out")
    assert not {1, 2} & set(ends), (place / "killer.err").read_text()[-3000:]
    return ends


def timeless(content: Any) -> Any:
    """Return plain values without what tells when, and how long."""
    if isinstance(content, dict):
        return {name: timeless(value) for name, value in content.items() if name not in TIMES | DIGESTS}
    return [timeless(value) for value in content] if isinstance(content, list) else content


def told(place: Path) -> dict[str, Any]:
    (folder,) = (place / "runs" / "small_audit").iterdir()
    return {name: timeless(json.loads((folder / name).read_text())) for name in ("audit.json", "report.json")}


def versions(place: Path) -> list[str]:
    return sorted(
        str(path.relative_to(place)) for path in (place / "runs").rglob("version_*") if path.is_dir()
    )


def test_killed_or_run_twice_at_once_an_audit_ends_as_it_would_have(audit: Path, tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    assert run(whole, audit, "") == [0]
    killed_at_every_boundary_and_inside_stages(audit, whole, tmp_path / "broken")
    two_at_once_share_what_they_make(audit, whole, tmp_path / "shared")


def killed_at_every_boundary_and_inside_stages(audit: Path, whole: Path, broken: Path) -> None:
    inside = ["step:6", "step:3", "record:2", "step:5", "record:2", "step:9", "step:3"]
    boundaries = ["record-before:2", "table:3", "record:2", "record:3", "table:2"] * 20
    modes = [*inside, *boundaries]
    ends = run(broken, audit, *modes)
    assert ends[-1] == 0
    assert ends.count(-9) == len(ends) - 1 > 15
    assert told(broken) == told(whole)
    assert versions(broken) == versions(whole)
    assert run(broken, audit, "step:1") == [0]  # nothing is trained again
    assert told(broken) == told(whole)


def two_at_once_share_what_they_make(audit: Path, whole: Path, shared: Path) -> None:
    both = [begun(shared, audit, "", name=name) for name in ("first", "second")]
    assert [process.wait() for process in both] == [0, 0]
    assert ends_in(shared / "first.out") == ends_in(shared / "second.out") == [0]
    assert told(shared) == told(whole)
    assert versions(shared) == versions(whole)
