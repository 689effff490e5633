"""Templates and regexes from skeletons."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foretail.lint import check_pattern, digit_blind
from foretail_trainer.grouping import Grouping
from foretail_trainer.masks import Masks
from foretail_trainer.skeletons import Skeletons
from foretail_trainer.templates import Drawn, draw

pytestmark = pytest.mark.trainer


def drawn(*messages: bytes) -> list[Drawn]:
    """What is drawn of the types of these messages."""
    skeletons = Skeletons(Masks())
    skeletons.add(messages, messages)
    items, _ = skeletons.folded()
    by_key = {item.key: item for item in items}
    return [draw(one, [by_key[key] for key in one.members]) for one in Grouping(by_key).run()]


def test_a_value_ends_at_the_literal_after_it():
    """Each variable is one capture that cannot run over the next literal."""
    (one,) = drawn(b"took 12 ms (id=7, x)", b"took 4 ms (id=5, x)")
    assert one.template == "took <*> ms (id=<*>, x)"
    match = re.fullmatch(one.regex.encode(), b"took 3 ms (id=9, x)")
    assert match is not None
    assert match.groups() == (b"3 ms", b"9")


def test_digits_in_words_show_when_they_never_vary():
    """`ssh2` stays as it is, `node12` and `node7` do not; the regex looks at neither."""
    (one,) = drawn(b"ssh2 on node12 ok", b"ssh2 on node17 ok", b"ssh2 on node3 ok")
    assert one.template == "ssh2 on node<*> ok"
    assert digit_blind(one.regex)


def test_values_with_blanks_and_empty_values():
    """A variable takes as many parts as were seen, or none."""
    (one,) = drawn(*(b"from 1.2.3.4 (%s) end" % name for name in (b"", b"a.example.org")))
    assert re.fullmatch(one.regex.encode(), b"from 9.9.9.9 () end")
    (one,) = drawn(*(b"app '%s' quit" % name for name in (b"Mail", b"Big Blue Box", b"Note Pad", b"Maps", b"Clock")))
    assert re.fullmatch(one.regex.encode(), b"app 'Note Pad' quit")


def test_bytes_beyond_ascii_are_escaped():
    """A regex is ASCII text over bytes."""
    (one,) = drawn("größe 5".encode())
    assert one.regex.isascii()
    assert re.fullmatch(one.regex.encode(), "größe 6".encode())


def test_long_lists_stay_safe():
    """Nested lists of varying length give a pattern that lint accepts."""
    line = b"map {[t,%d] -> List(%s), [t,9] -> List(1)} for {[u,1] -> List(%s)} done"
    lines = [line % (n, b", ".join([b"5"] * n), b", ".join([b"7"] * m)) for n, m in ((1, 3), (4, 1), (2, 2))]
    for one in drawn(*lines):
        check_pattern(one.regex)


@given(st.lists(st.binary(max_size=40).map(lambda b: b.replace(b"\n", b" ").rstrip()), min_size=1, max_size=8))
def test_any_message_fits_the_pattern_of_its_type(messages: list[bytes]):
    """Patterns of arbitrary bytes are safe, digit-blind and cover their messages."""
    found = drawn(*messages)
    for one in found:
        check_pattern(one.regex)
        assert digit_blind(one.regex)
    for message in messages:
        assert any(re.fullmatch(one.regex.encode(), message) for one in found)
