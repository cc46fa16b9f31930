"""The folder of a data set, and paths that must stay below it."""

import os
import re
from collections.abc import Sequence
from pathlib import Path

from seg_mia.errors import InputError

VARIABLE = "SEG_MIA_DATA"
_BREAKING = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")  # categories Cc, Zl and Zp


def find_root(root: str | None, names: Sequence[str], *, get: str, layout: str) -> Path:
    """Return the data set's folder.

    Args:
        root: folder given by the user, or None.
        names: folder names searched under $SEG_MIA_DATA.
        get: download source, for the error message.
        layout: expected layout, for the error message.

    Raises:
        InputError: no such folder.
    """
    if root is not None:
        if not Path(root).is_dir():
            raise InputError(f"data root {root!r} is not a folder; it must hold {layout}")
        return Path(root)
    base = os.environ.get(VARIABLE)
    for name in names if base else ():
        if (folder := Path(str(base)) / name).is_dir():
            return folder
    looked = f"none of {', '.join(names)} lies in {VARIABLE}={base}" if base else f"{VARIABLE} is not set"
    raise InputError(
        f"no data root given and {looked}; get {get}, arrange it as {layout}, and pass --data.root FOLDER"
    )


def path_below(root: Path, relative: str) -> Path:
    """Return a path below the root; a path that leaves it, by `..` or a link, is an error.

    Raises:
        InputError: if the path leads out of the root.
    """
    try:
        path, top = (root / relative).resolve(), root.resolve()
        path.is_file()  # raises what a later look would
    except (OSError, ValueError, RuntimeError) as error:  # too long, a null byte, links in a circle
        raise InputError(f"paths must name a file below {root}, got {relative!r}: {error}") from None
    if not path.is_relative_to(top):
        raise InputError(f"paths must stay inside {root}, got {relative!r}; move the file there")
    return path


def regular(path: Path) -> Path:
    """Return a path, having refused what is no file, and a name that would break the lines of reports.

    Raises:
        InputError: if there is no file at the path (reading a pipe or a device might never end), or its name
            holds a line break or another control character.
    """
    if _BREAKING.search(str(path)):
        raise InputError(f"{path} must have a name without line breaks and control characters; rename it")
    if not path.is_file():
        raise InputError(f"{path} must be a file, found a pipe, a device, a folder or nothing; replace it")
    return path


def entries(folder: Path) -> list[Path]:
    """Return the sorted entries of a folder.

    Raises:
        InputError: the folder cannot be listed.
    """
    try:
        return sorted(folder.iterdir())
    except OSError as error:
        raise unlisted(folder, error) from None


def unlisted(folder: object, error: OSError) -> InputError:
    """Return the error of a folder that cannot be listed."""
    return InputError(
        f"{folder} must be a folder that can be listed, got {error.strerror}; correct its rights"
    )
