import base64
import hashlib
import json
import re
import shutil
from collections import Counter
from contextlib import chdir
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from seg_mia.report.write import write_report
from tests.report.audits import SCORES, audit, compared, fool, full, guess, mean, write_audit
from tests.results.test_text import thresholds

HOSTILE = "</script></style></title><img src=x onerror=alert(1)>\"'&{{7*7}}$x^$"
VOID = {"meta", "img", "br", "link", "path", "circle", "use"}


class Page(HTMLParser):
    """A page's elements, in order, each with its attributes and the text in it."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append((self.open[-1] if self.open else "", data))

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]

    def text(self) -> str:
        return "".join(text for _, text in self.texts)


def written(content: dict[str, Any], *, images: bool = True, **more: Any) -> tuple[str, dict[str, Any]]:
    folder = write_audit(content, **more)
    write_report(folder, images=images)
    return (folder / "report.html").read_text(), json.loads((folder / "report.json").read_text())


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The page of an audit with all there can be."""
    with chdir(tmp_path_factory.mktemp("full")):
        return written(full())[0]


@pytest.fixture(scope="module")
def page(text: str) -> Page:
    """The same, taken apart."""
    return Page(text)


def test_the_page_is_well_formed_and_can_be_navigated(page: Page) -> None:
    assert not page.open, "every element is closed"
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch("h[1-6]", tag)]
    assert levels.count(1) == 1
    assert levels[0] == 1
    assert all(later - earlier <= 1 for earlier, later in pairwise(levels))
    ids = Counter(attributes["id"] for _, attributes in page.elements if "id" in attributes)
    assert set(ids.values()) == {1}
    for _, attributes in page.elements:
        for target in (attributes.get("aria-labelledby"), (attributes.get("href") or "").removeprefix("#")):
            assert not target or target in ids
        for value in attributes.values():
            assert all(link in ids for link in re.findall(r"url\(#([^)]+)\)", value or ""))
    assert all(image.get("alt") for image in page.all("img"))
    assert page.all("html")[0]["lang"] == "en"


def test_tables_say_what_they_are(page: Page) -> None:
    tags = [tag for tag, _ in page.elements]
    assert tags.count("table") == tags.count("caption") > 5
    assert all(head.get("scope") in {"col", "row"} for head in page.all("th"))
    assert all(
        attributes.get("tabindex") == "0" and attributes.get("aria-label")
        for attributes in page.all("div")
        if attributes.get("class", "") in {"scroll", "sheet"}
    )


def test_figures_tell_their_numbers(page: Page) -> None:
    figures = [attributes for attributes in page.all("svg") if attributes.get("role") == "img"]
    others = [attributes for attributes in page.all("svg") if attributes.get("role") != "img"]
    assert figures
    assert all(attributes["aria-hidden"] == "true" for attributes in others)
    titles = " ".join(text for tag, text in page.texts if tag == "title")
    assert "mia-type2: AUC 0.750 [0.600, 0.900], TPR 0.750 (below resolution) at FPR 10 %" in titles
    assert "4 members: median 0.75, quartiles 0.575 and 0.825" in titles
    assert "epsilon 8: Dice 0.800, AUC 0.550 [0.450, 0.650]" in titles


def test_nothing_is_fetched_and_only_the_own_script_and_style_are_allowed(text: str, page: Page) -> None:
    for tag, attributes in page.elements:
        assert not any(name.startswith("on") or name == "style" for name in attributes), tag
        for name in ("src", "href", "srcset", "data", "action"):
            assert re.match(r"(#|data:image/png;base64,|$)", attributes.get(name) or ""), attributes
    assert not re.search(r"https?:|//[a-z]|@import|url\((?!#)", text)
    policy = next(one["content"] for one in page.all("meta") if one.get("http-equiv"))
    assert policy is not None
    for tag in ("script", "style"):
        (own,) = re.findall(f"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(own.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy


def hostile() -> dict[str, Any]:
    """Return an audit with a name that would break out, wherever a name can stand."""
    content = json.loads(json.dumps(full()).replace("epsilon 8", "PLACE"))
    for attack in content["attacks"]:
        attack["attacker_knowledge"] = HOSTILE
        attack["attack"]["init_args"][HOSTILE] = HOSTILE
        attack["data"]["fingerprint"] = HOSTILE
        attack["label"] = f"{attack['name']} {HOSTILE}"
        for row in attack.get("success", []):
            row |= {"target_kind": HOSTILE, "loss": f"{row['loss']}{HOSTILE}"}
        if attack.get("privacy"):
            attack["privacy"]["accountant"] = HOSTILE
    for row in content["defences"]:
        row["about"] = {"network": HOSTILE, "data": {"class_path": HOSTILE, HOSTILE: [HOSTILE]}}
        if row.get("canaries"):
            row["canaries"]["privacy"]["accountant"] = HOSTILE
            row["canaries"]["certified"]["epsilon"] = 9.0
    content |= {
        "name": HOSTILE,
        "created": HOSTILE,
        "tool": {HOSTILE: HOSTILE},
        "settings": {HOSTILE: [HOSTILE]},
    }
    content["stages"] = [
        {
            "name": HOSTILE,
            "command": HOSTILE,
            "folder": HOSTILE,
            "kind": HOSTILE,
            "seconds": 1.0,
            "cached": False,
        }
    ]
    return dict(json.loads(json.dumps(content).replace("PLACE", json.dumps(HOSTILE)[1:-1])))


def test_hostile_names_stay_text() -> None:
    ids = {"m0": HOSTILE.replace('"', '""')}
    folder = write_audit(hostile(), ids=ids)
    write_report(folder)
    shutil.rmtree("runs/victim_1")  # sentences about missing folders name them, too
    write_report(folder, ids=True)
    text = (folder / "report.html").read_text()
    page = Page(text)
    assert not page.open
    assert "onerror" not in {name for _, attributes in page.elements for name in attributes}
    assert "<img src=x" not in text
    assert page.text().count("<img src=x onerror=alert(1)>") > 50, "it is shown as it is"
    assert "{{7*7}}" in page.text()
    assert len(page.all("script")) == len(page.all("style")) == 1
    assert sum(tag == "title" for tag, _ in page.texts) >= 2
    said = json.loads((folder / "report.json").read_text())
    assert said["exposed"][0]["id"] == HOSTILE


def test_without_images_no_sample_is_shown_or_named() -> None:
    ids = {name: f"patient-{name}-secret" for name in SCORES}
    with_images, said = written(full(), ids=ids)
    assert with_images.count("data:image/png") == 4  # three perturbations, one sheet of exposed samples
    assert said["exposed"][0]["id"][:12] in with_images
    without, numbers = written(full(), images=False, ids=ids)
    for text in (without, json.dumps(numbers)):
        assert "secret" not in text
        assert "g-m0" not in text
        assert "data:image" not in text
        assert said["exposed"][0]["id"][:12] not in text
    assert "<img" not in without
    assert numbers["images"] is False
    assert numbers["exposed"] == []
    assert "Pictures of samples and hashes of their ids were left out" in without


def test_the_same_audit_gives_the_same_bytes() -> None:
    folder = write_audit(full())
    files = [folder / name for name in ("report.html", "report.json")]
    write_report(folder)
    first = [file.read_bytes() for file in files]
    write_report(folder)
    assert [file.read_bytes() for file in files] == first
    assert not [file for file in folder.iterdir() if file.name.startswith(".")]


def test_what_is_gone_is_left_out_with_a_sentence() -> None:
    folder = write_audit(audit([guess(), guess("mia-entropy"), fool(), fool("adain")]))
    shutil.rmtree("runs/victim_0/version_0/mia-type2")
    Path("runs/victim_0/version_0/mia-entropy/version_0/scores.csv").write_text("id,group\n")
    Path("runs/victim_0/version_0/asma/version_0/panel.png").write_bytes(b"no picture")
    Path("runs/victim_0/version_0/adain/version_0/panel.png").unlink()
    report = write_report(folder)
    assert report.membership[0].scores == {}
    assert [sentence.partition(":")[0] for sentence in report.missing] == [
        "mia-type2",
        "mia-entropy",
        "asma",
        "adain",
        "mia-type2",
    ]
    assert "its folder victim_0/version_0/mia-type2/version_0 is missing" in report.missing[0]
    assert "victim_0/version_0/mia-entropy/version_0/scores.csv is missing or damaged" in report.missing[1]
    page = Page((folder / "report.html").read_text())
    assert "is missing" in page.text()
    assert not page.all("img")


def test_a_folder_that_was_moved_with_its_runs_is_found(tmp_path: Path) -> None:
    content = json.loads(json.dumps(full()).replace("runs/victim", "/srv/elsewhere/runs/victim"))
    write_audit(full())
    Path("runs/my_audit/version_0/audit.json").write_text(json.dumps(content))
    shutil.move("runs", tmp_path / "moved")
    report = write_report(tmp_path / "moved" / "my_audit" / "version_0")
    assert report.missing == []
    assert report.membership[0].folder == "victim_0/version_0/mia-blind/version_0"
    text = (tmp_path / "moved" / "my_audit" / "version_0" / "report.html").read_text()
    assert "/srv" not in text
    assert str(tmp_path) not in text


def test_paths_of_the_machine_are_shortened_but_in_commands() -> None:
    content = full() | {
        "settings": {"runs": str(Path("runs").absolute()), "data": {"root": "/home/somebody/x/data"}}
    }
    content["stages"][0]["command"] = "fit --data.root /home/somebody/x/data"
    text, numbers = written(content)
    assert numbers["settings"]["data"]["root"] == ".../data"
    assert text.count("/home/") == 1
    assert str(Path.cwd()) not in text
    assert str(Path.cwd()) not in json.dumps(numbers)


@pytest.mark.parametrize(
    "content",
    [
        audit([]),
        audit([guess()]),
        audit([fool()]),
        audit([guess()], defences=[compared(shadow=None, utility={})]),
        audit([fool(results={"area_clean": mean(0.2), "area": mean(0.0), "success": mean(None)})]),
    ],
)
def test_an_audit_with_little_in_it_gives_a_page(content: dict[str, Any]) -> None:
    text, _ = written(content)
    assert not Page(text).open


def test_what_is_folded_is_named_on_paper_and_a_sheet_fits_a_page(text: str, page: Page) -> None:
    (style,) = re.findall("<style>(.*?)</style>", text, re.DOTALL)
    screen, _, printed = style.partition("@media print")
    assert ".folded { display: none; }" in screen
    assert "body:has(main details:not([open])) .folded { display: block; }" in printed
    assert 'details:not([open]) > summary::after { content: " (folded, not printed)"' in printed
    assert [one for one in page.all("p") if one.get("class") == "folded"]
    assert "open them before printing" in page.text()
    height = re.search(r"\.sheet img \{[^}]*max-height: ([\d.]+)cm", printed)
    assert height is not None
    assert float(height[1]) < 27.94 - 2 * 1.5, "a letter's height without margins, heading and frame"


def test_a_split_names_the_reference_as_such() -> None:
    about = {"split": {"role": "victim", "members": 60, "nonmembers": 40, "reference": 400}}
    text = Page(written(audit([guess()], defences=[compared(about=about)]))[0]).text()
    assert "60 members, 40 non-members, 400 reference" in text
    assert "for the shadow" not in text


def test_a_victim_that_segments_nothing_is_read_first() -> None:
    utility = {"nonmembers": {"dice": 0.0}, "members": {"dice": 0.02}}
    page = Page(written(audit([guess(), fool()], defences=[compared(utility=utility)]))[0])
    first, _, rest = page.text().partition("For the attacked victim")
    assert "Read this first" in first
    assert "hardly segments: Dice 0.020 on its own members, below 0.1" in first
    assert rest.count("Void") >= 2


def test_the_page_says_what_holds_of_this_audit(page: Page) -> None:
    text = " ".join(page.text().split())
    for said in (
        "my_audit",
        "Finished 1 March 2026, 12:30 UTC. 4 victims, 8 membership and 8 perturbation results",
        "epsilon 8 per image, delta 0.001",
        "Smp, encoder resnet18",
        "4 members, 4 non-members, split seed 0",
        "0.800 on non-members; 0.900 on members, gap +0.100",
        "\u22120.200 [\u22120.300, \u22120.100]",
        "from an earlier run",
        "python -m seg_mia fit --config v",
        "With 4 non-members a false positive rate of 1 % cannot be resolved: it needs at least 100.",
        'For "epsilon 8" the attacker does not know the defence',
        "Over several seeds",
    ):
        assert said in text, said
    plain = " ".join(Page(written(audit([guess()]))[0]).text().split())
    for said in ("Over several seeds", "Defences compared", "Perturbations", "Read this first", "epsilon 8"):
        assert said not in plain


@pytest.mark.parametrize("shadows", [1, 3])
def test_the_page_shows_on_how_many_shadows_an_attack_learnt(shadows: int) -> None:
    content = audit([guess(shadows=[f"runs/shadow/version_{number}" for number in range(shadows)])])
    table = written(content)[0].partition('aria-label="Membership attacks"')[2].partition("</table>")[0]
    heads = re.findall('<th scope="col"[^>]*>(.*?)</th>', table)
    cells = re.findall("<t[dh][^>]*>(.*?)</t[dh]>", table.partition("<tbody>")[2])
    assert cells[heads.index("shadows")] == str(shadows)


def test_thresholds_of_other_networks_have_a_table() -> None:
    rates = thresholds()
    attacks = [guess("mia-lira", thresholds=rates.plain()), guess()]
    shown = " ".join(Page(written(audit(attacks))[0]).text().split())
    for found in (rates.pooled[0], rates.transferred[0]):
        assert f"{found.tpr.value:.3f} [{found.tpr.low:.3f}, {found.tpr.high:.3f}]" in shown
    assert "0.1 expected" in shown
    assert "one, from other networks" not in shown, "of recipes"
    assert "at a threshold chosen on these decisions" in shown
    assert "thresholds that only the attacker's networks decide" in shown
    assert "lower bound on epsilon that they show if samples are independent" in shown
    assert "thresholds that only" not in " ".join(Page(written(audit([guess()]))[0]).text().split())
