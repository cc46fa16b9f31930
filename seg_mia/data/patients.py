"""Patient identifiers from file names and headers, for grouping samples."""

import logging
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from lightning.pytorch.utilities import rank_zero_only

from seg_mia.errors import InputError, name_some

log = logging.getLogger(__name__)


class Patients:
    """Patient identifiers in file names.

    Args:
        text: a regular expression, matched from the start of a name, whose first group is the patient;
            None takes each name as a patient.

    Raises:
        InputError: an invalid regular expression, or one without a group.
    """

    def __init__(self, text: str | None) -> None:
        self.stated = text is not None
        try:
            self._pattern = re.compile(text if text is not None else "(.*)", re.DOTALL)
        except re.error as error:
            raise InputError(
                f"patient must be a regular expression, got {text!r}: {error}; correct it"
            ) from None
        if not self._pattern.groups:
            raise InputError(
                f"patient must have a group in brackets, got {text!r}; write for example (.+)_[0-9]+"
            )

    def of(self, name: str) -> str:
        """Return the patient of a file name.

        Raises:
            InputError: a name without a match, or with an empty group.
        """
        if not self.stated:
            return name
        match = self._pattern.match(name)
        if match is None or not match[1]:
            raise InputError(
                f"patient must match every name, {self._pattern.pattern!r} does not match {name!r}; correct "
                "it"
            )
        return match[1]


def same_patients(stated: Mapping[str, str], root: Path) -> dict[str, str]:
    """Return the patient of each folder, named by the patient's first folder; log the joined folders.

    Args:
        stated: the identifier in each folder's headers; empty if missing.
        root: their parent folder, for the message.

    Raises:
        InputError: all folders have one identifier that is not a placeholder of de-identified data.
    """
    folders = sorted(stated)
    first = {identifier: folder for folder in reversed(folders) if (identifier := stated[folder])}
    silent = [folder for folder in folders if not stated[folder]]
    if len(first) == 1 and not silent and len(folders) > 1:
        _check_constant(next(iter(first)), folders, root)
        return {folder: folder for folder in folders}
    groups = {folder: first.get(stated[folder], folder) for folder in folders}
    joined = [folder for folder in folders if groups[folder] != folder]
    if joined:
        pairs = name_some([f"{folder} with {groups[folder]}" for folder in joined])
        _log_once(
            f"{len(folders)} folders of {root} have {len(set(groups.values()))} patients by their PatientID, "
            f"joined are {pairs}; --data.patient '(.+)' makes each folder a patient"
        )
    if silent:
        _log_once(
            f"{len(silent)} of {len(folders)} folders of {root} state no PatientID ({name_some(silent)}): "
            "each counts as a patient; --data.patient takes patients from folder names"
        )
    return groups


def _check_constant(identifier: str, folders: list[str], root: Path) -> None:
    """Raise InputError for one identifier in all folders, unless it is a placeholder without digits."""
    number = identifier.partition("/")[2]
    if any(letter.isdigit() for letter in number):
        raise InputError(
            f"{root} must have more than one patient, all {len(folders)} folders state one PatientID; if "
            "de-identification removed the others, set --data.patient: '(.+)' makes each folder a patient"
        )
    _log_once(
        f"all {len(folders)} folders of {root} state one PatientID, a word as de-identified copies have it: "
        "each counts as a patient; --data.patient takes patients from folder names"
    )


@cache
@rank_zero_only
def _log_once(line: str) -> None:
    """Log a line once per process."""
    log.info(line)
