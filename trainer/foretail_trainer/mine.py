"""Lines to message types: skeletons, slots, clusters, patterns; and the agent's own matcher agrees on every line."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from foretail.errors import ConfigError
from foretail.lint import digit_blind
from foretail.patterns import Matcher
from foretail.schema import Format, KeyRule, Pattern, Patterns
from foretail_trainer import identity, types
from foretail_trainer.align import aligned
from foretail_trainer.cluster import Clusters, cluster
from foretail_trainer.grouping import Grouping, Template, neighbours
from foretail_trainer.masks import Masks
from foretail_trainer.parts import ANY
from foretail_trainer.places import EXAMPLES_MAX, Key, Skeleton
from foretail_trainer.settle import PATIENT, Settling, Type, trial
from foretail_trainer.skeletons import Skeletons
from foretail_trainer.tokens import EMPTY, VALUE

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

TYPES_MAX = 4_000
RARE = 3
"""A type with fewer training lines is rare: its arrival is a novelty."""
Progress = Callable[[str, int], None]
Source = Iterable[Sequence[bytes]]


@dataclass(frozen=True, slots=True)
class Mined:
    """The types of a log, and what a person should see of them. Examples are training text: for the trainer only.

    Attributes:
        patterns: by rank.
        examples: per type_id, up to EXAMPLES_MAX raw lines.
        clusters: of the first templates. cluster_of: row of each type_id in `clusters` (edits have none).
        near: pairs of type_ids whose templates differ in one word.
        singletons: type_ids with one line. errors: type_ids whose lines are error-level or say so.
        lines, dropped: training lines, and those of them left as type 0 by the limits on messages and types.
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


def mine(
    source: Source,
    format: Format,  # noqa: A002 - the name every caller uses
    *,
    seed: int = 0,
    edits: types.Edits | None = None,
    base: Patterns | None = None,
    types_max: int = TYPES_MAX,
    progress: Progress | None = None,
) -> Mined:
    """Mines the types of all lines of `source`: batches of lines, read once and kept as skeletons only.

    Every line matches, by foretail.patterns.Matcher, exactly the type it was mined into, or ConfigError. `edits` come
    from a types file. `base`: an older bundle's patterns, whose type_ids live on (foretail_trainer.identity). `source`
    is read a second time if it can be and an edit looks at digits. `progress(stage, lines)` is called now and then.
    """
    edits = edits or types.Edits()
    skeletons = read_skeletons(source, format, Masks(edits.masks), base, progress)
    if not skeletons.lines:
        raise ConfigError("The log has no lines; name a log with normal lines.")
    notes: list[str] = []
    items, place = skeletons.folded()
    templates = Grouping(item.key for item in items).run()
    if progress:
        progress("templates", skeletons.lines)
    clusters = cluster([one.key for one in templates], seed=seed)
    row = {one.key: number for number, one in enumerate(templates)}
    if progress:
        progress("clusters", skeletons.lines)
    templates = aligned(templates, clusters.labels.tolist())
    templates = _capped(templates, {item.key: item.count for item in items}, types_max, notes)
    kept, homes, matcher = _settled(skeletons, items, place, templates)
    patterns = _numbered(kept, [int(clusters.labels[row[one.key]]) for one in kept])
    edited = types.applied(patterns, edits, notes)
    if [one.regex for one in edited] != [one.regex for one in matcher.patterns]:
        matcher = Matcher(edited, Format(), KeyRule(), PATIENT)
    index = matcher.match(skeletons.messages()).index
    _check(edited, patterns, index, [one.key for one in kept], homes)
    counted = _counted(edited, index, skeletons, base)
    mined = {one.regex for one in patterns}
    if not all(one.regex in mined or digit_blind(one.regex) for one in edited):
        counted = _recounted(counted, source, format, notes)
    return _mined(counted, index, skeletons, kept, clusters, row, matcher, notes)


def read_skeletons(
    source: Source,
    format: Format,  # noqa: A002
    masks: Masks,
    base: Patterns | None = None,
    progress: Progress | None = None,
) -> Skeletons:
    """Strips headers and counts skeletons, a batch at a time."""
    matcher = Matcher((), format, KeyRule(), PATIENT)
    old = None
    if base is not None:
        before = Matcher(base.patterns, Format(), KeyRule(), PATIENT)
        old = lambda message: int(before.match([message]).index[0])  # noqa: E731
    skeletons = Skeletons(masks, old)
    for batch in source:
        typed = matcher.match(batch)
        skeletons.add(typed.messages, batch, typed.errors.tolist())
        if progress:
            progress("lines", skeletons.lines)
    return skeletons


def _settled(
    skeletons: Skeletons, items: Sequence[Skeleton], place: Sequence[int], templates: Sequence[Template]
) -> tuple[list[Type], list[Key | None], Matcher]:
    """The types in order of trial, the key of each message's type (None: over the cap), the matcher that agrees."""
    by_key = {item.key: item for item in items}
    template = {key: one.key for one in templates for key in one.members}
    homes = [template.get(items[place[known.item]].key) for known in skeletons.known()]
    made = {one.key: Type.of(one, [by_key[key] for key in one.members]) for one in templates}
    settling = Settling(made, skeletons.messages(), homes)
    order, matcher = settling.run()
    return order, settling.homes, matcher


def _capped(templates: list[Template], counts: dict[Key, int], types_max: int, notes: list[str]) -> list[Template]:
    """The templates with the most lines."""
    if len(templates) <= types_max:
        return templates
    lines = {one.key: sum(counts[key] for key in one.members) for one in templates}
    order = sorted(templates, key=lambda one: (-lines[one.key], one.key))
    fallen = order[types_max:]
    shown = "".join(fallen[0].key).replace(VALUE, ANY).replace(EMPTY, "")
    notes.append(
        f"{len(templates)} types exceed the limit of {types_max}: {len(fallen)} types with at most"
        f" {lines[fallen[0].key]} lines each ({sum(lines[one.key] for one in fallen)} lines in all, such as"
        f" {shown[:100]!r}) are left as type 0; raise the limit or add masks with --types FILE."
    )
    return order[:types_max]


def _numbered(kept: Sequence[Type], labels: Sequence[int]) -> list[Pattern]:
    """Patterns with display numbers: clusters from 1 by lines, types in a cluster from 1 by lines; ids by template."""
    weight: Counter[int] = Counter()
    for one, label in zip(kept, labels, strict=True):
        weight[label] += one.count
    name = {label: i + 1 for i, (label, _) in enumerate(sorted(weight.items(), key=lambda item: (-item[1], item[0])))}
    used: Counter[int] = Counter()
    numbers = {}
    for rank in sorted(range(len(kept)), key=lambda rank: (-kept[rank].count, rank)):
        used[labels[rank]] += 1
        numbers[rank] = (name[labels[rank]], used[labels[rank]])
    patterns = trial(kept)
    ids = identity.hashed(patterns)
    return [
        identity.changed(one, cluster=numbers[rank][0], number=numbers[rank][1], type_id=ids[rank])
        for rank, one in enumerate(patterns)
    ]


def _check(
    edited: Sequence[Pattern],
    patterns: Sequence[Pattern],
    index: NDArray[np.int32],
    keys: list[Key],
    homes: list[Key | None],
) -> None:
    """ConfigError if a message of a type that was not edited gets another one than it was mined into."""
    edited_ids = {pattern.type_id: place for place, pattern in enumerate(edited)}
    same = {
        key: edited_ids[pattern.type_id]
        for key, pattern in zip(keys, patterns, strict=True)
        if pattern.type_id in edited_ids and edited[edited_ids[pattern.type_id]].regex == pattern.regex
    }
    own = {place for place, pattern in enumerate(edited) if pattern.regex not in {one.regex for one in patterns}}
    for key, got in zip(homes, index.tolist(), strict=True):
        want = None if key is None else same.get(key)
        if want is not None and got != want and got not in own:
            raise ConfigError(
                f"After the edits of the types file, lines of {edited[want].template[:200]!r} match another type;"
                " edit that type as well or make the edit narrower."
            )


def _counted(
    edited: Sequence[Pattern], index: NDArray[np.int32], skeletons: Skeletons, base: Patterns | None
) -> list[Pattern]:
    """The patterns with support, rarity, error mark and inherited ids, from what is known of each message."""
    support: Counter[int] = Counter()
    errors: Counter[int] = Counter()
    flow: defaultdict[int, Counter[int]] = defaultdict(Counter)
    for got, known in zip(index.tolist(), skeletons.known(), strict=True):
        support[got] += known.count
        errors[got] += known.errors
        flow[known.old][got] += known.count
    if skeletons.forgotten:
        rests = skeletons.forgotten_counts()
        for item, got in _typical(index, skeletons).items():
            rest = rests[item]
            support[got] += rest.count
            errors[got] += rest.errors
            for old, count in rest.old.items():
                flow[old][got] += count
    ids = identity.inherited(edited, base, flow)
    return [
        identity.changed(
            pattern,
            rank=rank,
            type_id=ids[rank],
            support=support[rank],
            rare=support[rank] < RARE,
            error=2 * errors[rank] > support[rank] or identity.says_error(pattern.template),
        )
        for rank, pattern in enumerate(edited)
    ]


def _typical(index: NDArray[np.int32], skeletons: Skeletons) -> dict[int, int]:
    """For each skeleton, the type of its messages still known."""
    seen: dict[int, int] = {}
    for known, got in zip(skeletons.known(), index.tolist(), strict=True):
        seen.setdefault(known.item, got)
    return seen


def _recounted(patterns: list[Pattern], source: Source, format: Format, notes: list[str]) -> list[Pattern]:  # noqa: A002
    """Supports from a second reading: patterns that look at digits cannot be counted on messages without them."""
    if iter(source) is source:
        notes.append("Counts of types whose patterns look at digits are estimates: the log can be read only once.")
        return patterns
    matcher = Matcher(patterns, format, KeyRule())
    support: Counter[int] = Counter()
    for batch in source:
        support.update(matcher.match(batch).index.tolist())
    return [
        identity.changed(pattern, support=support[rank], rare=support[rank] < RARE)
        for rank, pattern in enumerate(patterns)
    ]


def _mined(
    patterns: Sequence[Pattern],
    index: NDArray[np.int32],
    skeletons: Skeletons,
    kept: Sequence[Type],
    clusters: Clusters,
    row: dict[Key, int],
    matcher: Matcher,
    notes: list[str],
) -> Mined:
    shown = [pair for item in skeletons.items for pair in item.examples]
    examples: defaultdict[str, list[bytes]] = defaultdict(list)
    for (_, line), got in zip(shown, matcher.match([message for message, _ in shown]).index.tolist(), strict=True):
        if got >= 0 and len(examples[patterns[got].type_id]) < EXAMPLES_MAX:
            examples[patterns[got].type_id].append(line)
    by_regex = {pattern.regex: pattern.type_id for pattern in patterns}
    ids = [by_regex.get(one.drawn.regex) for one in kept]
    place = {one.key: rank for rank, one in enumerate(kept)}
    near = [(ids[place[a]], ids[place[b]]) for a, b in neighbours(place)]
    untyped = sum(known.count for got, known in zip(index.tolist(), skeletons.known(), strict=True) if got < 0)
    if skeletons.dropped:
        notes.append(f"{skeletons.dropped} lines beyond the limit on distinct messages are left as type 0; add masks.")
    return Mined(
        patterns=tuple(patterns),
        examples={type_id: tuple(lines) for type_id, lines in examples.items()},
        clusters=clusters,
        cluster_of={type_id: row[one.key] for one, type_id in zip(kept, ids, strict=True) if type_id is not None},
        near=tuple((a, b) for a, b in near if a is not None and b is not None and a != b),
        singletons=tuple(pattern.type_id for pattern in patterns if pattern.support == 1),
        errors=tuple(pattern.type_id for pattern in patterns if pattern.error),
        lines=skeletons.lines,
        dropped=skeletons.dropped + untyped,
        notes=tuple(notes),
    )
