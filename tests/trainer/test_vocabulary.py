"""Types of a refit: the base's stand, what it does not match is added, a wider type takes a narrow one's id."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from foretail.patterns import Matcher
from foretail.schema import FIRST, UNKNOWN, Format, KeyRule
from foretail_trainer.mine import mine
from foretail_trainer.vocabulary import extended

pytestmark = pytest.mark.trainer

OLD = [b"worker %d took task %d" % (n % 7, n) for n in range(40)] + [b"cache is warm"] * 9
NEW = [b"disk %d of array %d fails" % (n % 5, n) for n in range(30)]


def base(lines: list[bytes]):
    """As much of a bundle as the vocabulary looks at."""
    patterns = mine([lines], Format()).patterns
    return SimpleNamespace(patterns=patterns, manifest=SimpleNamespace(format=Format()))


def templates(found) -> set[str]:
    return {one.template for one in found.patterns}


def test_a_log_of_known_types_changes_nothing():
    """Not even the numbers."""
    old = base(OLD)
    found = extended(old, [OLD], [], seed=0)
    assert found.patterns == old.patterns
    assert (found.added, found.retired, found.renamed, found.mined) == ((), {}, {}, None)
    assert found.moved.tolist() == list(range(FIRST + len(old.patterns)))


def test_new_types_come_after_the_old_ones():
    """Ids, numbers and regexes of the old ones stay; every line has its type."""
    old = base(OLD)
    found = extended(old, [OLD, NEW], [], seed=0)
    assert found.patterns[: len(old.patterns)] == old.patterns
    assert [one.template for one in found.patterns[len(old.patterns) :]] == ["disk <*> of array <*> fails"]
    index = Matcher(found.patterns, Format(), KeyRule()).match(OLD + NEW).index
    assert (index >= 0).all()
    names = [one.type for one in found.patterns]
    assert len(set(names)) == len(names)


def test_the_words_of_a_label_make_a_type():
    """One line is enough, with its digits as zeros; it matches the like of it."""
    found = extended(base(OLD), [], [b"disk 0 of array 00 fails"], seed=0)
    assert int(found.matcher().match([b"disk 3 of array 17 fails"]).index[0]) == len(found.patterns) - 1
    assert len(found.added) == 1


def test_a_label_of_a_type_that_is_known_by_now_adds_none():
    """Another label, or another log, brought it in."""
    assert extended(base(OLD), [], [b"worker 0 took task 00"], seed=0).added == ()


def test_a_narrow_type_gives_way_to_a_wider_one_and_leaves_it_its_id():
    """One user came twice, then many others: it is one message, whose id stays."""
    old = base([*OLD, b"user root has logged in", b"user root has logged in"])
    narrow = next(one for one in old.patterns if "logged" in one.template)
    many = [b"user %s has logged in" % name for name in (b"alice", b"bob", b"carol", b"dave", b"erin", b"frank") * 3]
    found = extended(old, [many], [], seed=0)
    wide = next(one for one in found.patterns if "logged" in one.template)
    assert wide.type_id == narrow.type_id
    assert found.renamed == {narrow.type_id: narrow.template}
    assert wide.template == "user <*> has logged in"
    place = next(number for number, one in enumerate(old.patterns) if one is narrow)
    assert found.moved[FIRST + place] == FIRST + found.patterns.index(wide)
    assert UNKNOWN not in found.moved[FIRST:].tolist()
    index = found.matcher().match([b"user root has logged in"]).index
    assert found.patterns[int(index[0])] is wide
