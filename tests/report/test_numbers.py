import csv
import json
import math
from importlib.resources import files
from pathlib import Path
from typing import Any, NoReturn

import pytest
from jsonschema import Draft202012Validator

from seg_mia.errors import InputError
from seg_mia.report.load import StoredAudit, read_audit
from seg_mia.report.schema import FILE, text
from seg_mia.report.write import write_report
from seg_mia.results.audit import AuditResult
from seg_mia.results.report import SCHEMA
from tests.report.audits import audit, certified, fool, full, guess, write_audit


def refused(name: str) -> NoReturn:
    """Fail for NaN and infinity, which JSON does not know."""
    pytest.fail(f"{name} is no JSON")


def schema() -> dict[str, Any]:
    return dict(json.loads((files("seg_mia.report") / "schema.json").read_text()))


def numbers(content: dict[str, Any], *, images: bool = True) -> dict[str, Any]:
    folder = write_audit(content)
    write_report(folder, images=images)
    return dict(json.loads((folder / "report.json").read_text(), parse_constant=refused))


def test_the_schema_is_one_and_names_what_it_is_of() -> None:
    Draft202012Validator.check_schema(schema())
    assert schema()["$id"] == SCHEMA
    assert (files("seg_mia.report") / FILE).read_text() == text(), "python -m seg_mia.report.schema"


def test_the_schema_says_what_fields_mean() -> None:
    parts = schema()["$defs"]
    assert parts["MembershipMeasures"]["properties"]["tpr_at_fpr_0.1"]["description"] == (
        "true positive rate at a false positive rate of 10 %."
    )
    assert parts["MembershipResult"]["properties"]["folder"]["description"] == (
        "where the attack's files lie."
    )
    assert parts["Measure"]["properties"]["low"]["description"] == "lower end of the interval."
    assert schema()["properties"]["schema"]["const"] == SCHEMA


@pytest.mark.parametrize("content", [audit([]), audit([guess()]), audit([fool()]), full()])
@pytest.mark.parametrize("images", [True, False])
def test_what_is_written_fits_the_schema(content: dict[str, Any], images: bool) -> None:
    Draft202012Validator(schema()).validate(numbers(content, images=images))


def test_the_file_holds_the_numbers_of_the_audit() -> None:
    said = numbers(full())
    assert said["schema"] == SCHEMA
    attack = said["membership"][1]
    assert attack["results"]["auc"] == {"value": 0.75, "low": 0.6, "high": 0.9, "resolvable": True}
    assert attack["results"]["tpr_at_fpr_0.01"]["resolvable"] is False
    assert attack["certified"]["epsilon"] == 0.4
    assert attack["scores"]["members"] == {
        "count": 4,
        "lowest": 0.2,
        "lower_quartile": pytest.approx(0.575),
        "median": 0.75,
        "upper_quartile": pytest.approx(0.825),
        "highest": 0.9,
    }
    roles = [(one["blind"], one["control"]) for one in said["membership"][:4]]
    assert roles == [(True, False), (False, False), (False, True), (False, False)]
    assert said["membership"][3]["difference"]["value"] == -0.2
    assert said["victims"][1]["privacy"]["epsilon"] == 8.0
    over = {(one["label"], one["defence"]): one for one in said["seeds"]}
    assert over["mia-type2", "none"]["mean"] == 0.75
    assert over["mia-type2", "none"]["std"] == 0.0
    assert over["adain", "none"]["measures"] == "Dice to the truth"
    with Path("runs/victim_0/version_0/identities.csv").open(newline="") as table:
        names = {row["hash"]: row["name"] for row in csv.DictReader(table)}
    assert [names[one["group"]] for one in said["exposed"]][:1] == ["g-m0"]
    listed = [names[one["id"]] for one in said["exposed"]]
    assert listed == ["m0", "m1", "m2", "m3", "m2", "m1", "n0", "n1", "n2"]


def test_infinity_and_nan_are_null() -> None:
    attack = guess(certified=certified(math.inf, math.nan))
    attack["results"]["auc"]["low"] = -math.inf
    attack["attack"]["init_args"]["clip"] = math.inf
    for value in (math.inf, None):
        said = numbers(audit([attack | {"privacy": {"epsilon": value}}], settings={"x": math.nan}))
        assert said["victims"][0]["privacy"]["epsilon"] is None
        assert said["membership"][0]["results"]["auc"]["low"] is None
        assert said["membership"][0]["certified"]["epsilon"] is None
        assert said["membership"][0]["attack"]["init_args"]["clip"] is None
        assert said["settings"] == {"x": None}


def test_the_newest_version_is_taken() -> None:
    folder = write_audit(full())
    assert read_audit(folder).folder == folder.absolute()
    newer = folder.parent / "version_10"
    newer.mkdir()
    (newer / "audit.json").write_text(json.dumps(audit([])))
    (folder.parent / "version_11").mkdir()
    (folder.parent / "version_2").mkdir()
    (folder.parent / "version_2" / "audit.json").write_text(json.dumps(audit([])))
    assert read_audit(folder.parent).folder == newer.absolute()


@pytest.mark.parametrize(
    ("text", "telling"),
    [
        ("{", "JSON"),
        ("\ud800".encode("utf-8", "surrogatepass").decode("latin-1"), "JSON"),
        ("[" * 100_000, "JSON"),
        ("[]", "lists none"),
        ('{"version": 1}', "lists none"),
        ('{"version": 1, "attacks": []}', "must have version 3, got 1"),
        ('{"attacks": []}', "must have version 3, got None"),
        ('{"version": 2, "attacks": []}', "must have version 3, got 2"),
        ('{"version": 3, "attacks": [3]}', "does not fit"),
        (json.dumps(audit([]) | {"attacks": [3]}), r"does not fit: attacks\.0"),
        (json.dumps(audit([guess() | {"kind": "rumour"}])), r"does not fit: attacks\.0"),
        (
            json.dumps(audit([]) | {"attacks": [guess(results={"auc": 3})]}),
            r"does not fit: attacks\.0\.membership\.results\.auc",
        ),
        (json.dumps(audit([fool() | {"images": "many"}])), r"attacks\.0\.perturbation\.images"),
    ],
)
def test_what_is_no_audit_is_refused_with_the_remedy(text: str, telling: str) -> None:
    folder = write_audit(audit([]))
    (folder / "audit.json").write_text(text)
    with pytest.raises(InputError, match=telling) as refusal:
        write_report(folder)
    assert "repeat the audit" in str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert not (folder / "report.html").exists()


def test_a_folder_without_an_audit_is_refused() -> None:
    with pytest.raises(InputError, match=r"there is no folder nowhere; name an audit's folder"):
        read_audit("nowhere")
    Path("runs").mkdir()
    with pytest.raises(InputError, match=r"runs holds no audit\.json; name an audit's folder"):
        read_audit("runs")


def test_paths_are_shown_below_the_runs(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "a" / "version_0"
    (tmp_path / "runs" / "v" / "version_0" / "asma").mkdir(parents=True)
    folder.mkdir(parents=True)
    source = StoredAudit(folder, AuditResult.read(audit([]), "audit.json"))
    assert source.display_path(str(tmp_path / "runs" / "v" / "version_0")) == "v/version_0"
    assert source.display_path("/gone/to/v/version_0/asma") == "v/version_0/asma"
    assert source.display_path("C:\\Users\\someone\\one\\two\\three\\four") == ".../four"
    assert source.display_path("relative/path") == "relative/path"
    assert source.locate("/x/../../v/version_0") == tmp_path / "runs" / "v" / "version_0"
    assert source.display_path("/home/me/runs/other/version_3") == ".../other/version_3"
    assert (
        source.display_path("/home/me/runs/other/version_3/asma/version_1")
        == ".../other/version_3/asma/version_1"
    )
    assert source.without_absolute_paths({"a": ["see /home/me/mine now, and a/b", 3, None]}) == {
        "a": ["see .../mine now, and a/b", 3, None]
    }
