"""The types file and the table of types."""

from __future__ import annotations

from pathlib import Path

import pytest

from foretail.errors import ConfigError
from foretail.patterns import Matcher
from foretail.schema import Format, KeyRule, Pattern, Patterns
from foretail_trainer import types
from foretail_trainer.mine import Mined, mine

pytestmark = pytest.mark.trainer

LINES = [
    *(b"worker %d started" % n for n in range(5)),
    *(b"worker %d stopped" % n for n in range(4)),
    *(b"request GET /a/b took %d ms status %d" % (n, 200 + n % 2 * 204) for n in range(10)),
    *(b"session of user %s closed" % name for name in (b"root", b"alice", b"bob", b"carol")),
]


def mined(text: str, base: Patterns | None = None) -> Mined:
    """The types of LINES after these edits."""
    return mine([LINES], Format(), edits=types.parse(text), base=base)


def typed(found: Mined, line: bytes) -> Pattern:
    """The type of a line."""
    matcher = Matcher(found.patterns, Format(), KeyRule())
    return matcher.patterns[matcher.match([line]).index[0]]


def test_merge_joins_types_and_keeps_the_first_id():
    """Merged types are one, with the id of the first and the lines of both."""
    before = typed(mined(""), b"worker 9 started")
    after = mined('merge "worker <*> started" "worker <*> stopped"')
    assert typed(after, b"worker 9 started") == typed(after, b"worker 9 stopped")
    assert (typed(after, b"worker 9 stopped").type_id, typed(after, b"worker 9 stopped").support) == (
        before.type_id,
        9,
    )


def test_split_by_a_literal_even_of_digits():
    """Lines that hold the literal are a type of their own, counted in a second reading."""
    found = mined('split "request GET <*> took <*> ms status <*>" "status 404"')
    plain, missing = (typed(found, b"request GET /x/y took 5 ms status %d" % status) for status in (200, 404))
    assert plain.type_id != missing.type_id
    assert (plain.support, missing.support) == (5, 5)


def test_custom_patterns_are_tried_first():
    """A pattern of the file takes its lines from all other types."""
    found = mined(r"pattern root-closed session of user root closed")
    assert typed(found, b"session of user root closed").name == "root-closed"
    assert typed(found, b"session of user bob closed").support == 3


def test_masks_of_the_file_hide_values():
    """What a mask matches makes no types."""
    found = mined("mask verb started|stopped")
    assert typed(found, b"worker 1 started").template == "worker <*> <*>"


def test_rename_by_template_or_id():
    """A name is for people; id and template stay."""
    before = typed(mined(""), b"worker 1 started")
    for reference in (before.type_id, '"worker <*> started"'):
        after = typed(mined(f"rename {reference} start-of-worker"), b"worker 1 started")
        assert (after.name, after.type_id, after.template) == ("start-of-worker", before.type_id, before.template)


def test_edits_survive_retraining():
    """The same file on a longer log, with the old bundle as base, gives the same ids."""
    text = (
        'merge "worker <*> started" "worker <*> stopped"\nsplit "request GET <*> took <*> ms status <*>" "status 404"'
    )
    first = mined(text)
    again = mine(
        [LINES, [b"all quiet"] * 3],
        Format(),
        edits=types.parse(text),
        base=Patterns(1, first.patterns),
    )
    for line in LINES:
        assert typed(first, line).type_id == typed(again, line).type_id


def test_an_edit_of_a_type_that_is_gone_is_a_note():
    """A reference that names no type is told, not refused."""
    assert any("'no such type'" in note for note in mined('rename "no such type" x').notes)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("mash x y", "types file:1: 'mash' is no edit"),
        ("\npattern evil (a+)+b", r"types file:2: pattern evil \(\(a\+\)\+b\) is refused: "),
        ("mask evil (a*)*", "pattern evil"),
        ("mask order ORD-17", "mask order looks at single digits"),
        ("rename one", "write `rename TYPE TEXT`"),
        ('merge "a', "No closing quotation"),
        ('split "worker <*> started" ""', "literal to split by is empty"),
        ("pattern x", "write `pattern NAME REGEX`"),
    ],
)
def test_bad_edits_are_refused_with_file_line_and_reason(text: str, message: str):
    """One sentence names the file, the line and what is wrong; a catastrophic regex by its name and reason."""
    with pytest.raises(ConfigError, match=message):
        types.parse(text)


def test_a_file_that_is_not_there(tmp_path: Path):
    """A missing types file is named."""
    with pytest.raises(ConfigError, match="cannot be read"):
        types.read(tmp_path / "none.types")


def test_comments_and_blank_lines_are_nothing(tmp_path: Path):
    """A file of comments asks for nothing."""
    path = tmp_path / "a.types"
    path.write_text("# all is well\n\n   # still\n")
    assert types.read(path) == types.Edits()


def test_template_of_a_pattern():
    """A custom regex is shown with its literals, and `<*>` for the rest."""
    assert types.template_of(r"user (\S+) (in|out) at \d+\.\d+!") == "user <*> <*> at <*>.<*>!"


def test_table_has_a_row_a_type():
    """Most lines first, with share, examples and near-duplicates."""
    found = mined("")
    rows = types.table(found.patterns, found.examples, found.near)
    assert [row.count for row in rows] == sorted((pattern.support for pattern in found.patterns), reverse=True)
    started = next(row for row in rows if row.template == "worker <*> started")
    assert started.share == 5 / len(LINES)
    assert started.examples[0] == "worker 0 started"
    assert started.near == (typed(found, b"worker 1 stopped").type_id,)
