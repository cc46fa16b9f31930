"""The guarantee states the weights that its training started from."""

import hashlib
from pathlib import Path
from typing import Any

import pytest
import torch

from seg_mia.cli import main
from seg_mia.errors import InputError
from seg_mia.models.pretraining import tensors_digest
from seg_mia.models.smp import Smp
from seg_mia.report.evidence.promises import promises
from seg_mia.results.audit import AuditResult
from seg_mia.results.privacy import guarantee
from tests.defences.dp.conftest import HEAD
from tests.defences.dp.helpers import ONE_EPOCH, UNLIMITED, fit, privacy
from tests.report.audits import audit, compared, guess, promise
from tests.report.test_page import written

FROZEN = "--model.frozen=[encoder]"
RECORD = {"name": "a<b>.pth", "part": "encoder", "sha256": 64 * "a", "of": "file"}


def test_a_file_is_stated_by_base_name_and_digest_and_kept_when_resumed(head: Path, tmp_path: Path) -> None:
    file = tmp_path / "hospital_x" / "encoder.pth"
    file.parent.mkdir()
    torch.save(Smp(**HEAD).encoder.state_dict(), file)
    words = [*UNLIMITED, FROZEN, f"--model.encoder_weights={file}"]
    folder = fit(head, *words, ONE_EPOCH)
    expected = hashlib.sha256(file.read_bytes()).hexdigest()
    record = [{"name": "encoder.pth", "part": "encoder", "sha256": expected, "of": "file"}]
    assert privacy(folder)["pretrained"] == record
    assert "hospital_x" not in str(privacy(folder))
    file.unlink()  # a resumed training does not read it again
    assert main(["fit", "--resume", str(folder), "--trainer.max_epochs=2"]) == 0
    assert privacy(folder)["pretrained"] == record


def test_weights_of_the_networks_library_are_stated_by_their_tensors(head: Path) -> None:
    folder = fit(head, *UNLIMITED, FROZEN, "--model.encoder_weights=imagenet", ONE_EPOCH)
    (record,) = privacy(folder)["pretrained"]
    assert (record["name"], record["part"], record["of"]) == ("imagenet", "encoder", "tensors")
    library = Smp(**HEAD).imagenet_encoder()  # of the fixture
    assert record["sha256"] == tensors_digest(library)


def test_random_weights_are_none_and_a_card_without_the_field_opens(small: Path) -> None:
    folder = fit(small, *UNLIMITED, ONE_EPOCH)
    found = privacy(folder)
    assert found["pretrained"] == []
    old = guarantee({name: value for name, value in found.items() if name != "pretrained"}, "card")
    assert old is not None
    assert old.pretrained is None


@pytest.mark.parametrize(
    "change", [{"sha256": "no digest"}, {"sha256": 64 * "g"}, {"part": "decoder"}, {"name": 300 * "x"}]
)
def test_a_strangers_card_with_another_record_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="card does not fit: pretrained"):
        guarantee(promise(8.0, pretrained=[RECORD | change]), "card")


@pytest.mark.parametrize(
    ("records", "shown"),
    [
        (
            [RECORD],
            f"a&lt;b&gt;.pth (encoder; sha256 of the file <code>{64 * 'a'}</code>): images that these were",
        ),
        (
            [],
            "<dt>Started from</dt><dd>none given by an option; what the network's constructor loads is not "
            "seen</dd>",
        ),
        (None, '<dt>Started from</dt><dd><strong class="gap">not recorded</strong></dd>'),
    ],
)
def test_page_and_numbers_state_it(records: list[dict[str, str]] | None, shown: str) -> None:
    content = audit([guess()], defences=[compared(privacy=promise(8.0, pretrained=records))])
    read = AuditResult.read(content, "audit.json")
    (given,) = promises(read.defences, read.membership, read.leaks)
    assert (given.pretrained is None) == (records is None)
    page, numbers = written(content)
    assert shown in page
    assert numbers["evidence"]["promises"][0]["pretrained"] == records
