"""What canaries prove stands in the report; a promise that they break comes before all else."""

import json
import math
from importlib.resources import files
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from markupsafe import escape as markup

from seg_mia.cli import main
from seg_mia.errors import InputError
from seg_mia.report.build import build
from seg_mia.report.rules.gates import check, read_gate
from seg_mia.report.rules.statement_rules import RULES as STATEMENT_RULES
from seg_mia.report.rules.verdicts import RULES
from seg_mia.report.write import write_report
from seg_mia.results.report import Report
from tests.report.audits import (
    audit,
    canaries,
    certified,
    compared,
    full,
    guess,
    promise,
    source,
    write_audit,
)

HOSTILE = "</td><img src=x onerror=alert(1)>\"'&{{7*7}}"


def told(*rows: dict[str, Any], attacks: tuple[dict[str, Any], ...] = ()) -> Report:
    content = audit(attacks or (guess(),), defences=list(rows))
    return build(source(content), images=False)[0]


def asked(**found: Any) -> Report:
    return told(compared(), compared(1, "private", privacy=promise(), canaries=canaries(**found)))


def page(content: dict[str, Any]) -> str:
    folder = write_audit(content)
    write_report(folder)
    return " ".join((folder / "report.html").read_text().split())


@pytest.mark.parametrize(
    ("epsilon", "one_run", "shown", "degree", "sure"),
    [
        (8.01, 0.0, "8.01", "contradicted if samples are independent", "This is no proof"),
        (0.0, 8.5, "8.50", "broken", "no assumption"),
        (9.5, 8.5, "8.50", "broken", "no assumption"),
    ],
)
def test_a_bound_above_the_promise_breaks_it_and_is_said_first(
    epsilon: float, one_run: float, shown: str, degree: str, sure: str
) -> None:
    """One by our coins is a proof and comes first; a larger one by a threshold assumes independence."""
    report = asked(epsilon=epsilon, one_run=one_run)
    first = report.warnings[0]
    assert first.startswith(f'The privacy guarantee of "private" is {degree} (seed 7).')
    assert "epsilon 8 per image, delta 0.001" in first
    verb, subject = (
        ("prove", "Canaries prove")
        if degree == "broken"
        else ("show", "If samples are independent, canaries show")
    )
    assert f"canaries in its training {verb} at least {shown}, at 95% confidence" in first
    assert sure in first
    assert ("Do not rely on it" in first) == (degree == "broken")
    assert ("Repeat the training with more canaries" in first) != (degree == "broken")
    verdict = report.verdicts[1].privacy
    word = "Broken" if degree == "broken" else "Contradicted if independent"
    assert (verdict.level, verdict.word) == ("bad", word)
    assert f"{subject} at least {shown}, at 95% confidence for the 2 bounds together." in verdict.why
    assert verdict.measure is not None
    assert verdict.measure.value == 8.0


def test_a_bound_at_or_below_the_promise_is_told_without_noise() -> None:
    report = asked(epsilon=8.0, one_run=7.9)
    assert not report.warnings
    verdict = report.verdicts[1].privacy
    assert verdict.word == "Moderate guarantee"
    assert "Canaries prove at least 7.90, 8.00 if samples are independent." in verdict.why
    (line,) = [text for text in report.caveats if text.startswith("Canaries are for measurement")]
    assert '"private"' in line
    assert not [text for text in told(compared()).caveats if "Canaries" in text]


def test_no_promise_and_an_infinite_one_cannot_be_broken() -> None:
    for epsilon in (None, math.inf):
        endless = promise(epsilon)
        report = told(compared(privacy=endless, canaries=canaries(2.5, privacy=endless)))
        assert (report.warnings, report.verdicts[0].privacy.word) == ([], "Infinite")
        told_of = "Canaries prove no lower bound, 2.50 if samples are independent."
        assert told_of in report.verdicts[0].privacy.why
    report = told(compared(canaries=canaries(2.5, privacy=None)))
    assert (report.warnings, report.verdicts[0].privacy.word) == ([], "No guarantee")
    assert told_of in report.verdicts[0].privacy.why


def test_canaries_are_held_against_what_their_own_training_promised() -> None:
    """A checkpoint of an early epoch has spent less than the training that was asked when it ended."""
    early = compared(privacy=promise(0.5), canaries=canaries(2.0, privacy=promise(3.0)))
    assert told(early).verdicts[0].privacy.word == "Strong guarantee"
    late = compared(privacy=promise(0.5), canaries=canaries(0.0, 3.5, privacy=promise(3.0)))
    assert told(late).verdicts[0].privacy.word == "Broken"


def test_a_canary_is_an_image_and_a_patient() -> None:
    private = promise(1.0, unit="patient")
    assert told(compared(privacy=private, canaries=canaries(1.5, privacy=private))).warnings


def test_the_proof_that_goes_furthest_is_named_and_an_attack_counts_as_well() -> None:
    proof = guess(row=1, defence="private", certified=certified(8.5))
    plain = compared(1, "private", privacy=promise())
    (first,) = told(compared(), plain, attacks=(proof,)).warnings
    assert "mia-type2 shows at least 8.50" in first
    assert "Do not rely on it" not in first
    assert "Repeat the training with canaries" in first
    assert "contradicted if samples are independent" in first
    both = plain | {"canaries": canaries(0.0, 9.0)}
    (first,) = told(
        compared(), both, attacks=(guess(row=1, defence="private", certified=certified(12)),)
    ).warnings
    assert "canaries in its training prove at least 9.00" in first, "a proof comes before a larger bound"


def test_a_split_that_leaks_takes_the_force_from_an_attacks_proof_but_not_from_canaries() -> None:
    blind = guess("mia-blind", auc=(0.6, 0.51, 0.7), signal="ImageAndMask")
    proof = guess(row=1, defence="private", certified=certified(8.5))
    row = compared(1, "private", privacy=promise())
    first, second = told(compared(), row, attacks=(blind, proof)).warnings
    assert "the split itself separates members" in first
    assert "void" in second
    first, _ = told(compared(), row | {"canaries": canaries(9.0)}, attacks=(blind, guess())).warnings
    assert "split" not in first


def test_each_seed_that_breaks_its_promise_is_named() -> None:
    rows = [compared(0, "private", n, privacy=promise(), canaries=canaries(8.5 + n)) for n in (0, 1, 2)]
    rows[1]["canaries"] = canaries(1.0)
    attacks = tuple(guess(round_=n) for n in (0, 1, 2))
    assert [text.partition(". ")[0][-8:] for text in told(*rows, attacks=attacks).warnings] == [
        "(seed 7)",
        "(seed 9)",
    ]


def test_the_numbers_are_in_the_file_and_fit_its_schema() -> None:
    folder = write_audit(full())
    write_report(folder)
    said = json.loads((folder / "report.json").read_text())
    schema = json.loads((files("seg_mia.report") / "schema.json").read_text())
    Draft202012Validator(schema).validate(said)
    assert said["victims"][0]["canaries"] is None
    found = said["victims"][1]["canaries"]
    assert (found["inserted"], found["left_out"], found["auc"]) == (92, 108, 0.875)
    bound = {name: value for name, value in found["certified"].items() if value is not None}
    stricter = {"attainable": 2.75, "confidence": 0.9999, "epsilon": 0.5}
    assert bound == {"attainable": 2.75, "confidence": 0.95, "epsilon": 0.5, "stricter": [stricter]} | {
        "rule": "members_above"
    }
    assert found["delta"] == 1e-3
    assert found["one_run"]["epsilon"] == 0.25
    assert found["gaussian"] is None
    assert found["privacy"]["epsilon"] == 8.0


def test_the_bound_of_a_gaussian_mechanism_refutes_where_the_others_cannot() -> None:
    report = asked(
        epsilon=0.5, one_run=0.25, gaussian=certified(9.0, 25.0, unit=None, rule="gaussian_one_run")
    )
    (warning,) = [text for text in report.warnings if "is broken" in text]
    assert "canaries in its training prove at least 9.00" in warning
    assert "no assumption on the dependence" in warning


def test_the_bound_of_a_trade_off_function_is_compared_and_shown_with_its_ceiling() -> None:
    found = {
        "gaussian": certified(7.0, 25.0, unit=None, rule="gaussian_one_run"),
        "f_dp": certified(8.5, 9.5, unit=None, rule="f_dp_one_run"),
    }
    report = asked(epsilon=0.5, one_run=0.25, **found)
    (warning,) = [text for text in report.warnings if "is broken" in text]
    assert "canaries in its training prove at least 8.50" in warning
    assert "for the 4 bounds together" in warning
    private = compared(1, "private", privacy=promise(), canaries=canaries(0.5, 0.25, **found))
    text = page(audit([guess()], defences=[compared(), private]))
    assert '<td class="n">8.50 (9.50)</td>' in text


def test_the_page_shows_each_victims_canaries() -> None:
    rows = [
        compared(canaries=canaries(1.5, privacy=None)),
        compared(1, "kept", privacy=promise(), canaries=canaries(0.5, 0.25)),
        compared(2, "broken", privacy=promise(), canaries=canaries(0.5, 8.5)),
        compared(3, "clipped", privacy=promise(None), canaries=canaries(2.75, privacy=promise(None))),
        compared(4, "plain"),
    ]
    rows.append(compared(5, "if so", privacy=promise(), canaries=canaries(9.5)))
    text = page(audit([guess()], defences=rows))
    section = text[text.index('<section id="canaries"') :].partition("</section>")[0]
    body = section.partition("<tbody>")[2].partition("</tbody>")[0]
    shown = body.split("</tr>")[:-1]
    assert len(shown) == 5
    for row, said in zip(
        shown,
        [
            ("none", "92", "108", "0.875", "1.50 (2.75)", "0.00 (2.75)", "No guarantee"),
            ("kept", "0.50 (2.75)", "0.25 (2.75)", "epsilon 8 per image, delta 0.001", "Not refuted"),
            ("broken", "8.50 (2.75)", "epsilon 8 per image", 'badge bad"', "Broken"),
            ("clipped", "2.75 (2.75)", "epsilon infinite per image", "Infinite"),
            ("if so", "9.50 (2.75)", 'badge bad"', "Contradicted if independent"),
        ],
        strict=True,
    ):
        for part in said:
            assert part in row
    assert text.index("Read this first") < text.index('id="verdict"') < text.index('id="canaries"')
    assert '<a href="#canaries">' in text


def test_without_canaries_nothing_is_said_of_them() -> None:
    text = page(audit([guess()], defences=[compared()]))
    body = text.partition("<body>")[2]
    for rule in (RULES["privacy"], *STATEMENT_RULES.values()):
        body = body.replace(str(markup(rule)), "")
    assert "canaries" not in body


def test_what_was_trained_with_canaries_and_has_no_proof_is_named() -> None:
    report = told(compared(has_canaries=True), compared(1, "plain"))
    (missing,) = [text for text in report.missing if "canaries.json" in text]
    assert missing.startswith('"none", seed 7:')
    with_it = compared(canaries=canaries(privacy=None))
    assert not [text for text in told(with_it).missing if "canaries.json" in text]


def test_hostile_names_stay_text() -> None:
    private = promise(accountant=HOSTILE)
    row = compared(0, HOSTILE, privacy=private, canaries=canaries(9.0, privacy=private))
    text = page(audit([guess(defence=HOSTILE, label=HOSTILE)], defences=[row]))
    assert "<img src=x" not in text
    assert text.count("&lt;img src=x onerror=alert(1)&gt;") >= 6
    assert "{{7*7}}" in text


@pytest.mark.parametrize(
    "found",
    [
        "yes",
        ["x"],
        {"inserted": 3},
        canaries() | {"inserted": math.inf},
        canaries() | {"certified": None},
        canaries() | {"privacy": 3},
    ],
)
def test_what_is_no_audit_of_canaries_is_refused(found: Any) -> None:
    folder = write_audit(audit([guess()], defences=[compared(canaries=found)]))
    with pytest.raises(InputError, match="repeat the audit"):
        write_report(folder)


def test_gates_know_canaries() -> None:
    report = asked(epsilon=2.0, one_run=0.5)
    assert check([read_gate("canaries.epsilon>1")], report) == [
        "gate canaries.epsilon>1: canaries.epsilon is 2 (by a threshold, if samples are independent on "
        "private, seed 7)"
    ]
    assert len(check([read_gate("canaries.epsilon[private]>=0.5")], report)) == 2
    assert check([read_gate("canaries.auc>0.8")], report)
    assert not check([read_gate("canaries.auc>0.9")], report)
    with pytest.raises(InputError, match="matches nothing"):
        check([read_gate("canaries.epsilon>1")], told(compared()))


def test_a_gate_on_refutations_counts_bounds_that_hold_together() -> None:
    """A single bound at 95 % exceeds a kept guarantee more often than 5 %, one of several far more often."""
    gate = [read_gate("epsilon.refutations>0")]

    def of_canaries(promised: float, stricter: list[float]) -> Report:
        found = canaries(epsilon=9.0, privacy=promise(promised))
        for bound in (found["certified"], found["one_run"]):
            rows = [{"confidence": 0.975, "epsilon": share * bound["epsilon"]} for share in stricter]
            bound["stricter"] = [row | {"attainable": 9.5} for row in rows]
        return told(compared(privacy=promise(promised), canaries=found))

    kept, broken, unknown = of_canaries(8.5, [0.9]), of_canaries(8.0, [0.9]), of_canaries(8.0, [])
    assert check([read_gate("canaries.epsilon>8.5")], kept), "by itself the bound is larger"
    assert not check(gate, kept)
    assert check(gate, broken) == [
        "gate epsilon.refutations>0: epsilon.refutations is 1 (2 bounds, 2 together on none, seed 7)"
    ]
    assert "which is invalid: 2 of 2 bounds were not computed" in check(gate, unknown)[0]
    with pytest.raises(InputError, match="matches nothing"):
        check(gate, told(compared()))


def test_the_command_says_it_before_the_verdicts(capsys: pytest.CaptureFixture[str]) -> None:
    row = compared(privacy=promise(), canaries=canaries(0.0, 8.5))
    write_audit(audit([guess()], defences=[row]))
    assert main(["report", "runs/my_audit"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[3].startswith('WARNING: The privacy guarantee of "none" is broken')
    assert lines[4].endswith("promise of privacy: promise contradicted (P1)")
