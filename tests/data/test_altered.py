"""Altered samples: which, how, and that nothing else changes."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from seg_mia.data.altered import (
    ALTERATIONS,
    COLUMN,
    UNALTERED,
    AlteredSource,
    emptied,
    inverted,
    shifted,
    with_altered,
)
from seg_mia.data.cache import Cached
from seg_mia.data.fingerprint import fingerprint
from seg_mia.data.sample_facts import sample_facts
from seg_mia.data.source import Image, Mask, Source
from seg_mia.errors import InputError


class Squares(Source):
    """Samples of three slices for each patient, whose masks tell their number."""

    channels, classes = 1, 2

    def __init__(self, patients: int = 40, *, empty: bool = False) -> None:
        self.groups = tuple(f"p{number}" for number in range(patients) for _ in range(3))
        self.ids = tuple(f"{group}_{index % 3}" for index, group in enumerate(self.groups))
        self.columns = {"site": tuple("north" for _ in self.ids)}
        self.empty = empty

    def digest(self, index: int) -> str:
        return f"{index:064x}"

    def decode(self, index: int) -> tuple[Image, Mask]:
        mask = np.zeros((20, 10), np.uint8)
        if not self.empty:
            mask[index % 10 : index % 10 + 4, 1:5] = 1
        mask[0, 9] = 255
        return np.full((20, 10, 1), index, np.uint8), mask

    @property
    def settings(self) -> Mapping[str, bool | int | float | str | None]:
        return {"size": 20}


def test_one_sample_of_the_share_of_patients_is_altered_each_in_its_kind() -> None:
    plain, source = Squares(), AlteredSource(Squares(), 0.25)
    assert len(source.kinds) == 10
    assert len({source.groups[index] for index in source.kinds}) == 10
    assert {kind: list(source.kinds.values()).count(kind) for kind in ALTERATIONS} == dict.fromkeys(
        ALTERATIONS, 2
    )
    assert source.columns["site"] == plain.columns["site"]
    for index in range(len(source)):
        image, mask = source.decode(index)
        old_image, old_mask = plain.decode(index)
        kind = source.columns[COLUMN][index]
        assert kind == source.kinds.get(index, UNALTERED)
        np.testing.assert_array_equal(image, 255 - old_image if kind == "image inverted" else old_image)
        assert np.array_equal(mask, old_mask) == (kind in (UNALTERED, "image inverted"))
        assert (mask.max(where=mask != 255, initial=0) == 0) == (kind == "mask empty")
        assert (source.digest(index) == plain.digest(index)) == (kind == UNALTERED)
        assert source.image_digest(index) == plain.image_digest(index)
    assert fingerprint(source) != fingerprint(plain)
    assert source.settings == {"size": 20, "altered": 0.25}


def test_more_keep_those_of_fewer() -> None:
    few, many = (AlteredSource(Squares(), share) for share in (0.1, 0.3))
    assert few.kinds.items() <= many.kinds.items()


def test_masks_by_hand() -> None:
    mask = np.array([[0, 2, 255], [1, 0, 0]], np.uint8)
    np.testing.assert_array_equal(inverted(mask), [[1, 0, 255], [0, 1, 1]])
    np.testing.assert_array_equal(emptied(mask), [[0, 0, 255], [0, 0, 0]])
    moved = shifted(np.pad(np.ones((1, 1), np.uint8), ((2, 17), (1, 8))))
    assert np.argwhere(moved).tolist() == [[5, 3]]
    framed = np.full((2, 10, 10), 255, np.uint8)
    framed[0, :8, :8] = 1
    assert np.array_equal(shifted(framed) == 255, framed == 255)  # padding stays
    assert (shifted(framed)[0, :8, :8] == 0).sum() == 8 * 2 * 2 - 2 * 2
    assert (shifted(framed[0])[2:, 2:] == framed[0, :-2, :-2]).all()  # ignored pixels of images move along


def test_an_empty_mask_is_altered_too() -> None:
    source = AlteredSource(Squares(empty=True), 0.25)
    assert set(source.kinds.values()) == set(ALTERATIONS)
    for index, kind in source.kinds.items():
        mask = source.decode(index)[1]
        assert mask[5, 5] == (kind != "image inverted")
        assert mask[0, 9] == 255


def test_an_emptied_mask_stays_a_labelled_sample(tmp_path: Path) -> None:
    class Faint(Squares):
        """A source whose files have values that decoding made background."""

        empty_cases = ("north",)

        def lost(self, index: int) -> int:  # noqa: ARG002
            return 3

    source = AlteredSource(Faint(), 0.25)
    images, masks = zip(*(source.decode(index) for index in range(len(source))), strict=True)
    facts = sample_facts(Cached(tmp_path, "f", np.stack(images), np.stack(masks)), source)
    emptied_ones = [index for index, kind in source.kinds.items() if kind == "mask empty"]
    assert np.flatnonzero(facts.empty).tolist() == sorted(emptied_ones)
    assert not facts.lost.any()  # no values of the file were lost
    assert facts.labelled.all()
    assert source.empty_cases == ("north",)


def test_none_is_the_source_itself_and_other_shares_are_refused() -> None:
    source = Squares()
    assert with_altered(source, 0) is source
    for share in (-0.1, 0.6):
        with pytest.raises(InputError, match="must be a fraction above 0 and at most 0.5"):
            with_altered(source, share)
    with pytest.raises(InputError, match="2 groups or more, got 0.01 of 40"):
        with_altered(source, 0.01)
