"""Where a data set lies: what the user said, else a known name under $SEG_MIA_DATA; nothing lies outside."""

import os
from collections.abc import Sequence
from pathlib import Path

from seg_mia.errors import InputError

VARIABLE = "SEG_MIA_DATA"


def find_root(root: str | None, names: Sequence[str], *, get: str, layout: str) -> Path:
    """Return the data set's folder.

    Args:
        root: the folder as the user gave it, or None.
        names: folder names to look for under $SEG_MIA_DATA.
        get: where the data set is to be had, for the error.
        layout: how it must lie there, for the error.

    Raises:
        InputError: no such folder.
    """
    if root is not None:
        if not Path(root).is_dir():
            raise InputError(f"data root {root!r} is not a folder; it must hold {layout}")
        return Path(root)
    base = os.environ.get(VARIABLE)
    for name in names if base else ():
        if (found := Path(str(base)) / name).is_dir():
            return found
    looked = f"none of {', '.join(names)} lies in {VARIABLE}={base}" if base else f"{VARIABLE} is not set"
    raise InputError(
        f"no data root given and {looked}; get {get}, lay it out as {layout}, and pass --data.root FOLDER"
    )


def inside(root: Path, relative: str) -> Path:
    """Return a path below the root, or refuse one that leaves it, be it by `..` or by a link.

    Raises:
        InputError: if the path leads out of the root.
    """
    path = (root / relative).resolve()
    if not path.is_relative_to(root.resolve()):
        raise InputError(f"paths must stay inside {root}, got {relative!r}; move the file there")
    return path
