"""Lines of CSV files."""

from pathlib import Path

import pytest

from seg_mia.data.csv_lines import csv_lines
from seg_mia.errors import InputError


def test_cells_are_stripped_and_lines_are_named(tmp_path: Path) -> None:
    file = tmp_path / "list.csv"
    file.write_bytes('\ufeffcase , part\na,"b, c"\n\nd, e\n'.encode())
    header, lines = csv_lines(file, "parts")
    assert header == ["case", "part"]
    assert lines == [
        (f"{file} line 2", {"case": "a", "part": "b, c"}),
        (f"{file} line 4", {"case": "d", "part": "e"}),
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no file; correct parts"),
        (b"case,part\na\n", "line 2 must have as many cells as the header"),
        (b"case,part\na,b,c\n", "line 2 must have as many cells as the header"),
        (b"case\n\xff\n", "must be a CSV file in UTF-8, got: 'utf-8' codec"),
        (b'case\n"a"b\n', "must be a CSV file in UTF-8, got: "),
    ],
)
def test_refuses(tmp_path: Path, content: bytes | None, message: str) -> None:
    file = tmp_path / "list.csv"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(InputError, match=message):
        csv_lines(file, "parts")
