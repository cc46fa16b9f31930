"""The CSV file that lists predictions, and the membership of each case."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal, get_args

from seg_mia.data.csv_lines import csv_lines
from seg_mia.data.root import path_below, regular
from seg_mia.errors import InputError, name_some

Part = Literal["train", "test", "shadow_train", "shadow_test"]
PARTS: tuple[Part, ...] = get_args(Part)
NEEDED = ("prediction", "mask", "patient", "part")
OPTIONAL = ("image", "case", "network")
VICTIM, SHADOW = "victim", "shadow"


@dataclass(frozen=True)
class Row:
    """One prediction.

    Attributes:
        where: file and line, for messages.
        case: name of the case, shared by the predictions of several networks.
        patient: patient of the case.
        network: `victim`, `shadow`, or the name of a reference network.
        member: whether the network was trained on the case.
        prediction: file of the prediction.
        mask: file of the true mask.
        image: file of the image, if given.
    """

    where: str
    case: str
    patient: str
    network: str
    member: bool
    prediction: Path
    mask: Path
    image: Path | None


@dataclass(frozen=True)
class Table:
    """The rows of a CSV file.

    Attributes:
        file: the CSV file.
        rows: by network.
        ignored: columns that are not read.
    """

    file: Path
    rows: Mapping[str, Sequence[Row]]
    ignored: tuple[str, ...]

    @property
    def references(self) -> list[str]:
        """Names of the reference networks."""
        return sorted(set(self.rows) - {VICTIM, SHADOW})

    @property
    def has_images(self) -> bool:
        """Whether every case has an image."""
        return self.rows[VICTIM][0].image is not None


def read_table(file: Path, root: Path) -> Table:
    """Return the rows of a CSV file.

    Columns: `prediction`, `mask` and `image` (optional) name files below the root; `patient`; `part`, one of
    `PARTS`. `network` (optional) is empty or `victim` for the audited network, else the name of a reference
    network, whose parts `train` and `test` say whether that network was trained on the case. `case`
    (optional) names the case; it is the mask's path without ending if not given.

    Args:
        file: CSV file in UTF-8.
        root: folder of all files.

    Raises:
        InputError: an unreadable file, a missing column, an invalid row, a patient in two parts of a network,
            or networks with different cases.
    """
    header, lines = csv_lines(file, "predictions")
    missing = [name for name in NEEDED if name not in header]
    if missing or len(set(header)) < len(header):
        raise InputError(
            f"{file} must have the columns {', '.join(NEEDED)} once each ({', '.join(OPTIONAL)} are "
            f"optional), got {', '.join(header) or 'none'}; correct its first line"
        )
    rows = [_row(where, line, root) for where, line in lines]
    by_network: dict[str, list[Row]] = {}
    for row in rows:
        by_network.setdefault(row.network, []).append(row)
    if VICTIM not in by_network:
        raise InputError(
            f"{file} must list predictions of the victim (network {VICTIM!r} or empty, part train or test), "
            "got none; add them"
        )
    for network_rows in by_network.values():
        _check_network(network_rows)
    _check_apart(by_network)
    _check_cases(by_network)
    _check_images(rows)
    ignored = tuple(name for name in header if name not in (*NEEDED, *OPTIONAL))
    return Table(file, by_network, ignored)


def _row(where: str, cells: Mapping[str, str], root: Path) -> Row:
    if empty := [name for name in NEEDED if not cells[name]]:
        raise InputError(f"{where} must have a value for {empty[0]!r}, got none; fill it in")
    part, network = cells["part"], cells.get("network", "")
    if part not in PARTS:
        raise InputError(f"{where} must have a part of {', '.join(PARTS)}, got {part!r}; correct it")
    if part.startswith(SHADOW):
        if network not in ("", SHADOW):
            raise InputError(
                f"{where}: part {part} is of the shadow, so network must be empty, got {network!r}; for a "
                "reference network use the parts train and test"
            )
        network = SHADOW
    elif network == SHADOW:
        raise InputError(f"{where}: the shadow's parts are shadow_train and shadow_test, got {part!r}")
    mask = _file(where, cells["mask"], root)
    return Row(
        where=where,
        case=cells.get("case") or without_ending(cells["mask"]),
        patient=cells["patient"],
        network=network or VICTIM,
        member=part.endswith("train"),
        prediction=_file(where, cells["prediction"], root),
        mask=mask,
        image=_file(where, cells["image"], root) if cells.get("image") else None,
    )


def without_ending(name: str) -> str:
    """Return a file's name without its ending; .nii.gz is one ending."""
    gzipped = name.lower().endswith(".nii.gz")
    return name[: -len(".nii.gz")] if gzipped else str(PurePosixPath(name).with_suffix(""))


def _file(where: str, text: str, root: Path) -> Path:
    try:
        return regular(path_below(root, text))
    except InputError as error:
        raise InputError(f"{where}: {error}") from None


def _check_network(rows: Sequence[Row]) -> None:
    """Raise InputError for a case listed twice, or a patient in and out of a network's training."""
    by_case, by_patient = dict[str, Row](), dict[str, Row]()
    for row in rows:
        first = by_case.setdefault(row.case, row)
        if first is not row:
            raise InputError(
                f"{row.where} must list a case once for each network, got {row.case!r} as in {first.where}; "
                "remove one, or name the cases in a column case"
            )
        earlier = by_patient.setdefault(row.patient, row)
        if earlier.member != row.member:
            raise InputError(
                f"{row.where} must have the part of its patient's other rows, got patient {row.patient!r} in "
                f"train and test ({earlier.where}), which makes membership undefined; put all in one part, "
                "or leave some out"
            )
    sides = [len({row.patient for row in rows if row.member is side}) for side in (True, False)]
    if rows[0].network in (VICTIM, SHADOW) and min(sides) < 2:
        raise InputError(
            f"the {rows[0].network} needs at least 2 patients it was trained on and 2 others, got {sides[0]} "
            f"and {sides[1]} ({rows[0].where} and on); add cases"
        )


def _check_apart(rows: Mapping[str, Sequence[Row]]) -> None:
    """Raise InputError for a patient of victim and shadow."""
    judged = {row.patient: row for row in rows[VICTIM]}
    for row in rows.get(SHADOW, ()):
        if row.patient in judged:
            raise InputError(
                f"{row.where}: the shadow's patients must not be the victim's, got {row.patient!r} as in "
                f"{judged[row.patient].where}; leave one out"
            )


def _check_cases(rows: Mapping[str, Sequence[Row]]) -> None:
    """Raise InputError unless each reference has the victim's cases with the same masks and patients."""
    judged = {row.case: row for row in rows[VICTIM]}
    for network in sorted(set(rows) - {VICTIM, SHADOW}):
        for row in rows[network]:
            first = judged.get(row.case)
            if first is None or (first.mask, first.patient) != (row.mask, row.patient):
                raise InputError(
                    f"{row.where}: a reference must predict the victim's cases, with the same mask and "
                    f"patient, got {row.case!r} of network {network!r}; correct it"
                )
        if missing := sorted(judged.keys() - {row.case for row in rows[network]}):
            raise InputError(
                f"network {network!r} must predict each case of the victim, {len(missing)} of {len(judged)} "
                f"are missing ({name_some(missing)}); add them, or leave the network out"
            )


def _check_images(rows: Sequence[Row]) -> None:
    without = [row for row in rows if row.image is None]
    if without and len(without) < len(rows):
        raise InputError(
            f"{without[0].where} must name an image, as other rows do {len(without)} of {len(rows)} do not; "
            "give all, or none"
        )
