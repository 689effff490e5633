"""Lines to message types: skeletons, slots, clusters, patterns; then the agent's own matcher must agree on every line."""

from __future__ import annotations

import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from foretail.errors import ConfigError
from foretail.patterns import Matcher
from foretail.schema import Format, KeyRule, Pattern, Patterns
from foretail_trainer.cluster import Clusters, cluster
from foretail_trainer.corpus import Batch
from foretail_trainer.masks import Masks
from foretail_trainer.skeletons import EXAMPLES_MAX, Key, Skeleton, Skeletons
from foretail_trainer.slots import Grouping, Template, neighbours
from foretail_trainer.templates import Drawn, draw

TYPES_MAX = 4_000
RARE = 3
"""A type with fewer training lines is rare: its arrival is a novelty."""
INHERIT = 0.9
_ROUNDS_MAX = 12
_SAYS_ERROR = re.compile(
    r"\b(?:error|fail(?:ed|ure|s)?|exception|fatal|critical|panic|severe|emergency|abort(?:ed|ing)?|corrupt(?:ed)?"
    r"|denied|refused|unreachable|segfault)\b",
    re.IGNORECASE,
)
Progress = Callable[[str, int], None]


@dataclass(frozen=True, slots=True)
class Mined:
    """The types of a log, and what a person should see of them. Examples are training text: for the trainer only.

    Attributes:
        patterns: by rank.
        examples: per type_id, up to EXAMPLES_MAX raw lines.
        clusters: of the templates; `cluster_of` gives the row of each type_id in it.
        near: pairs of type_ids whose templates differ in one word.
        singletons: type_ids with one line. errors: type_ids whose lines are error-level or say so.
        lines, dropped: training lines, and those beyond the limits on skeletons or types (type 0).
        notes: sentences for the person at the terminal.
    """

    patterns: tuple[Pattern, ...]
    examples: dict[str, tuple[bytes, ...]]
    clusters: Clusters
    cluster_of: dict[str, int]
    near: tuple[tuple[str, str], ...]
    singletons: tuple[str, ...]
    errors: tuple[str, ...]
    lines: int
    dropped: int
    notes: tuple[str, ...]


@dataclass(slots=True)
class _Type:
    """A type in the making: its key, skeletons, drawn pattern and place in the order of trial (higher first)."""

    template: Template
    members: list[Skeleton]
    drawn: Drawn
    order: float
    narrow: bool = False
    absorbed: list[Skeleton] = field(default_factory=list)
    moved: int = 0

    @classmethod
    def of(cls, template: Template, members: list[Skeleton]) -> _Type:
        """The type of these skeletons, tried after those with more literal letters."""
        drawn = draw(template, members)
        return cls(template, members, drawn, float(drawn.literals))

    @property
    def key(self) -> Key:
        """The key of its template."""
        return self.template.key

    @property
    def all(self) -> list[Skeleton]:
        """Skeletons of the key, and others whose messages its pattern also describes."""
        return self.members + self.absorbed

    @property
    def count(self) -> int:
        """Training lines."""
        return sum(member.count for member in self.all) + self.moved


def mine(
    source: Iterable[Batch] | Iterable[Sequence[bytes]],
    format: Format,  # noqa: A002 - the name every caller uses
    *,
    seed: int = 0,
    masks: Sequence[tuple[str, str]] = (),
    base: Patterns | None = None,
    types_max: int = TYPES_MAX,
    progress: Progress | None = None,
) -> Mined:
    """Mines the types of all lines of `source` (batches of lines; read once, kept only as skeletons).

    Every line matches, by foretail.patterns.Matcher, exactly the type it was mined into, or ConfigError. `masks` are
    custom ones (name, regex). `base`: an older bundle's patterns; a type takes over the type_id of the old type when
    it gets at least INHERIT of the lines the old one matches. `progress(stage, lines)` is called now and then.
    """
    skeletons = read_skeletons(source, format, Masks(masks), base, progress)
    if not skeletons.lines:
        raise ConfigError("The log has no lines; name a log with normal lines.")
    items, place = skeletons.folded()
    templates = Grouping(item.key for item in items).run()
    if progress:
        progress("templates", skeletons.lines)
    by_key = {item.key: item for item in items}
    template = {key: one.key for one in templates for key in one.members}
    notes: list[str] = []
    types = {one.key: _Type.of(one, [by_key[key] for key in one.members]) for one in templates}
    messages, homes, counts = skeletons.messages()
    settling = Settling(types, messages, counts, [template[items[place[home]].key] for home in homes])
    kept, lost = _capped(settling.run(), types_max, notes)
    clusters = cluster([one.key for one in kept], seed=seed)
    if progress:
        progress("clusters", skeletons.lines)
    return _mined(kept, clusters, skeletons, lost, base, notes)


def read_skeletons(
    source: Iterable[Batch] | Iterable[Sequence[bytes]],
    format: Format,  # noqa: A002
    masks: Masks,
    base: Patterns | None = None,
    progress: Progress | None = None,
) -> Skeletons:
    """Strips headers and counts skeletons, a batch at a time."""
    matcher = Matcher((), format, KeyRule())
    old = None
    if base is not None:
        before = Matcher(base.patterns, Format(), KeyRule())
        old = lambda message: int(before.match([message]).index[0])  # noqa: E731
    skeletons = Skeletons(masks, old)
    for batch in source:
        lines = batch.lines if isinstance(batch, Batch) else batch
        typed = matcher.match(lines)
        skeletons.add(typed.messages, lines, typed.errors.tolist())
        if progress:
            progress("lines", skeletons.lines)
    return skeletons


def _ordered(types: dict[Key, _Type]) -> list[_Type]:
    return sorted(types.values(), key=lambda one: (-one.order, one.drawn.captures, one.drawn.template, one.key))


def _patterns(types: Sequence[_Type]) -> list[Pattern]:
    return [
        Pattern(cluster=0, number=rank, type_id="", template=one.drawn.template, regex=one.drawn.regex, rank=rank)
        for rank, one in enumerate(types)
    ]


class Settling:
    """Makes the agent's matcher give every message the type it was mined into.

    A message that an earlier pattern takes moves its type before that one; if each would take messages of the other,
    both are narrowed to the bytes seen; if that does not part them, the messages belong to the type that takes them.
    """

    def __init__(
        self, types: dict[Key, _Type], messages: Sequence[bytes], counts: Sequence[int], homes: list[Key]
    ) -> None:
        self.types = types
        self.homes = homes
        self._messages = messages
        self._counts = counts
        self._tried: set[tuple[Key, Key]] = set()

    def run(self) -> list[_Type]:
        """The types in order of trial; ConfigError if a type's own pattern misses a line or no order is found."""
        for _ in range(_ROUNDS_MAX):
            order = _ordered(self.types)
            index = Matcher(_patterns(order), Format(), KeyRule()).match(self._messages).index.tolist()
            taken: defaultdict[tuple[Key, Key], list[int]] = defaultdict(list)
            for place, (want, got) in enumerate(zip(self.homes, index, strict=True)):
                if got < 0:
                    raise ConfigError(
                        f"The pattern of {self.types[want].drawn.template!r} misses one of its own lines."
                    )
                if order[got].key != want:
                    taken[want, order[got].key].append(place)
            if not taken:
                return order
            for (want, got), places in sorted(taken.items()):
                if want in self.types and got in self.types:
                    self._part(want, got, places)
        raise ConfigError(
            "Some messages fit several types and no order of trial parts them; edit them with --types FILE."
        )

    def _part(self, want: Key, got: Key, places: list[int]) -> None:
        """One step against `got` taking messages of `want`."""
        mine_, other = self.types[want], self.types[got]
        whole = len(places) == self.homes.count(want)
        if mine_.drawn.regex == other.drawn.regex:
            self._move(want, got, places, whole=whole)
        elif (want, got) not in self._tried and (got, want) not in self._tried:
            self._tried.add((want, got))
            mine_.order = max(mine_.order, other.order + 1e-3)
        elif not (mine_.narrow and other.narrow):
            for one in (mine_, other):
                one.narrow = True
                one.drawn = draw(one.template, one.members, narrow=True)
        else:
            self._move(want, got, places, whole=whole)

    def _move(self, want: Key, got: Key, places: list[int], *, whole: bool) -> None:
        """These messages of `want` are `got`'s; a type left without messages is gone."""
        target = self.types[got]
        if whole:
            target.absorbed += self.types.pop(want).all
        else:
            lines = sum(self._counts[place] for place in places)
            self.types[want].moved -= lines
            target.moved += lines
        for place in places:
            self.homes[place] = got


def _capped(order: list[_Type], types_max: int, notes: list[str]) -> tuple[list[_Type], int]:
    """The types with the most lines, in order of trial, and the lines of those that fell."""
    if len(order) <= types_max:
        return order, 0
    by_count = sorted(order, key=lambda one: (-one.count, one.drawn.template))
    fallen = by_count[types_max:]
    lines = sum(one.count for one in fallen)
    notes.append(
        f"{len(order)} types exceed the limit of {types_max}: {len(fallen)} types with at most {fallen[0].count} lines"
        f" each ({lines} lines in all, such as {fallen[0].drawn.template!r}) are left as type 0;"
        " raise the limit or add masks with --types FILE."
    )
    dropped = {id(one) for one in fallen}
    return [one for one in order if id(one) not in dropped], lines


def _mined(
    types: Sequence[_Type],
    clusters: Clusters,
    skeletons: Skeletons,
    lost: int,
    base: Patterns | None,
    notes: list[str],
) -> Mined:
    ids = _type_ids(types, base)
    numbers = _numbers(types, clusters)
    patterns, examples, errors = [], {}, []
    for rank, one in enumerate(types):
        error_lines = sum(member.errors for member in one.all)
        error = 2 * error_lines > one.count or bool(_SAYS_ERROR.search(one.drawn.template))
        patterns.append(
            Pattern(
                cluster=numbers[rank][0],
                number=numbers[rank][1],
                type_id=ids[rank],
                template=one.drawn.template,
                regex=one.drawn.regex,
                rank=rank,
                support=one.count,
                rare=one.count < RARE,
                error=error,
            )
        )
        examples[ids[rank]] = tuple(e for member in one.all for e in member.examples)[:EXAMPLES_MAX]
        if error:
            errors.append(ids[rank])
    number = {one.key: rank for rank, one in enumerate(types)}
    near = [(ids[number[a]], ids[number[b]]) for a, b in neighbours(number)]
    if skeletons.dropped:
        notes.append(f"{skeletons.dropped} lines beyond the limit on distinct messages are left as type 0; add masks.")
    return Mined(
        patterns=tuple(patterns),
        examples=examples,
        clusters=clusters,
        cluster_of=dict(zip(ids, range(len(ids)), strict=True)),
        near=tuple(near),
        singletons=tuple(p.type_id for p in patterns if p.support == 1),
        errors=tuple(errors),
        lines=skeletons.lines,
        dropped=skeletons.dropped + lost,
        notes=tuple(notes),
    )


def _numbers(types: Sequence[_Type], clusters: Clusters) -> list[tuple[int, int]]:
    """Display numbers: clusters from 1 by lines, patterns in a cluster from 1 by lines."""
    weight: Counter[int] = Counter()
    for one, label in zip(types, clusters.labels.tolist(), strict=True):
        weight[label] += one.count
    name = {label: i + 1 for i, (label, _) in enumerate(sorted(weight.items(), key=lambda item: (-item[1], item[0])))}
    order = sorted(range(len(types)), key=lambda rank: (-types[rank].count, rank))
    used: Counter[int] = Counter()
    numbers = [(0, 0)] * len(types)
    for rank in order:
        label = name[int(clusters.labels[rank])]
        used[label] += 1
        numbers[rank] = (label, used[label])
    return numbers


def _type_ids(types: Sequence[_Type], base: Patterns | None) -> list[str]:
    """Ids inherited from `base` where an old type's lines map to one new type, else a hash of the template."""
    ids: dict[int, str] = {}
    if base is not None:
        ids = _inherited(types, base)
    taken = set(ids.values())
    out = []
    for rank, one in enumerate(types):
        type_id = ids.get(rank, "")
        text = one.drawn.template
        while not type_id or (type_id in taken and rank not in ids):
            type_id = hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:16]
            text += "\0" + one.drawn.regex
        taken.add(type_id)
        out.append(type_id)
    return out


def _inherited(types: Sequence[_Type], base: Patterns) -> dict[int, str]:
    flow: defaultdict[int, Counter[int]] = defaultdict(Counter)
    for rank, one in enumerate(types):
        for member in one.all:
            for old, count in member.old.items():
                if old >= 0:
                    flow[old][rank] += count
    old_ids = [pattern.type_id for pattern in sorted(base.patterns, key=lambda pattern: pattern.rank)]
    claims: dict[int, tuple[int, int]] = {}
    for old, ranks in sorted(flow.items()):
        rank, count = max(ranks.items(), key=lambda item: (item[1], -item[0]))
        if count >= INHERIT * ranks.total():
            claims[rank] = max(claims.get(rank, (0, 0)), (count, -old))
    return {rank: old_ids[-old] for rank, (_, old) in claims.items()}
