"""What is given away names no sample and no patient: hashes, which the owner's table leads back to names."""

import base64
import csv
import errno
import io
import json
import multiprocessing
import os
import re
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pytest
from PIL import Image

from seg_mia.atomic import written_whole
from seg_mia.cli import main
from seg_mia.data.fingerprint import hashed
from seg_mia.data.identities import TABLE, identities, own_salt
from seg_mia.errors import InputError
from seg_mia.report.sums import read_sums
from seg_mia.report.write import write_report
from seg_mia.results.pictures import Tile, draw, names_in, png
from tests.report.audits import SCORES, audit, certificate, fool, full, guess, picture, write_audit

MARK = "QZJ7W"
RUN = Path("runs/victim_0/version_0")


def given_away(folder: Path) -> dict[str, bytes]:
    """Return the files of a report that may be given away, and the pictures embedded in them."""
    files = {name: (folder / name).read_bytes() for name in read_sums(folder)}
    assert {"report.html", "report.json"} <= set(files)
    for name, content in list(files.items()):
        for number, data in enumerate(re.findall(rb"data:image/png;base64,([\w+/=]+)", content)):
            files[f"{name}, picture {number}"] = base64.b64decode(data)
    return files


def names_of(folder: Path) -> dict[str, str]:
    with (folder / TABLE).open(newline="", encoding="utf-8") as table:
        return {row["hash"]: row["name"] for row in csv.DictReader(table)}


def marked() -> dict[str, str]:
    return {name: f"{MARK}-{name}" for name in SCORES}


def test_no_file_that_is_given_away_names_a_sample() -> None:
    folder = write_audit(full(), ids=marked())
    write_report(folder, annexes=("dpo", "model-card"))
    files = given_away(folder)
    assert len(files) == 4 + 4  # pages, numbers and card; sheets of three perturbations and of the exposed
    for name, content in files.items():
        assert MARK.encode() not in content, name
        assert b"g-m0" not in content, name
    for name, content in files.items():
        if "picture" in name:
            with Image.open(io.BytesIO(content)) as sheet:
                assert not sheet.info
                assert sheet.size == (11, 4)
                assert not np.asarray(sheet).any(), "of the names' column, which is white, nothing is left"


def test_the_owner_finds_the_names_and_nobody_else_may_read_them() -> None:
    folder = write_audit(full(), ids=marked())
    write_report(folder)
    text = (folder / "report.html").read_text()
    names = names_of(RUN)
    patients = {f"g-{name}" for name in SCORES if name != "n3"}  # n3 is among no extremes, and in a sheet
    assert set(names.values()) == {*marked().values(), *patients}
    shown = set(re.findall(r"<code>([0-9a-f]{12})</code>", text))
    found = {name for code, name in names.items() if code[:12] in shown}
    assert found == set(names.values()), "of samples in pictures and tables, and of their patients"
    (rows,) = {part for part in re.findall(r"Rows, from above[^.]*", text) if part.count("<code>") > 1}
    by_name = {name: code for code, name in names.items()}
    assert re.findall(r"<code>(\w+)</code>", rows) == [by_name[name][:12] for name in marked().values()]
    if os.name == "posix":
        assert not (RUN / TABLE).stat().st_mode & 0o077
    before = (RUN / TABLE).read_bytes()
    write_report(folder)
    assert (RUN / TABLE).read_bytes() == before, "each name stands once"


def test_the_owner_may_ask_for_ids(capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_audit(full(), ids=marked())
    assert main(["report", str(folder), "--ids"]) == 0
    text = (folder / "report.html").read_text()
    assert f"{MARK}-m0" in text
    assert "it is the owner's alone" in text
    assert json.loads((folder / "report.json").read_text())["exposed"][0]["id"] == f"{MARK}-m0"
    assert not (RUN / TABLE).exists()
    capsys.readouterr()
    assert main(["report", str(folder), "--ids", "--no-images"]) == 2
    assert "leave out --ids or --no-images" in capsys.readouterr().err


def test_a_sheet_of_an_earlier_version_is_not_shown() -> None:
    folder = write_audit(audit([guess(), fool()]), ids=marked())
    with Image.open(io.BytesIO(picture("a"))) as sheet:
        sheet.save(RUN / "asma/version_0/panel.png")  # without the statement of its names
    for damaged in ('{"column": 3}', "[", '{"column": "x", "names": []}'):
        file = RUN / "mia-type2/version_0/exposed.png"
        file.write_bytes(picture("a").replace(b'{"column": 49, "names": ["a"]}', damaged.encode().ljust(30)))
        report = write_report(folder)
        assert [line.partition(":")[0] for line in report.missing] == ["asma", "mia-type2"]
        assert all("of an earlier version, with names in it" in line for line in report.missing)
        assert "data:image" not in (folder / "report.html").read_text()
    write_report(folder, ids=True)
    assert "data:image" in (folder / "report.html").read_text()


def test_rows_of_certificates_are_hashes() -> None:
    folder = write_audit(audit([guess()], certificates=[certificate()]), ids=marked())
    own = RUN / "certify/version_0"
    own.mkdir(parents=True)
    (own / "panel.png").write_bytes(picture(f"{MARK} of the certificate"))
    write_report(folder)
    assert f"{MARK} of the certificate" in names_of(RUN).values()
    assert all(MARK.encode() not in content for content in given_away(folder).values())


@pytest.mark.parametrize("name", ["a", "line\none\nline", "$\\frac{1}{2}$ and $x", "W" * 200])
def test_names_stay_in_their_column(name: str) -> None:
    tiles = [Tile(np.full((20, 20, 3), 0.5, np.float32), "note")]
    parts = []
    for other in (name, "b" * 28):
        content = png(draw(["image"], [tiles, tiles], [other, "b"]), [other, "b"])
        with Image.open(io.BytesIO(content)) as sheet:
            names = names_in(sheet)
            assert names is not None
            assert names.names == [other, "b"]
            parts.append(np.asarray(sheet)[:, names.column :])
    first, second = parts
    assert first.shape[1] == second.shape[1]
    assert len(name) < 28 or np.array_equal(first, second)  # of a longer name the row is taller
    assert np.array_equal(first[-100:], second[-100:])


def test_a_hash_is_one_of_the_salt(tmp_path: Path) -> None:
    first = identities(["a", 'b, "c"\n', "ä"], tmp_path)
    assert identities(['b, "c"\n', "d"], tmp_path)['b, "c"\n'] == first['b, "c"\n']
    assert set(names_of(tmp_path).values()) == {"a", 'b, "c"\n', "ä", "d"}
    assert len(own_salt(tmp_path)) == 16
    assert identities([], tmp_path / "absent") == {}
    assert not (tmp_path / "absent").exists()
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot write to"):
        identities(["a"], tmp_path / "file")


def test_a_cut_off_line_is_dropped_and_the_table_stays_private(tmp_path: Path) -> None:
    hashes = identities(["a", "b"], tmp_path)
    table = tmp_path / TABLE
    table.write_text(f"hash,name\n{hashes['a']},a\n{hashes['b'][:9]}")
    if os.name == "posix":
        table.chmod(0o644)
    assert identities(["c"], tmp_path) == {"c": identities(["c"], tmp_path)["c"]}
    assert list(names_of(tmp_path).values()) == ["a", "c"]
    assert table.read_text().count("hash,name") == 1
    if os.name == "posix":
        table.chmod(0o644)
        identities(["a"], tmp_path)
        assert not table.stat().st_mode & 0o077


def _enter_names(folder: Path, number: int) -> None:
    for each in range(10):
        identities([f"{number}-{each}"], folder)


def test_processes_that_enter_names_at_once_lose_none(tmp_path: Path) -> None:
    with multiprocessing.get_context("spawn").Pool(3) as pool:
        pool.starmap(_enter_names, [(tmp_path, number) for number in range(3)])
    names = [f"{number}-{each}" for number in range(3) for each in range(10)]
    assert sorted(names_of(tmp_path).values()) == names
    assert (tmp_path / TABLE).read_text().count("hash,name") == 1


def test_a_salt_of_reports_does_not_tell_of_a_training(tmp_path: Path) -> None:
    other, trained = tmp_path / "other", tmp_path / "trained"
    hashes = identities(["a"], other)
    assert not (other / "salt").exists()
    assert identities(["a"], other) == hashes
    salt = own_salt(trained)
    assert identities(["a"], trained) == dict(zip("a", hashed(["a"], salt), strict=True))
    assert {file.name for file in trained.iterdir()} == {"salt", TABLE, ".identities.lock"}


def test_names_are_entered_beside_the_audit_if_the_run_cannot_be_written(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = write_audit(full(), ids=marked())
    own_salt(RUN)

    def refused(path: Path, **settings: object) -> AbstractContextManager[BinaryIO]:
        if path.parent.absolute() == RUN.absolute():
            raise PermissionError(errno.EACCES, "Permission denied")
        return written_whole(path, **settings)  # type: ignore[arg-type]

    monkeypatch.setattr("seg_mia.data.identities.written_whole", refused)
    report = write_report(folder)
    assert not (RUN / TABLE).exists()
    assert report.names_in == ["my_audit"]
    assert "<code>my_audit</code>" in (folder / "report.html").read_text()
    names = names_of(folder.parent)
    assert set(marked().values()) <= set(names.values())
    assert {sample.id for sample in report.exposed} <= set(names)
    (RUN / "salt").unlink()
    other = write_report(folder)
    assert other.exposed[0].id != report.exposed[0].id, "the salt lies beside the audit, too"
    assert {sample.id for sample in other.exposed} <= set(names_of(folder.parent))


def test_a_missing_run_leaves_names_out_and_makes_no_folder() -> None:
    content = full()
    for victim in content["defences"]:
        victim["victim"] = f"/of/another/machine/runs/{victim['victim']}_gone/version_0"
    folder = write_audit(content, ids=marked())
    before = sorted(Path("runs").rglob("*"))
    report = write_report(folder)
    made = {path.name for path in set(Path("runs").rglob("*")) - set(before)}
    assert made == set(read_sums(folder)) | {"SHA256SUMS"}
    assert report.exposed == []
    assert report.names_in == []
    assert sum("victim's run is missing" in line for line in report.missing) == 1
    assert "by salted hashes of ids" not in (folder / "report.html").read_text()
    write_report(folder, ids=True)
    assert f"{MARK}-m0" in (folder / "report.html").read_text()


@pytest.mark.parametrize("deleted", [False, True])
def test_a_victim_given_as_a_checkpoint_is_found(tmp_path: Path, *, deleted: bool) -> None:
    file = tmp_path / "elsewhere/net.ckpt"
    content = full()
    for victim in content["defences"]:
        victim["victim"] = str(file)
    folder = write_audit(content, ids=marked())
    Path("runs/net").mkdir()  # where results on it lie
    if not deleted:
        file.parent.mkdir()
        file.touch()
    report = write_report(folder)
    assert report.names_in == ["net"]
    assert {sample.id for sample in report.exposed} <= set(names_of(Path("runs/net")))
    assert not list(tmp_path.rglob("elsewhere/*.csv"))


def test_a_moved_checkpoint_of_a_run_is_found(tmp_path: Path) -> None:
    content = full()
    for victim in content["defences"]:
        victim["victim"] = "/of/another/machine/runs/victim_0/version_0/checkpoints/last.ckpt"
    folder = write_audit(content, ids=marked())
    file = RUN / "checkpoints/last.ckpt"
    file.parent.mkdir()
    file.touch()
    before = write_report(folder)
    assert before.names_in == ["victim_0/version_0"]
    moved = tmp_path / "moved"
    Path("runs").rename(moved)
    after = write_report(moved / "my_audit/version_0")
    assert after.exposed == before.exposed
    assert after.names_in == before.names_in


@pytest.mark.usefixtures("undrawn")
def test_an_audit_of_named_files_names_none(tiny: Path, folder: Callable[..., Path]) -> None:
    root = folder(count=24)
    for file in [*root.glob("*/*.png")]:
        file.rename(file.with_name(f"{MARK}{file.name}"))
    tiny.write_text(tiny.read_text().replace("members: 4, nonmembers: 2", "members: 6, nonmembers: 6"))
    Path("named_audit.yaml").write_text(f"""
victim: {tiny}
shadow: {{config: {tiny}, options: {{data.role: shadow}}}}
attacks:
  - mia-global-loss
  - {{attack: asma, settings: {{steps: 2}}}}
  - {{attack: certify, settings: {{draws: 20}}}}
""")
    assert main(["audit", "--config", "named_audit.yaml"]) == 0
    own = Path("runs/named_audit/version_0")
    assert json.loads((own / "report.json").read_text())["missing"] == []
    shown = given_away(own)
    assert sum("picture" in name for name in shown) == 3
    files = {path.name: path.read_bytes() for path in own.iterdir() if path.is_file()}
    for name, content in (files | shown).items():
        assert MARK.encode() not in content, name
    assert all(name.startswith(MARK) for name in names_of(Path("runs/tiny/version_0")).values())
