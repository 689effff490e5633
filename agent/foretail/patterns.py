"""Lines to message types, session keys and times, a batch at a time (DESIGN §3).

The skeleton of a line (digits as 0) decides its type and the place of its captures wherever no pattern looks at a
digit; so skeletons are memoised, and only new ones meet the patterns.
"""

from __future__ import annotations

from itertools import compress
from typing import TYPE_CHECKING, cast

import numpy as np

from foretail.errors import ConfigError
from foretail.memo import Memo
from foretail.records import Record, decoder, is_error
from foretail.stamps import Clock
from foretail.trial import SKELETON, Budget, Rule, Spans, Trial, header
from foretail.typed import ERROR, INDEX, KEY, LATER, TIME, Entry, MatchLimits, MatchStats, Typed

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from foretail.schema import Format, KeyRule, Pattern
    from foretail.trial import Match

__all__ = ["MatchLimits", "MatchStats", "Matcher", "Typed"]

_part: Callable[[bytes, slice], bytes] = bytes.__getitem__
_ABSENT = slice(0, 0)
_COST, _COST_CAPTURE = 260, 100
"""Bytes of a memo entry beside its skeleton, and of each capture in it (measured by tests/bench/bench_match.py)."""


_LONG_MEAN = 2048
"""Mean bytes of a line from which a batch is looked through for huge ones."""


class Matcher:
    """Typed lines by the patterns of a bundle; the trainer uses the same.

    ConfigError names a pattern, header or key rule that is not safe (lint). Not thread-safe; one per stream.
    """

    def __init__(
        self,
        patterns: Sequence[Pattern],
        format: Format,  # noqa: A002 - the domain's word
        key: KeyRule,
        limits: MatchLimits | None = None,
    ) -> None:
        self.limits = limits or MatchLimits()
        self.patterns = tuple(sorted(patterns, key=lambda pattern: pattern.rank))
        self.format = format
        self.stats = MatchStats()
        self.clock = Clock(zone=format.zone)
        self._trial = Trial([p.regex for p in self.patterns], [f"{p.type} ({p.template})" for p in self.patterns])
        self._budget = Budget(self.limits.timeout_s)
        self._memo: Memo[Entry] = Memo(self.limits.entries, self.limits.bytes, _cost)
        self._header = Rule(format.header, "header") if format.kind == "text" and format.header else None
        raw = format.kind == "text" and (self._header is None or self._header.blind)
        self._decode = None if raw else decoder(format, lambda text: header(text, self.limits.timeout_s))
        self._varies = False
        self._levels: dict[bytes, tuple[bool, bool]] = {}
        self._content = self._header.groups.get("content", -1) if self._header else -1
        if self._header is not None and self._content < 0:
            raise ConfigError("the header has no group 'content'; name the message part (?P<content>...)")
        groups = self._header.groups if self._header else {}
        self._time = groups.get("time", 0)
        self._level = groups.get(format.level or "", 0)
        self._field = groups.get(key.field or "", 0) if key.kind == "field" else 0
        self._key = key
        self._key_rule = Rule(key.regex or "", "of the session key") if key.kind == "search" else None
        if key.kind == "field" and key.field not in format.fields:
            raise ConfigError(
                f"the key field {key.field!r} is none of the fields of format {format.name!r}"
                f" ({', '.join(format.fields) or 'it has none'})"
            )

    def match(self, lines: Sequence[bytes], now: float | None = None) -> Typed:
        """Types, keys and times of `lines` (without line ends); `now`: reference for year-less stamps, epoch s."""
        if now is not None:
            self.clock.reference = now
        records = None if self._decode is None else list(map(self._decode, lines))
        texts = lines if records is None else [record.message for record in records]
        joined = b"\n".join(texts)
        if len(joined) > _LONG_MEAN * (len(texts) + 16):  # a huge line is cut before its skeleton is made
            self.stats.cut += sum(len(text) > self.limits.line_bytes_max for text in texts)
            texts = [text[: self.limits.line_bytes_max] for text in texts]
            joined = b"\n".join(texts)
        entries = self._entries(texts, joined)
        index = np.fromiter(map(INDEX, entries), np.int32, len(entries))
        self.stats.untyped += int(np.count_nonzero(index < 0))
        if records is None:
            stamps = list(map(_part, texts, map(TIME, entries)))
            errors = np.fromiter(map(ERROR, entries), np.bool_, len(entries))
        else:
            stamps = [record.time for record in records]
            errors = np.fromiter([is_error(record.level) for record in records], np.bool_, len(entries))
        return Typed(index, self._keys(texts, entries, records), self.clock.times(stamps), errors, texts, entries)

    def message(self, line: bytes) -> bytes:
        """What the patterns see of `line`: header stripped or record decoded, cut, no trailing white space."""
        text = (line if self._decode is None else self._decode(line).message)[: self.limits.line_bytes_max]
        try:
            return self._open(text, self._budget.restart())[2]
        except TimeoutError:
            return text

    def known(self, most: int) -> list[bytes]:
        """Skeletons of late, at most so many; another thread may ask."""
        return self._memo.keys(most)

    def warm(self, skeletons: Sequence[bytes]) -> None:
        """Settle skeletons before lines with them come; counts nothing."""
        for skeleton in skeletons:
            self._new(skeleton, skeleton)
        self.stats = MatchStats()

    def _entries(self, texts: Sequence[bytes], joined: bytes) -> list[Entry]:
        skeletons = _skeletons(texts, joined)
        known = list(map(self._memo.get, skeletons))
        missed = 0
        place = -1
        for _ in range(known.count(None)):
            place = known.index(None, place + 1)
            known[place], hit = self._new(texts[place], skeletons[place])
            missed += not hit
        found = cast("list[Entry]", known)
        if self._varies:
            for place in compress(range(len(found)), map(LATER, found)):
                found[place] = self._settle(found[place], texts[place], skeletons[place])
        self._memo.count(len(texts), len(texts) - missed)
        stats = self.stats
        stats.lines += len(texts)
        stats.hits += len(texts) - missed
        stats.misses += missed
        stats.memo_entries, stats.memo_size = self._memo.entries, self._memo.size
        return found

    def _new(self, text: bytes, skeleton: bytes) -> tuple[Entry, bool]:
        """The entry of a skeleton the young memo does not hold, and whether a memo held it after all."""
        entry = self._memo.get(skeleton)
        if entry is not None:  # an earlier line of this batch
            return entry, True
        entry = self._memo.recall(skeleton)
        if entry is not None:
            return entry, True
        if len(text) > self.limits.line_bytes_max:
            self.stats.cut += 1
            text = text[: self.limits.line_bytes_max]
        try:
            entry, common = self._look(text, self._budget.restart())
        except TimeoutError:
            self.stats.timeouts += 1
            return _lost(len(text)), False
        if common is not None and len(text) == len(skeleton):
            self._memo.put(skeleton, common, _cost(skeleton, common))
        return entry, False

    def _look(self, text: bytes, budget: Budget) -> tuple[Entry, Entry | None]:
        """The entry of a text nobody has seen, and that of its skeleton unless the memo pauses.

        Header, patterns, key; TimeoutError when `budget` is spent.
        """
        match, start, message = self._open(text, budget)
        key = time = level = _ABSENT
        error = number = False
        if match is not None:  # a group that took no part is at (-1, -1), an empty slice
            time = _place(*match.span(self._time)) if self._time else _ABSENT
            if self._level:
                level = _place(*match.span(self._level))
                error, number = self._severity(text[level])
            if self._field:
                key = _place(*match.span(self._field))
        if self._key_rule is not None and self._key_rule.blind:
            key = _key_place(self._key_rule.search(message, budget), start)
        place = _place(start, start + len(message))
        if self._memo.paused:
            found = self._trial.first(message, budget)
            return (found[0], key, time, error, _shift(found[1], start), None, place, level), None
        found, common = self._trial.survey(message, budget)
        entry = (found[0], key, time, error, _shift(found[1], start), None, place, level)
        if not common[2] and not number:
            return entry, entry
        self._varies = True
        later = (common if common[2] else None, number)
        spans = entry[4] if later[0] is None else _shift(common[1], start)
        return entry, (common[0], key, time, error, spans, later, place, level)

    def _severity(self, text: bytes) -> tuple[bool, bool]:
        """Whether a level is error or worse, and whether its digits say so (then each line is asked)."""
        known = self._levels.get(text)
        if known is None:
            known = is_error(text), text.translate(None, b"0123456789") != text
            if len(self._levels) < 1000:
                self._levels[text] = known
        return known

    def _open(self, text: bytes, budget: Budget) -> tuple[Match | None, int, bytes]:
        """The header's match, start of the message, and the message."""
        header = self._header
        if header is None or self._decode is not None:
            return None, 0, text.rstrip()
        quick = len(text) <= header.quick_bytes
        match = header.full(text) if quick else header.full(text, timeout=budget.left())
        if match is None:
            return None, 0, text.rstrip()
        start, end = match.span(self._content)
        return match, max(start, 0), text[max(start, 0) : max(end, 0)].rstrip()

    def _keys(
        self, texts: Sequence[bytes], entries: Sequence[Entry], records: list[Record] | None
    ) -> list[bytes] | None:
        if self._key.kind == "none":
            return None
        if records is not None and self._key.kind == "field":
            return [record.fields.get(self._key.field or "", b"") for record in records]
        rule = self._key_rule
        if rule is None or rule.blind:
            return list(map(_part, texts, map(KEY, entries)))
        return [self._search_key(rule, text[entry[6]]) for text, entry in zip(texts, entries, strict=True)]

    def _search_key(self, rule: Rule, message: bytes) -> bytes:
        """A key whose rule looks at digits is searched in every line."""
        try:
            return message[_key_place(rule.search(message, self._budget.restart()), 0)]
        except TimeoutError:
            self.stats.timeouts += 1
            return b""

    def _settle(self, entry: Entry, text: bytes, skeleton: bytes) -> Entry:
        """What only the digits of this line decide: patterns that look at them, numeric levels."""
        index, key, time, error, spans, later, place, level = entry
        if later is None:
            return entry
        again, number = later
        if number:
            error = is_error(text[level])
        if again is not None:
            try:
                found = self._trial.settle(again, text[place], self._budget.restart())
                if found is None:  # this line is the first that gets past the patterns tried so far
                    resolved, common = self._look(text, self._budget)
                    if common is not None:
                        self._memo.put(skeleton, common, _cost(skeleton, common))
                    return resolved
                if found is not again:
                    index, spans = found[0], _shift(found[1], place.start)
            except TimeoutError:
                self.stats.timeouts += 1
                index, spans = -1, ()
        return (index, key, time, error, spans, None, place, level)


def _skeletons(texts: Sequence[bytes], joined: bytes) -> list[bytes]:
    """Each text with its digits as 0; arithmetic on all bytes at once beats bytes.translate by a third (measured)."""
    table = np.frombuffer(joined, np.uint8)
    above = table - np.uint8(0x30)
    above *= above < np.uint8(10)
    skeletons = (table - above).tobytes().split(b"\n")
    if len(skeletons) != len(texts):  # a message of several lines, or no text at all
        return [text.translate(SKELETON) for text in texts]
    return skeletons


_PLACES: dict[tuple[int, int], slice] = {}


def _place(start: int, end: int) -> slice:
    """A slice, shared: entries of the memo hold four each, and the garbage collector walks through all it can."""
    place = _PLACES.get((start, end))
    if place is None:
        if len(_PLACES) >= 20_000:
            _PLACES.clear()
        place = _PLACES[start, end] = slice(start, end)
    return place


def _shift(spans: Spans, start: int) -> Spans:
    return spans if start == 0 else tuple([(a + start, b + start) if a >= 0 else (a, b) for a, b in spans])


def _cost(skeleton: bytes, entry: Entry) -> int:
    return _COST + len(skeleton) + _COST_CAPTURE * len(entry[4])


def _lost(length: int) -> Entry:
    return (-1, _ABSENT, _ABSENT, False, (), None, slice(0, length), _ABSENT)


def _key_place(spans: Spans | None, start: int) -> slice:
    """The first group if it took part, else the whole match."""
    if spans is None:
        return _ABSENT
    first, last = next((span for span in spans[1:2] if span[0] >= 0), spans[0])
    return _place(first + start, last + start)
