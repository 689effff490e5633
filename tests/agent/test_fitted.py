import json

from hypothesis import given
from hypothesis import strategies as st

from foretail.fitted import fitted

RECORD = {"kind": "line", "id": "a" * 24, "stream": "s", "offset": 7, "anomalous": True, "score": 0.75}
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


def encoded(fields):
    return json.dumps(RECORD | fields).encode()


def test_a_record_that_fits_is_not_touched():
    """The same object comes back."""
    record = encoded({"template": "x"})
    assert fitted(record, len(record)) is record


def test_long_texts_are_cut_first_and_named():
    """Numbers and short texts stay."""
    record = json.loads(fitted(encoded({"template": "x" * 9000, "explanation": {"line": "y" * 9000, "bits": 3}}), 4096))
    assert record == RECORD | {
        "template": "x" * 1024,
        "explanation": {"line": "y" * 1024, "bits": 3},
        "cut": ["template", "line"],
    }


def test_names_of_earlier_cuts_stay():
    """A key that the verdict cut before is still named."""
    record = json.loads(fitted(encoded({"template": "x" * 9000, "cut": ["key"]}), 4096))
    assert record["cut"] == ["key", "template"]


@given(st.dictionaries(st.text(), VALUES, max_size=20), st.integers(2048, 8192))
def test_every_record_fits_is_one_line_and_valid_utf8(fields, limit):
    """Whatever is in it, the result is one JSON object below the limit and still tells which line."""
    cut = fitted(encoded({f"_{name}": value for name, value in fields.items()} | {"text": "\u20ac" * 9000}), limit)
    assert len(cut) <= limit
    assert b"\n" not in cut
    record = json.loads(cut.decode())
    assert {name: record[name] for name in RECORD} == RECORD
    assert record["cut"]
