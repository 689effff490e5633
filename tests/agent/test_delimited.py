import math

import numpy as np
import pytest

from foretail import delimited
from foretail.delimited import Dialect
from foretail.errors import ConfigError
from foretail.numerals import numbers


def write(tmp_path, text, name="x.csv"):
    path = tmp_path / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return str(path)


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_separator_and_header_are_found(tmp_path, separator):
    """The separator is the one that cuts all lines alike, the header is what stands above numbers."""
    rows = [["time", "a b", "c"], *([f"2024-01-01 00:0{i}:00", str(i), "x"] for i in range(5))]
    sheet = delimited.read(write(tmp_path, "\n".join(separator.join(row) for row in rows)))
    assert (sheet.names, len(sheet.rows)) == (("time", "a b", "c"), 5)


def test_columns_without_header_are_numbers(tmp_path):
    """A file without a header has columns 1, 2, 3; they are asked for by number."""
    sheet = delimited.read(write(tmp_path, "1.5,2\n3,4\n"))
    assert (sheet.column(sheet.place("2")), sheet.names) == (["2", "4"], ("1", "2"))


def test_header_can_be_denied(tmp_path):
    """`--no-header` keeps the first row as data."""
    sheet = delimited.read(write(tmp_path, "text,label\nb,1\n"), Dialect(header=False))
    assert sheet.rows == [["text", "label"], ["b", "1"]]


def test_quote_is_as_told(tmp_path):
    """JSON in cells quoted by | keeps its commas and quotes."""
    sheet = delimited.read(write(tmp_path, '|{"a": 1, "b": "x"}|,0\n|{"a": 2}|,1\n'), Dialect(quote="|", header=False))
    assert sheet.column(0) == ['{"a": 1, "b": "x"}', '{"a": 2}']


def test_bytes_that_are_no_text_survive(tmp_path):
    """A cell with invalid UTF-8 encodes back to the bytes it was."""
    sheet = delimited.read(write(tmp_path, b"a,b\n\xff\xfe,1\n"))
    assert sheet.rows[0][0].encode("utf-8", "surrogateescape") == b"\xff\xfe"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "holds no row"),
        ("a,b\n", "only a header"),
        ("a,b\n1,2\n3\n", "line 3: 1 cells, the first row has 2"),
        (b"a\0b", "is binary"),
    ],
)
def test_files_that_cannot_be_used_say_why(tmp_path, text, said):
    """A bad file is one sentence that names file and line."""
    with pytest.raises(ConfigError, match=said):
        delimited.read(write(tmp_path, text), Dialect(separator=",", header=True))


def test_missing_file_and_column_are_named(tmp_path):
    """What is not there is named."""
    with pytest.raises(ConfigError, match="does not exist"):
        delimited.read(str(tmp_path / "none.csv"))
    with pytest.raises(ConfigError, match="no column 'z'; it has a, b"):
        delimited.read(write(tmp_path, "a,b\n1,2\n")).place("z")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("2020-03-09 10:14:33", 1583748873.0), ("1583748873", 1583748873.0), ("1583748873500", 1583748873.5)],
)
def test_stamps_are_read_in_any_layout(text, seconds):
    """Dates, epoch seconds and milliseconds are moments."""
    assert seconds == delimited.times([text])[0]


def test_timestamp_column_is_found_by_name_or_look(tmp_path):
    """Epoch numbers need a telling name, dates do not; values are never taken for stamps."""
    epoch = delimited.read(write(tmp_path, "v,timestamp\n1500000000,1500000000\n1500000001,1500000060\n"))
    dated = delimited.read(write(tmp_path, "v,x\n1,2020-01-01 00:00:00\n2,2020-01-01 00:01:00\n"))
    plain = delimited.read(write(tmp_path, "v,x\n1,1500000000\n2,1500000060\n"))
    assert tuple(map(delimited.timestamp, (epoch, dated, plain))) == (1, 1, None)


def test_cells_without_number_are_nan():
    """Words and infinities are no numbers."""
    assert [*numbers(["1"]), *map(math.isnan, numbers(["x", "inf"]))] == [1.0, True, True]
    assert np.isnan(numbers([""])).all()
