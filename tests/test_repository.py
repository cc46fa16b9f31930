"""What stands beside the package: hosted CI, the citation, the changelog."""

import os
import re
import shlex
import subprocess
import tomllib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from packaging.specifiers import SpecifierSet

import seg_mia
from tests.schemas import schema_errors

ROOT = Path(seg_mia.__file__).resolve().parents[1]
WORKFLOW = ROOT / ".github" / "workflows" / "ci.yml"

if not WORKFLOW.is_file():
    pytest.skip("only a checkout has these files", allow_module_level=True)

CI: dict[Any, Any] = yaml.safe_load(WORKFLOW.read_text())
JOBS: dict[str, Any] = CI["jobs"]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
CITATION: dict[str, Any] = yaml.safe_load((ROOT / "CITATION.cff").read_text())


def steps(job: str, key: str) -> list[Any]:
    return [step[key] for step in JOBS[job]["steps"] if key in step]


def called(job: str) -> set[str]:
    """Return the targets that a job makes."""
    words = [
        word
        for run in steps(job, "run")
        for part in re.findall(r"\bmake\b(.*)", run)
        for word in part.split()
    ]
    return {word for word in words if "=" not in word}


def targets(makefile: str) -> set[str]:
    return set(re.findall(r"^([a-z]+):", makefile, flags=re.MULTILINE))


@pytest.mark.parametrize(
    ("file", "schema", "word", "wrong"),
    [
        (WORKFLOW, "vendor.github-workflows", "runs-on:", "runs-where:"),
        (ROOT / "CITATION.cff", "vendor.citation-file-format", "family-names", "family"),
    ],
)
def test_files_fit_their_schema(tmp_path: Path, file: Path, schema: str, word: str, wrong: str) -> None:
    assert schema_errors(file, schema) == ""
    changed = tmp_path / file.name
    changed.write_text(file.read_text().replace(word, wrong))
    assert "Schema validation errors" in schema_errors(changed, schema)


def test_hosted_ci_makes_what_the_makefile_has() -> None:
    made = {job: called(job) for job in JOBS}
    assert made == {
        "check": {"check", "docs"}, "test": {"test"}, "peers": {"peers"}, "image": set(), "slow": {"slow"},
    }  # fmt: skip
    wanted = sorted(set().union(*made.values()))
    assert set(wanted) <= targets((ROOT / "Makefile").read_text())
    done = subprocess.run(
        ["make", "-C", str(ROOT), "--dry-run", *wanted], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_hosted_ci_makes_what_the_local_one_makes() -> None:
    lines = re.findall(r"^make (.+)$", (ROOT / ".ci" / "run").read_text(), flags=re.MULTILINE)
    words = {word for line in lines for word in line.split() if not word.startswith("-")}
    local = {word for word in words if "/" not in word}  # a file is made for one of these
    assert local == set().union(*(called(job) for job in JOBS))


def test_hosted_ci_tries_every_python_from_the_oldest_on() -> None:
    pythons = JOBS["test"]["strategy"]["matrix"]["python"]
    assert pythons == ["3.11", "3.12", "3.13"]
    admitted = SpecifierSet(PROJECT["requires-python"])
    assert all(admitted.contains(python) for python in pythons)
    assert not admitted.contains("3.10")
    image = re.findall(
        r"^FROM python:(3\.\d+)", (ROOT / "docker" / "Dockerfile").read_text(), flags=re.MULTILINE
    )
    assert set(image) <= set(pythons)


def test_hosted_ci_builds_the_image_and_runs_it_confined() -> None:
    build, version, *_ = [shlex.split(run) for run in steps("image", "run")]
    assert build[:4] == ["docker", "build", "--file", "docker/Dockerfile"]
    assert build[-3:] == ["--tag", "seg_mia", "."]
    assert version[:2] == ["docker", "run"]
    assert {"--read-only", "--network", "none"} <= set(version)
    assert version[-2:] == ["seg_mia", "--version"]


@pytest.mark.parametrize("job", sorted(JOBS))
def test_hosted_ci_may_read_and_takes_pinned_actions(job: str) -> None:
    assert CI["permissions"] == {"contents": "read"}
    assert "permissions" not in JOBS[job]
    assert JOBS[job]["timeout-minutes"] <= 180
    uses = steps(job, "uses")
    assert all(re.fullmatch(r"[\w/-]+@v\d+", use) for use in uses)
    if job == "image":
        assert [use.partition("@")[0] for use in uses] == ["actions/checkout"]
        return
    assert [use.partition("@")[0] for use in uses] == ["actions/checkout", "actions/setup-python"]
    (setup,) = [step["with"] for step in JOBS[job]["steps"] if "setup-python" in step.get("uses", "")]
    assert setup["cache"] == "pip"
    assert (ROOT / setup["cache-dependency-path"]).is_file()


def test_hosted_ci_trains_only_when_asked_or_once_a_week() -> None:
    assert set(CI[True]) == {
        "push",
        "pull_request",
        "workflow_dispatch",
        "schedule",
    }  # YAML reads `on` as true
    condition = JOBS["slow"]["if"]
    assert {"schedule", "workflow_dispatch"} == set(re.findall(r"event_name == '(\w+)'", condition))
    assert "if" not in JOBS["test"]


def skipped_for_want_of_data(request: pytest.FixtureRequest) -> None:
    """Let tests/conftest.py see a test that skips because the real data is not there."""
    conftest: Any = request.config.pluginmanager.getplugin(str(ROOT / "tests" / "conftest.py"))
    assert conftest is not None
    call = pytest.CallInfo.from_call(lambda: pytest.skip("SEG_MIA_TEST_DATA is not set"), when="setup")
    conftest.pytest_runtest_makereport(request.node, call)


def test_a_skip_for_want_of_data_fails_where_ci_is_set(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "export CI=true" in (ROOT / ".ci" / "run").read_text().splitlines()
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.exit.Exception, match="SEG_MIA_TEST_DATA"):
        skipped_for_want_of_data(request)


def test_a_skip_for_want_of_data_is_a_skip_in_hosted_ci(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CI", CI["env"]["CI"])
    assert not [job for job in JOBS.values() if "env" in job or any("env" in step for step in job["steps"])]
    assert "SEG_MIA_TEST_DATA" not in CI["env"]
    skipped_for_want_of_data(request)
    assert os.environ["CI"] == ""


def test_a_missing_framework_fails_make_peers_and_skips_elsewhere(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    conftest: Any = request.config.pluginmanager.getplugin(str(ROOT / "tests" / "conftest.py"))
    marks = [pytest.mark.peers("seg_mia", "no_such_framework").mark]
    item = SimpleNamespace(iter_markers=lambda _: marks)
    monkeypatch.setenv("SEG_MIA_PEERS", "required")
    line = "^no_such_framework not installed; make peers installs"
    with pytest.raises(pytest.fail.Exception, match=line):
        conftest.pytest_runtest_setup(item)
    monkeypatch.delenv("SEG_MIA_PEERS")
    with pytest.raises(pytest.skip.Exception, match=line):
        conftest.pytest_runtest_setup(item)
    makefile = (ROOT / "Makefile").read_text()
    assert "SEG_MIA_PEERS=required $(PEERS)/bin/python -m pytest -m peers " in makefile
    assert makefile.count("SEG_MIA_PEERS") == 1
    assert 'pytest -m "not slow" ' in makefile  # which includes the fast comparisons


def test_no_file_with_a_marked_test_stays_unread(request: pytest.FixtureRequest) -> None:
    conftest: Any = request.config.pluginmanager.getplugin(str(ROOT / "tests" / "conftest.py"))
    makefile = (ROOT / "Makefile").read_text()
    selected = re.findall(r"pytest -m (\"[^\"]+\"|\w+) ", makefile)
    assert [text.strip('"') for text in selected] == ["not slow", *conftest.MARKED]
    marked, plain, other = Path("test_marked.py"), Path("test_plain.py"), Path("helpers.py")
    marked.write_text("pytestmark = [pytest.mark.slow(20), pytest.mark.peers('ray')]")
    plain.write_text("# pytest.mark.slowly")
    other.write_text("")

    def unread(expression: str) -> list[Path]:
        config = SimpleNamespace(option=SimpleNamespace(markexpr=expression))
        return [file for file in (marked, plain, other) if conftest.pytest_ignore_collect(file, config)]

    assert [unread(text) for text in ("", "not slow", *conftest.MARKED)] == [[], [], [plain], [plain]]
    item = SimpleNamespace(nodeid="here", path=plain, iter_markers=lambda: [pytest.mark.slow.mark])
    with pytest.raises(pytest.UsageError, match="here would be left out: its file must say mark.slow"):
        conftest.pytest_collection_modifyitems([item])


def test_the_citation_is_of_this_version_and_names_the_papers() -> None:
    assert CITATION["version"] == seg_mia.__version__ == PROJECT["version"]
    assert CITATION["license"] == PROJECT["license"]
    assert CITATION["keywords"] == PROJECT["keywords"]
    assert CITATION["authors"] == [{"name": "The seg_mia authors"}]
    papers = {
        (paper.get("doi") or paper["identifiers"][0]["value"]): paper["authors"][0]["family-names"]
        for paper in CITATION["references"]
    }
    assert papers == {
        "arXiv:1907.13124": "Ozbulak",
        "10.1007/s11042-023-15575-8": "Shukla",
        "10.3390/app14062576": "Lee",
        "arXiv:2212.01082": "Chobola",
        "arXiv:2111.08440": "Watson",
        "10.1007/978-3-030-58592-1_31": "He",
    }


def test_the_citation_names_attacks_and_defences_as_the_configs_do() -> None:
    configs = ROOT / "lightning_configs"
    known = {
        file.stem for kind in ("attack", "defence", "release") for file in (configs / kind).glob("*.yaml")
    }
    said = {
        name
        for paper in CITATION["references"]
        for part in re.findall(r"(?:Attack|Defence)s?: ([\w, -]+)", paper["notes"])
        for name in part.split(", ")
    }
    assert said >= {"asma", "medis", "adain", "mia-type1", "mia-type2", "dp", "distilled"}
    assert said <= known


def test_the_changelog_is_up_to_date() -> None:
    text = (ROOT / "CHANGELOG.md").read_text()
    assert text.startswith("# Changelog\n")
    versions = re.findall(r"^## \[(.+?)\]", text, flags=re.MULTILINE)
    assert versions[0] in {seg_mia.__version__, "Unreleased"}
    assert len(set(versions)) == len(versions)
    headings = re.findall(r"^## (.*)", text, flags=re.MULTILINE)
    dated = re.compile(r"\[Unreleased\]|\[\d+\.\d+\.\d+\] - \d{4}-\d\d-\d\d")
    assert all(dated.fullmatch(heading) for heading in headings)
    kinds = set(re.findall(r"^### (.+)", text, flags=re.MULTILINE))
    assert kinds <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security", "Limits"}
    for linked in re.findall(r"\]\((?!https?:)([^)]+)\)", text):
        assert (ROOT / linked).is_file(), f"no {linked}"
