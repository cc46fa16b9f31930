"""The types of prepare.json, which `prepare` writes and `--data.near_duplicates` reads."""

from typing import TypedDict


class Spread(TypedDict):
    """Order statistics of some numbers, 0 where there are none."""

    smallest: float
    median: float
    largest: float


class GroupSizes(Spread):
    """How many groups there are, and how many samples they hold."""

    count: int


class ImageFacts(TypedDict):
    """Shape (height, width, channels) and type of the decoded images; `low` and `high` lie in [0, 1]."""

    shape: list[int]
    type: str
    low: float
    high: float


class MaskFacts(TypedDict):
    """Shape (height, width) of the decoded masks, and the spread of their share of pixels above class 0."""

    shape: list[int]
    foreground: Spread


class ClassShare(TypedDict):
    """A class, its share of the labelled pixels, and the number of samples that hold it.

    Of labels that may overlap `id` is the number of the label, from 1, 0 the pixels without one, and `name`
    that of the label; `name` is empty for classes.
    """

    id: int
    name: str
    share: float
    samples: int


class NoteContent(TypedDict):
    """A note on samples, and their names."""

    text: str
    names: list[str]


class NearPair(TypedDict):
    """Two similar samples of different groups.

    `distance` counts the bits of 64 in which their hashes differ, `similarity` is a correlation, `together`
    whether splits keep both on one side, `parts` where the config's split has them.
    """

    first: str
    second: str
    distance: int
    similarity: float
    together: bool
    parts: list[str] | None


class NearDuplicates(TypedDict):
    """Near duplicates within and across groups, and the sets across groups that no split keeps together."""

    distance: int
    similarity: float
    within_groups: int
    within: list[tuple[str, str, float]]
    across_groups: list[NearPair]
    parted: int
    loose: list[list[str]]


class PartSize(TypedDict):
    """A stated part as it is used, and how many cases, patients and samples it holds."""

    part: str
    cases: int
    patients: int
    samples: int


class DataReport(TypedDict):
    """Full report of `prepare` on a data set."""

    config: str
    data: str
    fingerprint: str
    samples: int
    groups: GroupSizes
    images: ImageFacts
    masks: MaskFacts
    classes: list[ClassShare]
    ignored: float
    split: dict[str, int] | str
    parts: list[PartSize]
    refused: str
    notes: list[NoteContent]
    suspicious: dict[str, list[str]]
    equal: list[list[str]]
    near: NearDuplicates
