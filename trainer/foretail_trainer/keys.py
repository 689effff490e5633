"""Which session key a log has: the one whose histories say most about what comes next (DESIGN §4).

Every candidate is asked for the same events in time, each before it is learnt, by an n-gram model. Its histories must
say more than two cheaper things do: the history of the whole stream (no key at all), and that history with the mere
value of the key (a component that logs but one type is perfectly predictable, and no session). A run of one type counts
as one event, lines without the key have no history, and memory costs.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from foretail.patterns import Matcher
from foretail.schema import FIRST, Format, KeyRule
from foretail_trainer.backoff import bits, histories
from foretail_trainer.findings import KeyRow
from foretail_trainer.identifiers import identifiers

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

WARM_UP = 1 / 3
"""Share of the sample that is learnt before predictions count; from then on each event is predicted, then learnt."""
EVENTS_MIN = 200
"""Events to predict below which nothing is said of a key."""
GAIN_MIN = 0.1
"""A key must save so many bits an event, and so large a share of the bits without it."""
ERRORS_MIN = 1.645
"""And its gain must be so many standard errors: 95 % sure, one-sided."""
BITS_PER_DOUBLING = 0.01
"""What twice as many sessions in memory must save."""
STAYING_SHARE, NEW_SHARE = 0.8, 0.1
"""A key is endless if so many keys of the first third are still met in the last, and so few are met there first."""
NEAR = 0.02
"""Of rules whose scores differ by no more than this share, the one that names most of the line is taken."""
PROBE_LINES = 2_000
"""Lines that show whether a field can be a key at all."""
MESSAGE_MAX = 4096
"""Bytes of a message in which a key is looked for: one line of a megabyte must not take minutes."""
KEY_BYTES = 400
_BLOCKS = 20
_PASSING_NAME = re.compile(r"req|trace|span|sess|corr|trans|txn", re.IGNORECASE)
_PASSING_VALUE = re.compile(rb"[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-|(?=[a-f]*[0-9])(?=[0-9]*[a-f])[0-9a-f]{8,}")


class Candidate(NamedTuple):
    """One key and what it is worth.

    Attributes:
        rule: of the key.
        sample: one value.
        coverage: share of lines that hold it.
        sessions: distinct values.
        live: values between their first and last line, at the middle line.
        bits: bits an event, after the history of its session; over the same events for every candidate.
        gain: bits saved against the better of no key, and no key beside the mere value.
        error: standard error of the gain.
        reason: why it was taken, or not.
    """

    rule: KeyRule
    sample: bytes
    coverage: float
    sessions: int
    live: int
    bits: float
    gain: float
    error: float
    reason: str = ""

    @property
    def name(self) -> str:
        """As on the command line."""
        return self.rule.field or self.rule.regex or "none"

    @property
    def memory(self) -> int:
        """Bytes of the live sessions in an agent."""
        return self.live * KEY_BYTES

    @property
    def score(self) -> float:
        """The gain, less what its sessions must pay for their memory."""
        return self.gain - BITS_PER_DOUBLING * float(np.log2(1 + self.sessions))

    @property
    def beats_none(self) -> bool:
        """Whether the key is clearly better than none."""
        enough = self.gain >= GAIN_MIN * max(1.0, self.bits + self.gain)
        return enough and self.gain > ERRORS_MIN * self.error and self.score > 0


class Discovery(NamedTuple):
    """The key taken, and every candidate, best first."""

    rule: KeyRule
    candidates: tuple[Candidate, ...]

    def rows(self) -> tuple[KeyRow, ...]:
        """The table of the report."""
        return tuple(
            KeyRow(
                c.name,
                c.sample.decode("utf-8", "replace"),
                c.coverage,
                c.sessions,
                c.bits,
                c.rule == self.rule,
                c.reason,
            )
            for c in self.candidates
        )


def discover(lines: Sequence[bytes], matcher: Matcher, format: Format) -> Discovery:  # noqa: A002 - the domain's word
    """Compare all candidates on a sample of a log.

    Args:
        lines: consecutive lines, in the order in which they were logged.
        matcher: types them; has no key.
        format: of the lines; its fields are candidates.

    Returns:
        The rule to use; `none` when no key is clearly better than none.
    """
    typed = matcher.match(lines)
    messages = [message[:MESSAGE_MAX] for message in typed.messages]
    stream = _Stream(typed.index.astype(np.int64) + FIRST, FIRST + len(matcher.patterns))
    rules = [
        rule for name in format.fields if _varies(rule := KeyRule("field", field=name), lines[:PROBE_LINES], format)
    ]
    rules += [KeyRule("search", regex=seen.regex) for seen in identifiers(messages, typed.index.tolist())]
    found = [Candidate(KeyRule(), b"", 1.0, 1, 1, stream.none, 0.0, 0.0)]
    for rule in rules:
        keys = _found(rule.regex, messages) if rule.regex else _values(rule, lines, format)
        candidate = _judged(rule, keys, stream)
        if candidate is not None:
            found.append(candidate)
    return _chosen(found)


def _values(rule: KeyRule, lines: Sequence[bytes], format: Format) -> list[bytes]:  # noqa: A002 - the domain's word
    """The value of a field in each line."""
    return Matcher((), format, rule).match(lines).keys or []


def _varies(rule: KeyRule, lines: Sequence[bytes], format: Format) -> bool:  # noqa: A002 - the domain's word
    """Whether a field is neither always the same nor always new."""
    values = [value for value in _values(rule, lines, format) if value]
    return 1 < len(set(values)) < 0.95 * len(values)


def _found(regex: str, messages: Sequence[bytes]) -> list[bytes]:
    """What a search rule finds in each message: its first group, or all of it; b"" = nothing."""
    search = re.compile(regex.encode()).search
    return [match[match.re.groups and 1] if match else b"" for match in map(search, messages)]


class _Stream:
    """The events of the sample, and what they cost without a key."""

    def __init__(self, ids: NDArray[np.int64], vocabulary: int) -> None:
        n = len(ids)
        nothing = np.zeros(n, np.int64)
        self.ids, self.vocabulary = ids, vocabulary
        self.asked = (np.arange(n) >= n * WARM_UP) & (ids >= FIRST)
        self.weight = _once_a_run(ids)[self.asked]
        self.before = histories(ids, nothing)
        costs = bits(ids, self.before, vocabulary)
        self.flat, self.free = costs[0], self.best(costs)
        self.none = self.mean(self.free)

    def mean(self, cost: NDArray[np.float64]) -> float:
        return float(np.average(cost[self.asked], weights=self.weight)) if self.asked.any() else 0.0

    def best(self, costs: NDArray[np.float64]) -> NDArray[np.float64]:
        """Of histories of several lengths the one that costs least: long ones only confuse a mixed stream."""
        least: NDArray[np.float64] = costs[int(np.argmin([self.mean(cost) for cost in costs]))]
        return least

    def keyed(self, codes: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Bits of each event by the history of its key; and by the stream's history and the mere value of its key.

        An event without a key has no history: it costs what its type costs at large.
        """
        has = codes >= 0
        ids = self.ids[has]
        own = np.tile(self.flat, (len(self.before), 1))
        own[:, has] = bits(ids, histories(ids, codes[has]), self.vocabulary)
        stream = [context[has] for context in self.before]
        known = [_both(context, codes[has]) for context in stream]
        value = np.tile(self.free, (2 * len(stream), 1))
        value[:, has] = bits(ids, [stream[0], known[0], *stream[1:], *known[1:]], self.vocabulary)
        return self.best(own), self.best(value)


def _once_a_run(ids: NDArray[np.int64]) -> NDArray[np.float64]:
    """Weights by which a run of one type counts as one event: a burst of ten thousand lines is one thing to predict."""
    begins = np.append(True, ids[1:] != ids[:-1])[: len(ids)]
    run = np.cumsum(begins) - 1
    weights: NDArray[np.float64] = 1.0 / np.bincount(run)[run]
    return weights


def _both(context: NDArray[np.int64], codes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Two numbers as one; numpy wraps silently, which makes it a hash."""
    mixed: NDArray[np.int64] = context * np.int64(0x9E3779B97F4A7C1) + codes * np.int64(0x632BE59BD9B4E01)
    return mixed


def _judged(rule: KeyRule, keys: Sequence[bytes], stream: _Stream) -> Candidate | None:
    numbers: dict[bytes, int] = {}
    codes = np.array([numbers.setdefault(key, len(numbers)) if key else -1 for key in keys], np.int64)
    if len(numbers) < 2 or stream.asked.sum() < EVENTS_MIN:
        return None
    history, value = stream.keyed(codes)
    cheaper = stream.free if stream.none <= stream.mean(value) else value
    saved = (cheaper - history)[stream.asked]
    reached = np.cumsum(stream.weight)
    block = np.minimum((reached / reached[-1] * _BLOCKS).astype(np.int64), _BLOCKS - 1)
    heavy = np.maximum(np.bincount(block, stream.weight, _BLOCKS), 1e-9)
    blocks = np.bincount(block, stream.weight * saved, _BLOCKS) / heavy
    first, last = _spans(codes, len(numbers))
    middle = len(codes) // 2
    stays = _stays(first, last, len(codes))
    endless = stays or not (rule.regex or _passes(rule.field, numbers))
    return Candidate(
        KeyRule(rule.kind, rule.regex, rule.field, endless),
        next(iter(numbers)),
        float((codes >= 0).mean()),
        len(numbers),
        int(((first <= middle) & (last >= middle)).sum()),
        stream.mean(history),
        float(np.average(saved, weights=stream.weight)),
        float(blocks.std(ddof=1) / np.sqrt(len(blocks))),
    )


def _spans(codes: NDArray[np.int64], n: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """First and last line of each key."""
    lines = np.flatnonzero(codes >= 0)
    first, last = np.full(n, len(codes)), np.zeros(n, np.int64)
    np.minimum.at(first, codes[lines], lines)
    np.maximum.at(last, codes[lines], lines)
    return first, last


def _stays(first: NDArray[np.int64], last: NDArray[np.int64], lines: int) -> bool:
    """Whether most keys of the first third are still there in the last: sessions that do not end."""
    early, late = first < lines / 3, lines * 2 / 3
    if not early.any() or (last[early] > late).mean() < STAYING_SHARE:
        return False
    return bool((first > late).mean() <= NEW_SHARE)


def _passes(field: str | None, values: Iterable[bytes]) -> bool:
    """Whether a field names something that comes and goes (a request), not a place (host, program, pid, thread)."""
    found = [_PASSING_VALUE.search(value) is not None for value in values]
    return _PASSING_NAME.search(field or "") is not None or sum(found) > len(found) / 2


def _chosen(found: list[Candidate]) -> Discovery:
    none, *keys = found
    keys.sort(key=lambda c: (-c.score, c.name))
    good = [c for c in keys if c.beats_none]
    near = [c for c in good if c.score >= good[0].score * (1 - NEAR)]
    best = max(near, key=lambda c: len(c.name), default=none)
    said = [c._replace(reason=_reason(c, best, none)) for c in [none, *keys]]
    said.sort(key=lambda c: (c.rule != best.rule, -c.score))
    return Discovery(best.rule, tuple(said))


def _reason(c: Candidate, best: Candidate, none: Candidate) -> str:
    if c is best:
        return "no key is clearly better" if c is none else f"saves {c.gain:.2f} of {c.bits + c.gain:.2f} bits an event"
    if c is none:
        return f"{c.bits:.2f} bits an event by the history of the whole stream"
    if c.beats_none:
        return f"saves {c.gain:.2f} bits an event as well"
    if c.coverage < GAIN_MIN:
        return f"on {c.coverage:.1%} of lines only"
    if c.gain <= 0:
        return "its history says no more than the stream's, or than its value"
    return f"saves {c.gain:.2f} +- {c.error:.2f} bits an event only"
