"""Files of several channels of one case, told apart by the ends of their names."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from seg_mia.errors import InputError, name_some


def by_channel(files: Mapping[str, Path], endings: Sequence[str]) -> dict[str, tuple[Path, ...]]:
    """Return the files of each case in the order of channels, keyed by the name without ending.

    Args:
        files: by name without suffix; those of other endings are left out.
        endings: one for each channel, such as `_0000` and `_0001`, or `_t1` and `_flair`.

    Raises:
        InputError: endings that are empty or equal, no case, or one without a file for each channel.
    """
    if not all(endings) or len(set(endings)) < len(endings):
        raise InputError(
            f"channel_endings must be different ends of names, got {list(endings)}; correct them"
        )
    cases = dict[str, dict[int, Path]]()
    for name, path in files.items():
        fitting = [number for number, ending in enumerate(endings) if name.endswith(ending)]
        if fitting:
            number = max(fitting, key=lambda number: len(endings[number]))
            cases.setdefault(name.removesuffix(endings[number]), {})[number] = path
    if not cases:
        raise InputError(
            f"image names must end in {', '.join(endings)}, got {name_some(list(files))}; correct "
            "channel_endings"
        )
    if lacking := [name for name, held in cases.items() if len(held) < len(endings)]:
        absent = next(ending for number, ending in enumerate(endings) if number not in cases[lacking[0]])
        raise InputError(
            f"each case must have {len(endings)} channels, {len(lacking)} of {len(cases)} lack one "
            f"({name_some(lacking)}), the first {absent}; add the files"
        )
    return {name: tuple(held[number] for number in range(len(endings))) for name, held in cases.items()}
