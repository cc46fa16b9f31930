"""Write an audit's report: an HTML page, a JSON file, annexes, and their digests."""

import hashlib
from collections.abc import Collection
from pathlib import Path
from typing import Literal, get_args

from seg_mia.errors import InputError
from seg_mia.report.annex.dpo import annex
from seg_mia.report.annex.model_card import model_card
from seg_mia.report.annex.pdf import print_page
from seg_mia.report.build import build
from seg_mia.report.html.page import page
from seg_mia.report.load import read_audit
from seg_mia.report.sums import CARD, DPO, DPO_PDF, NUMBERS, PAGE, write_sums
from seg_mia.results.files import json_text, write_text
from seg_mia.results.report import Report

Annex = Literal["dpo", "model-card"]
KINDS: tuple[Annex, ...] = get_args(Annex)


def write_report(
    folder: Path,
    *,
    images: bool = True,
    ids: bool = False,
    annexes: Collection[Annex] = (),
    pdf: bool = False,
) -> Report:
    """Write `report.html`, `report.json`, annexes and `SHA256SUMS` beside `audit.json`; return the content.

    Each file is written atomically. The same audit with the same run folders gives the same bytes, except for
    a PDF. Hashes of samples are entered into `identities.csv`, which is the owner's alone: of the first
    victim's run, or, if that cannot be written, beside the audit's versions.

    Args:
        folder: folder of the audit.
        images: show images of samples, and name those that attacks are surest of; otherwise no file has a
            sample's picture or name.
        ids: name samples by their ids, for the owner's eyes; otherwise by salted hashes.
        annexes: annexes to write: for the data protection officer, and a model card.
        pdf: also print the annex `dpo` to PDF, by an installed browser.

    Raises:
        InputError: no audit there, an unreadable audit, a folder that cannot be written, no browser, or `ids`
            without `images`.
    """
    if ids and not images:
        raise InputError("ids name the samples of images; leave out --ids or --no-images")
    stored = read_audit(folder)
    report, files = build(stored, images=images, ids=ids)
    numbers = json_text(report.plain())
    digest = hashlib.sha256(numbers.encode("utf-8", "surrogateescape")).hexdigest()
    texts = {NUMBERS: numbers, PAGE: page(report, files, digest)}
    texts |= {DPO: annex(report, files, digest)} if "dpo" in annexes else {}
    texts |= {CARD: model_card(report, digest)} if "model-card" in annexes else {}
    for name, text in texts.items():
        write_text(stored.folder / name, text)
    write_sums(stored.folder, list(texts), digest)
    if pdf and DPO in texts:
        print_page(stored.folder / DPO, stored.folder / DPO_PDF)
        write_sums(stored.folder, [*texts, DPO_PDF], digest)
    return report
