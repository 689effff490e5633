"""Which places are variables."""

from __future__ import annotations

import pytest

from foretail_trainer.grouping import Grouping, neighbours
from foretail_trainer.masks import Masks
from foretail_trainer.words import form

pytestmark = pytest.mark.trainer
MASKS = Masks()


def templates(*messages: str) -> list[str]:
    """The templates of messages, a value as `*`."""
    found = Grouping(MASKS.row(message).key for message in messages).run()
    return sorted("".join("*" if ord(token[0]) > 0xFF else token for token in one.key) for one in found)


def test_two_words_in_one_place_are_two_events():
    """A small set of plain words names events, also after a noun that could hold a name."""
    assert templates("worker started", "worker stopped") == ["worker started", "worker stopped"]
    assert templates("service started", "service stopped") == ["service started", "service stopped"]
    assert len(templates("Link down on port 1", "Link up on port 1")) == 2


def test_many_words_in_one_place_are_a_variable():
    """A place that eleven words fill, in a message of other words, is a variable."""
    names = ["amber", "birch", "cedar", "delta", "ebony", "flint", "grove", "heath", "inlet", "jetty", "knoll"]
    assert templates(*(f"stopping notify server for {name}" for name in names)) == ["stopping notify server for *"]


def test_names_after_their_noun_are_values():
    """Three users are enough: logs name individuals after such nouns."""
    assert templates(*(f"session closed for user {name}" for name in ("cyrus", "news", "test"))) == [
        "session closed for user *"
    ]


def test_states_in_capitals_are_events():
    """Upper-case constants are states: each transition is an event."""
    assert len(templates("moved from NEW to READY", "moved from READY to GONE", "moved from GONE to NEW")) == 3


def test_booleans_and_nulls_are_values():
    """Both truth values are one variable, and so are null and an object."""
    assert templates("screen on = true", "screen on = false") == ["screen on = *"]
    assert templates("lock ws=null, pid=1", "lock ws=Source{12}, pid=1") == ["lock ws=*, pid=*"]


def test_empty_values_join_the_others():
    """A place that is empty sometimes is the same place."""
    assert templates("from 1.2.3.4 () at 5", "from 1.2.3.4 (a.example.org) at 5") == ["from * (*) at *"]


def test_quoted_text_of_any_length_is_one_value():
    """What stands in quotes may hold blanks."""
    words = ("home net", "cafe", "lobby of hotel", "lab", "roof")
    assert templates(*(f"probing '{word}' now" for word in words)) == ["probing '*' now"]


def test_several_values_at_once_are_compared_by_shape():
    """Messages that differ in two value-like places are one type without a common neighbour."""
    pairs = [("a.b.Foo", "c.d.Bar"), ("e.f.Baz", "g.h.Qux"), ("i.j.Quux", "k.l.Corge"), ("m.n.Grault", "o.p.Garply")]
    assert templates(*(f"Registering {a} for {b}" for a, b in pairs)) == ["Registering * for *"]


def test_methods_of_requests_stay_apart():
    """Quoted text that shares words has slots of its own."""
    assert len(templates('1 "GET /a HTTP/1.1" 2', '1 "POST /a HTTP/1.1" 2')) == 2


def test_a_name_before_an_equals_sign_is_a_word():
    """Settings are told apart by their keys."""
    assert len(templates("r24=1", "fpr29=1")) == 2


def test_order_of_messages_does_not_matter():
    """Templates depend on the set of messages alone."""
    messages = [f"user {name} did {verb} on node{n}" for n, name in enumerate("abcd") for verb in ("push", "pull")]
    assert templates(*messages) == templates(*reversed(messages))


def test_form_of_tokens():
    """Marks, digits and inner punctuation speak for a value; participles and capitals against it."""
    assert form("node0") == form("true") > form("a.b") > form("fooBar") > form("word") > form("STATE") > form("started")


def test_neighbours_differ_in_one_word():
    """Near-duplicates are pairs that differ in one token."""
    keys = [MASKS.row(text).key for text in ("worker started", "worker stopped", "all done")]
    assert neighbours(keys) == [(keys[0], keys[1])]


def test_rare_words_beside_frequent_ones_are_values():
    """Messages whose other words are common are one type, though no two share three of four values."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    names = [a + b + c for a in letters[:5] for b in letters for c in letters[:5]]
    messages = [
        f"user {a} gave {b} to {c} because of it" for a, b, c in zip(names, names[7:], names[19:], strict=False)
    ]
    assert templates(*messages) == ["user * gave * to * because of it"]
