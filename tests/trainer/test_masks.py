"""What is masked, and how a message becomes tokens."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foretail.errors import ConfigError
from foretail_trainer.masks import Masks
from foretail_trainer.tokens import EMPTY, STATUS, VALUE

pytestmark = pytest.mark.trainer
MASKS = Masks()


def shown(message: str) -> str:
    """The masked message with V for a value, E for an empty place and the class of a status."""
    text = "".join(MASKS.row(message).key).replace(VALUE, "V").replace(EMPTY, "E")
    return text.translate({ord(mark): str(number) for number, mark in enumerate(STATUS, 1)})


@pytest.mark.parametrize(
    ("message", "masked"),
    [
        ("took 12 of 3.5, -7", "took V of V, V"),
        ("at 0xdeadbeef and de9231d0", "at V and V"),
        ("from 10.0.0.1:50010 to 10.0.0.2", "from V to V"),
        ("peer fe80::1:2 up", "peer V up"),
        ("mac 00:1b:44:11:3a:b7 seen", "mac V seen"),
        ("id 6ba7b810-9dad-11d1-80b4-00c04fd430c8.", "id V."),
        ("get https://example.org/a?b=c#d now", "get V now"),
        ("open /var/log/app.log failed", "open V failed"),
        ("load C:\\Windows\\system32\\a.dll ok", "load V ok"),
        ("mail to jo.doe@example.org sent", "mail to V sent"),
        ("at Fri Jun 17 07:07:00 2005 again", "at V again"),
        ("Marked 12 as Decoded 3 Jun 5 INFO", "Marked V as Decoded V V INFO"),
        ("on 17/Jun/2005:07:07:00 +0200 done", "on V done"),
        ("since 2026-03-01T10:00:00.123Z up", "since V up"),
        ("used 5.2 KB in 30ms, 1.5 seconds", "used V in V, V"),
        ("lifetime <1 sec", "lifetime V"),
        ('"GET /a,b/c?d HTTP/1.1" 200', '"GET V HTTP/V" 2'),
        ("blk_-69529 attempt_14451_m_0002_0 node-12", "blk_V attempt_V node-V"),
        ("db.example.org:5432 closed", "V closed"),
        ("tty=tty2 level=info", "tty=V level=info"),
        ("key SHA256:Kl8kPGZrTiz7g4FO1hyqHdsSBB", "key SHA0:V"),
        ("ssh2 on node12 via md5", "ssh0 on node0 via md0"),
        ("added dead bee", "added dead bee"),
        ("user= rhost=x", "user=E rhost=x"),
        ("a = b", "a = b"),
        ("hosts [] from () by 'x'", "hosts [E] from (E) by 'x'"),
        ("init() ok", "init() ok"),
    ],
)
def test_variable_parts_become_marks(message: str, masked: str):
    """Numbers, addresses, ids, times and paths are variable everywhere; digits inside words collapse to 0."""
    assert shown(message) == masked


def test_row_keeps_every_byte():
    """Texts and tails of a row give the message back."""
    message = "  copy blk_1 blk_22  blk_333 to 10.0.0.1:80, 10.0.0.2:80 (ok) user= done."
    row = MASKS.row(message)
    assert "".join(row.texts) == message
    assert row.once is not None
    assert "".join(a + b for a, b in zip(row.once.texts, row.once.tails, strict=True)) == message


@given(st.text(st.characters(min_codepoint=9, max_codepoint=255), max_size=80))
def test_no_text_is_lost(message: str):
    """Any latin-1 text can be put together again from its row."""
    assert "".join(MASKS.row(message).texts) == message


def test_lists_are_written_once_inner_ones_first():
    """A list of equal items has the key of its first item, however long, also within items."""
    one = MASKS.row("map [a,1] -> List(4, 5), [a,2] -> List(7), [a,3] -> List(1, 2, 3)")
    other = MASKS.row("map [a,1] -> List(4)")
    assert one.once is not None
    assert one.once.key == other.key


def test_tokens_beyond_the_limit_are_one_value():
    """A message of thousands of tokens has the key of its first ones."""
    row = MASKS.row("a " * 3000)
    assert row.key[-1] == VALUE
    assert len(row.key) == 257
    assert "".join(row.texts) == "a " * 3000


def test_custom_masks_come_first():
    """A mask of a types file hides what it matches."""
    row = Masks([("order", "ORD-[A-Z]+")]).row("order ORD-ABC shipped")
    assert row.key == ("order", " ", VALUE, " ", "shipped")


def test_a_broken_mask_is_refused_by_name():
    """A mask that does not compile names itself."""
    with pytest.raises(ConfigError, match="mask 'bad'"):
        Masks([("bad", "(")])
