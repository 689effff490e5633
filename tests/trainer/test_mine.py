"""From lines to types."""

from __future__ import annotations

import os
import random
import resource
from pathlib import Path

import numpy as np
import pytest
from trainer import styles

from foretail import logs
from foretail.errors import ConfigError
from foretail.formats import parse_format
from foretail.lint import check_pattern, digit_blind
from foretail.patterns import Matcher
from foretail.schema import Format, KeyRule, Patterns
from foretail_trainer.cluster import cluster
from foretail_trainer.masks import Masks
from foretail_trainer.mine import mine
from foretail_trainer.skeletons import Skeletons

pytestmark = pytest.mark.trainer
DATA = Path(os.environ.get("FORETAIL_DATA", "../shared/data"))


@pytest.mark.parametrize("style", sorted(styles.STYLES))
def test_types_of_styles_nobody_tuned_for(style: str):
    """Made-up logs of many styles are grouped as their events are, and each line matches its type."""
    lines, truth = styles.lines(style, 600, seed=1)
    found = mine([lines], Format())
    index = Matcher(found.patterns, Format(), KeyRule()).match(lines).index
    assert index.min() >= 0
    assert np.bincount(index, minlength=len(found.patterns)).tolist() == [p.support for p in found.patterns]
    assert styles.grouping(truth, index.tolist())[0] >= (0.6 if style == "database" else 0.9)


def test_mining_is_deterministic():
    """The same lines give the same types, however they are cut into batches."""
    lines, _ = styles.lines("shop", 600)
    assert mine([lines], Format()).patterns == mine([lines[:100], lines[100:]], Format()).patterns


def test_patterns_are_safe_digit_blind_and_numbered():
    """Every pattern passes lint and looks at no digit; display names and ids are unique."""
    lines, _ = styles.lines("phone", 600)
    patterns = mine([lines], Format()).patterns
    for pattern in patterns:
        check_pattern(pattern.regex)
        assert digit_blind(pattern.regex)
    assert (
        len({pattern.type for pattern in patterns}) == len({pattern.type_id for pattern in patterns}) == len(patterns)
    )
    assert [pattern.rank for pattern in patterns] == list(range(len(patterns)))


def test_headers_are_not_part_of_types():
    """Time, host and pid of a header make no types."""
    lines = [b"Jun  9 06:06:2%d combo sshd[%d]: session closed for user bob" % (n % 10, n) for n in range(30)]
    (pattern,) = mine([lines], parse_format("rfc3164")).patterns
    assert (pattern.template, pattern.support) == ("session closed for user bob", 30)


def test_singletons_ship_as_rare_types():
    """A line seen once has a type, marked rare, and is listed."""
    found = mine([[b"all is well %d" % n for n in range(9)] + [b"the sky fell"]], Format())
    (rare,) = [pattern for pattern in found.patterns if pattern.rare]
    assert rare.template == "the sky fell"
    assert found.singletons == (rare.type_id,)


def test_error_lines_are_marked():
    """Types whose lines are error-level by their header, or say so, are listed."""
    form = parse_format("<Date> <Time> <Level> <Component>: <Content>")
    lines = [
        b"2026-01-01 00:00:0%d %s a.B: %s %d" % (n % 10, *kind, n)
        for n in range(20)
        for kind in ((b"ERROR", b"lost the plot"), (b"INFO", b"found it"), (b"INFO", b"request failed"))
    ]
    found = mine([lines], form)
    assert sorted(p.template for p in found.patterns if p.error) == ["lost the plot <*>", "request failed <*>"]
    assert len(found.errors) == 2


def test_ids_live_on_when_a_value_is_found_to_vary():
    """A type whose template changes keeps the id of the old type that gave it its lines."""
    first = mine([[b"login of user bob", b"idle"] * 5], Format())
    old = next(p for p in first.patterns if "bob" in p.template)
    lines = [b"login of user %s" % name for name in (b"bob", b"eve", b"joe", b"sue", b"tim")] * 3
    again = mine([lines], Format(), base=Patterns(1, first.patterns))
    (new,) = again.patterns
    assert (new.template, new.type_id) == ("login of user <*>", old.type_id)


def test_status_classes_of_requests_are_types():
    """A failing request is another event than one that went well; which code it is does not matter."""
    lines = [
        b'1.2.3.4 - - [26/Jan/2019:19:45:25 +0330] "GET /a/%d HTTP/1.1" %d 5 "-" "x"' % (n, status)
        for n in range(50)
        for status in (200, 204, 404, 503)
    ]
    found = mine([lines], parse_format("combined"))
    counts = {p.template: (p.support, p.error) for p in found.patterns}
    assert counts == {
        '"GET <*> HTTP/<*>" 2<*>': (100, False),
        '"GET <*> HTTP/<*>" 4<*>': (50, False),
        '"GET <*> HTTP/<*>" 5<*>': (50, True),
    }


def test_a_cap_says_what_fell():
    """Beyond the cap the types with the fewest lines are type 0, and a sentence says so."""
    lines = [word * 3 for word in (b"ab ", b"cd ", b"ef ", b"gh ") for _ in range(5)] + [b"xyz once"]
    found = mine([lines], Format(), types_max=3)
    assert len(found.patterns) == 3
    assert "5 types exceed the limit of 3" in found.notes[0]
    assert found.dropped == 6


def test_no_lines_is_an_error():
    """An empty source is refused with one sentence."""
    with pytest.raises(ConfigError, match="no lines"):
        mine([], Format())


def test_random_bytes_have_types():
    """Noise neither fails nor stalls."""
    r = random.Random(0)
    lines = [bytes(r.randrange(256) for _ in range(60)).replace(b"\n", b"") for _ in range(300)]
    found = mine([lines], Format())
    assert Matcher(found.patterns, Format(), KeyRule()).match(lines).index.min() >= 0


def test_monstrous_lines_are_typed_by_their_beginning():
    """Megabytes of words, brackets or one letter have a pattern of bounded length each."""
    lines = [b"a b c " * 100_000, b"x=1 " * 100_000, b"(" * 100_000, b"a" * 1_000_000, b"1.1.1.1:" * 50_000]
    found = mine([lines], Format())
    assert max(len(pattern.regex) for pattern in found.patterns) < 16_384
    assert Matcher(found.patterns, Format(), KeyRule()).match(lines).index.min() >= 0


def test_memory_is_bounded_by_skeletons_not_lines():
    """A stream with an id in every line takes the memory of its types."""

    def batches():
        r = random.Random(0)
        for _ in range(20):
            yield [
                b"request %08x-0000-4000-8000-%012x done in %d ms" % (r.getrandbits(32), r.getrandbits(48), n)
                for n in range(5000)
            ]

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = mine(batches(), Format())
    assert [p.support for p in found.patterns] == [100_000]
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # KB


def test_counts_survive_a_full_memo(monkeypatch: pytest.MonkeyPatch):
    """When the memo starts anew, no line is lost from the counts."""
    monkeypatch.setattr("foretail_trainer.skeletons.MEMO_BYTES_MAX", 3000)
    lines = [b"job %s runs on %d" % (b"x" * n, n) for n in range(1, 60)] * 2
    found = mine([lines[:50], lines[50:]], Format())
    assert sum(p.support for p in found.patterns) == len(lines)


def test_looks_find_digits_that_vary():
    """Messages that differ in digits only share an entry; a few are looked at for digits in words that vary."""
    skeletons = Skeletons(Masks())
    skeletons.add([b"disk7 ok", b"disk8 ok"], [b"disk7 ok", b"disk8 ok"])
    (item,) = skeletons.folded()[0]
    assert (item.count, item.places[0].marks[0].same) == (2, False)


def test_clusters_choose_k_from_the_data():
    """Three families of templates give at least three clusters, a curve, and one row a template."""
    families = ("open the file in folder", "send a mail over relay", "run this job at night")
    keys = [tuple(f"{family} {n}".split()) for family in families for n in "abcde"]
    found = cluster(keys, seed=1)
    assert found.k >= 3
    assert len(found.labels) == len(found.points) == 15
    assert found.explained >= 0.95
    assert [k for k, _, _ in found.curve] == sorted(k for k, _, _ in found.curve)
    assert cluster(keys, seed=1).labels.tolist() == found.labels.tolist()


@pytest.mark.data
@pytest.mark.skipif(not DATA.is_dir(), reason="FORETAIL_DATA is not there")
@pytest.mark.parametrize(
    ("path", "form"),
    [
        *((f"loghub2k/{name}_2k.log", "line") for name in ("Apache", "BGL", "HPC", "Linux", "OpenStack", "Spark")),
        ("logs/auth.log", "rfc3164"),
        ("logs/kafka/server.log.2016-12-19-16", "log4j"),
        ("logs/kafka/controller.log.2016-12-19-20", "log4j"),
        ("logs/linux_syslog.log.xz", "rfc3164"),
        ("logs/nginx_access.log.xz", "combined"),
        ("hdfs_raw/hdfs.log.xz", "<Date> <Time> <Pid> <Level> <Component>: <Content>"),
    ],
)
def test_every_line_of_real_logs_matches_its_type(path: str, form: str):
    """No training line is type 0, and the matcher counts what mining counted."""
    lines = [line for batch in logs.batches([str(DATA / path)], "test") for line in batch.lines]
    found = mine([lines], parse_format(form))
    index = Matcher(found.patterns, parse_format(form), KeyRule()).match(lines).index
    assert index.min() >= 0
    assert np.bincount(index, minlength=len(found.patterns)).tolist() == [p.support for p in found.patterns]
