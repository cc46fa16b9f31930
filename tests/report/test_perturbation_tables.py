"""Tables of the page on changed images: label by label, other victims, losses of an ensemble."""

from typing import Any

from tests.report.audits import audit, fool, guess
from tests.report.test_page import HOSTILE, Page, written


def label(name: str, **iou: float) -> dict[str, Any]:
    """Return one label before and after."""
    return {"label": name, "images": 7, "before": 0.811, "after": 0.322} | iou


def other(victim: str) -> dict[str, Any]:
    """Return another victim of the same images."""
    return {"victim": victim, "before": 0.777, "after": 0.333, "low": 0.211, "high": 0.444}


def cells(text: str, name: str) -> list[str]:
    """Return the texts of the cells of the table row that begins with a name."""
    row = next(part for part in text.split("<tr>") if part.startswith(f'<th scope="row">{name}'))
    return [piece.split("</td>")[0].split(">", 1)[1] for piece in row.split("<td")[1:]]


def table(text: str, caption: str) -> str:
    """Return the table of a caption."""
    (found,) = (part for part in text.split("<table")[1:] if caption in part.split("</caption>")[0])
    return found.split("</table>")[0]


def test_labels_have_dice_and_iou_where_it_was_measured() -> None:
    measured = [label("liver", iou_before=0.688, iou_after=0.194, low=0.2, high=0.5), label("spleen")]
    text, report = written(audit([guess(), fool("pgd", is_targeted=False, labels=measured)]))
    assert report["perturbations"][0]["labels"][0]["iou_after"] == 0.194
    rows = table(text, "Mean Dice and IoU of each label")
    assert cells(rows, "pgd") == ["liver", "7", "0.811", "0.322 [0.200, 0.500]", "0.688", "0.194"]
    assert cells(rows[rows.index("0.194") :], "pgd") == ["spleen", "7", "0.811", "0.322", "–", "–"]  # noqa: RUF001
    assert "<summary>Label by label</summary>" not in text
    without, _ = written(audit([guess(), fool("pgd", is_targeted=False, labels=[label("liver")])]))
    assert cells(table(without, "Mean Dice of each label"), "pgd") == ["liver", "7", "0.811", "0.322"]


def test_many_labels_are_folded() -> None:
    many = [label(f"organ {number}") for number in range(13)]
    text, _ = written(audit([guess(), fool("pgd", is_targeted=False, labels=many)]))
    folded = text.split("<summary>Label by label</summary>")[1].split("</details>")[0]
    assert all(f"<td>organ {number}</td>" in folded for number in range(13))


def test_a_universal_change_tells_what_it_was_fitted_to_and_what_it_does_to_others() -> None:
    universal = fool(
        "universal",
        is_targeted=False,
        images=20,
        units=5,
        fitted={"images": 12, "units": 4},
        others=[other("runs/b/version_0")],
    )
    text, _ = written(audit([guess(), universal]))
    rows = table(text, "Dice of the 20 attacked images, none of them among the 12 of 4 other patients")
    assert "other victims are shown the same changed images" in rows
    before, after = cells(rows, "runs/victim_0/version_0")
    assert before == "0.800"
    assert after.startswith("0.400 [")
    assert cells(rows, "runs/b/version_0") == ["0.777", "0.333 [0.211, 0.444]"]
    alone, _ = written(audit([guess(), fool("universal", images=20, fitted={"images": 12, "units": 4})]))
    assert "other victims" not in table(alone, "none of them among the 12 of 4 other patients")
    plain, _ = written(audit([guess(), fool()]))
    assert "the change is made for it" not in plain


def test_many_other_victims_are_folded() -> None:
    others = [other(f"runs/b/version_{number}") for number in range(13)]
    text, _ = written(audit([guess(), fool("universal", is_targeted=False, others=others)]))
    folded = text.split("<summary>universal: 13 other victims</summary>")[1].split("</details>")[0]
    assert all(f"runs/b/version_{number}<" in folded for number in range(13))


def test_losses_of_an_ensemble_are_told_apart() -> None:
    members = [
        {"loss": "dice", "won": 0.25, "alone": 0.3, "without": 0.2},
        {"loss": "tsallis", "won": 0.75, "alone": 0.21, "without": None},
    ]
    text, _ = written(audit([guess(), fool("sea", is_targeted=False, members=members)]))
    rows = table(text, "Share of the images that each loss leaves the lowest Dice")
    assert cells(rows, "dice") == ["25 %", "0.300", "0.200"]
    assert cells(rows, "tsallis") == ["75 %", "0.210", "–"]  # noqa: RUF001


def test_names_in_these_tables_stay_text() -> None:
    members = [{"loss": HOSTILE, "won": 1.0, "alone": 0.3, "without": None}]
    named = fool(labels=[label(HOSTILE)], others=[other(HOSTILE)], members=members, victim=HOSTILE)
    page = Page(written(audit([guess(), named]))[0])
    assert not page.open
    assert "img" not in {tag for tag, attributes in page.elements if attributes.get("src") == "x"}
    shown = [text for tag, text in page.texts if tag in {"td", "th"} and "<img src=x onerror" in text]
    assert len(shown) >= 4, "as text: the label, two victims, the loss"
