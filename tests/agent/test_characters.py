from foretail.characters import SPANS_MAX, _spans, chunks_of, ids_of, record_text


def test_lines_are_filled_up_on_their_left():
    """The last byte is the last step; nothing is id 0, byte b is b + 1, also where the byte is 0."""
    assert ids_of([b"ab", b"\0"], 2, 2).tolist() == [[0, 0, 98, 99], [0, 0, 0, 1]]


def test_chunks_of_a_line():
    """An empty line takes one step, 33 bytes take two of 32."""
    assert [chunks_of(n, 32) for n in (0, 1, 32, 33)] == [1, 1, 1, 2]


def test_dropped_fields_are_not_read():
    """Names go wherever they stand, dotted paths where they say; the rest is compact JSON."""
    line = b'{"timestamp": 1, "request": {"body": "x", "headers": {"a": 1}}, "list": [{"timestamp": 2, "b": 3}]}'
    assert record_text(line, ("timestamp", "request.headers")) == b'{"request":{"body":"x"},"list":[{"b":3}]}'


def test_one_field_is_read():
    """A text field is read as it is, another as JSON, a missing one is empty."""
    line = b'{"a": {"b": "x y", "c": [1, 2]}}'
    assert [record_text(line, (), field) for field in ("a.b", "a.c", "a.d")] == [b"x y", b"[1,2]", b""]


def test_lines_that_are_no_records_stay():
    """What is no JSON object is read as it came."""
    assert [record_text(line, ("a",)) for line in (b"plain", b"[1]")] == [b"plain", b"[1]"]


def test_spans_are_few_and_cover_the_line():
    """Every byte lies in a span, and any length has at most 63."""
    for length in (6, 30, 256, 1024):
        spans = _spans(length)
        assert 0 < len(spans) <= SPANS_MAX
        assert set(range(length - 1)) <= {i for a, b in spans for i in range(a, b)}
