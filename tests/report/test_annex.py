"""Annexes: all groups of fields on few sheets, names as text, a model card that parses."""

import copy
import json
import re
from contextlib import chdir
from pathlib import Path
from typing import Any

import pytest
import yaml

from seg_mia.cli import main
from seg_mia.errors import InputError
from seg_mia.report.annex import pdf
from seg_mia.report.annex.mapping import MAPPING
from seg_mia.report.annex.model_card import escaped
from seg_mia.report.sums import read_sums
from seg_mia.report.write import write_report
from tests.report.audits import audit, compared, fool, full, guess, write_audit
from tests.report.test_page import HOSTILE, Page, hostile


def annexed(content: dict[str, Any], *, images: bool = True) -> tuple[str, str]:
    """Return the text of the annex and of the model card."""
    folder = write_audit(content)
    write_report(folder, images=images, annexes=["dpo", "model-card"])
    return (folder / "annex_dpo.html").read_text(), (folder / "MODEL_CARD.md").read_text()


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """Annex and card of an audit with all there can be."""
    declared = {"access": "api_masks", "queried_by": "two hospitals", "rate_limit": ""}
    with chdir(tmp_path_factory.mktemp("annex")):
        return annexed(full() | {"release_context": declared})


def test_the_annex_has_all_groups_with_the_places_that_ask_for_them(texts: tuple[str, str]) -> None:
    page = Page(texts[0])
    text = " ".join(page.text().split())
    assert not page.open
    assert not page.all("script")
    for entry in MAPPING:
        assert f"{entry.number} {entry.group}" in text
        assert entry.shown in text
    for said in (
        "queries that return masks (declared)",
        "two hospitals",
        "Rate limitnot declared",
        "regurgitationno",
        "Not run: no evidence of whether training images can be extracted",
        "Evidence of vulnerability",
        "Data protection officer",
        "* Read through summaries",
    ):
        assert said in text, said
    assert "safe" not in text.lower()


def test_unread_texts_are_marked() -> None:
    marks = {
        reference.text: reference.shown.endswith(" *") for row in MAPPING for reference in row.references
    }
    assert [text for text, marked in marks.items() if not marked] == ["OWASP AISVS chapter C11"]


def test_hostile_names_stay_text_in_annex_and_card() -> None:
    content = hostile()
    content["release_context"] = {"access": "internal", "queried_by": HOSTILE, "rate_limit": HOSTILE}
    annex, card = annexed(content)
    page = Page(annex)
    assert not page.open
    assert not page.all("img")
    assert "onerror" not in {name for _, attributes in page.elements for name in attributes}
    assert page.text().count("<img src=x onerror=alert(1)>") > 10
    header, body = card.removeprefix("---\n").split("\n---\n", 1)
    assert "<img src=x onerror=alert(1)>" in yaml.safe_load(header)["model-index"][0]["name"]
    assert not re.search(r"(?<!\\)<(?!br)", body), "no tag is left in the Markdown"


def test_the_card_is_metadata_and_statements(texts: tuple[str, str]) -> None:
    header, body = texts[1].removeprefix("---\n").split("\n---\n", 1)
    index = yaml.safe_load(header)["model-index"][0]["results"][0]
    assert index["task"]["type"] == "image-segmentation"
    assert {"type": "dice", "name": "Dice, non-members", "value": 0.8} in index["metrics"]
    assert any(metric["value"] == 0.75 for metric in index["metrics"])
    for said in (
        "(rule A2)",
        "Who may query: two hospitals",
        "Rate limit: not declared",
        "report.json has sha256",
    ):
        assert said in body


def test_markdown_shows_what_is_escaped() -> None:
    assert escaped("a*b_<c>\n# d|e") == r"a\*b\_\<c\> # d\|e"
    assert [escaped(text) for text in ("# a", "- a", "a-b")] == [r"\# a", r"\- a", "a-b"]


def test_long_tables_are_cut_and_the_annex_says_so() -> None:
    attacks = [guess(f"mia-{number:02}") for number in range(15)]
    text = " ".join(Page(annexed(audit(attacks))[0]).text().split())
    assert "mia-11" in text
    assert "Left out of this annex, and in report.html: 3 threat models, 3 results by patient." in text


@pytest.mark.skipif(pdf.browser() is None, reason="prints by an installed browser")
def test_an_audit_of_many_rows_prints_on_six_sheets() -> None:
    content = full()
    attacks = [copy.deepcopy(attack) for attack in content["attacks"] for _ in range(4)]
    for number, attack in enumerate(attacks):
        attack["label"] = f"{attack['name']} with a rather long label, number {number}"
    write_audit(content | {"attacks": attacks})
    assert main(["report", "runs/my_audit", "--annex", "dpo", "--pdf", "--no-images"]) == 0
    printed = Path("runs/my_audit/version_0/annex_dpo.pdf").read_bytes()
    assert printed.startswith(b"%PDF")
    assert 1 <= len(re.findall(rb"/Type /Page\b", printed)) <= 6
    assert "annex_dpo.pdf" in read_sums(Path("runs/my_audit/version_0"))


def test_without_a_browser_the_remedy_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_audit(audit([guess(), fool()], defences=[compared()]))
    monkeypatch.setattr(pdf, "browser", lambda: None)
    with pytest.raises(InputError, match=r"finds none; open annex_dpo\.html in a browser and print it"):
        write_report(folder, annexes=["dpo"], pdf=True)


def test_a_pdf_is_of_the_annex(capsys: pytest.CaptureFixture[str]) -> None:
    write_audit(audit([guess()]))
    assert main(["report", "runs/my_audit", "--pdf"]) == 2
    assert "add --annex dpo" in capsys.readouterr().err
    assert main(["report", "runs/my_audit", "--annex", "dpo", "--annex", "model-card"]) == 0
    assert "MODEL_CARD.md" in capsys.readouterr().out


def test_an_annex_names_no_sample() -> None:
    ids = {name: f"secret-{name}" for name in ("m0", "m1", "m2", "m3", "n0", "n1", "n2", "n3")}
    folder = write_audit(full(), ids=ids)
    write_report(folder, annexes=["dpo", "model-card"])
    for name in ("annex_dpo.html", "MODEL_CARD.md"):
        assert "secret" not in (folder / name).read_text()
    assert "secret" not in json.dumps(json.loads((folder / "report.json").read_text())["evidence"])
