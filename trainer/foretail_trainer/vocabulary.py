"""The types of a refit: those of the base stand as they are, and what they do not match is mined and added.

A type whose made-up messages all match a new, wider one gives way to it; the id lives on in the wider type (DESIGN §3).
So old sessions keep their meaning without a line of the old log.
"""

from __future__ import annotations

import random
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from foretail.patterns import Matcher
from foretail.schema import FIRST, UNKNOWN, Format, KeyRule
from foretail.syntax import parse
from foretail_trainer import identity, mine
from foretail_trainer.golden import sample

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    from foretail.bundle import Bundle
    from foretail.schema import Pattern
    from foretail_trainer.mine import Mined

SAMPLES = 8
"""Messages made up of a type, to see whether a new one takes all of them."""


class Vocabulary(NamedTuple):
    """The types of a refit beside those of its base.

    Attributes:
        patterns: by rank; support and rarity still those of the base, or of the lines that were mined.
        moved: int32 `[V_base]`: the model id now of each model id then.
        added: type_ids that are new.
        retired: type_id of the base to the wider type's that took its place.
        renamed: type_id to its template before.
        mined: what was found in the lines that the base did not match; None = it matched all.
    """

    patterns: tuple[Pattern, ...]
    moved: NDArray[np.int32]
    added: tuple[str, ...]
    retired: dict[str, str]
    renamed: dict[str, str]
    mined: Mined | None

    def model_ids(self) -> dict[str, int]:
        """The model id of each type_id, also of those that gave way."""
        known = {pattern.type_id: number for number, pattern in enumerate(self.patterns, FIRST)}
        return known | {old: known[new] for old, new in self.retired.items()}

    def matcher(self) -> Matcher:
        """Types messages without a header."""
        return Matcher(self.patterns, Format(), KeyRule())


def extended(base: Bundle, lines: Iterable[Sequence[bytes]], messages: Sequence[bytes], *, seed: int) -> Vocabulary:
    """The vocabulary of a refit.

    Args:
        base: the bundle that is refitted.
        lines: batches of the new logs; read once.
        messages: of labels: lines that no pattern matched, without header, digits as 0.
        seed: of the clustering, and of made-up messages.
    """
    unmatched = _unmatched(base, lines, messages)
    first = next(unmatched, None)
    same = np.arange(FIRST + len(base.patterns), dtype=np.int32)
    if first is None:
        return Vocabulary(base.patterns, same, (), {}, {}, None)
    mined = mine.mine(chain([first], unmatched), base.manifest.format, seed=seed)
    taken = _taken(base.patterns, mined.patterns, seed)
    return _joined(base, mined, taken)


def _unmatched(base: Bundle, lines: Iterable[Sequence[bytes]], messages: Sequence[bytes]) -> Iterator[list[bytes]]:
    """Batches of what no pattern of the base matches."""
    plain = Matcher(base.patterns, Format(), KeyRule())
    rest = [message for message in messages if plain.match([message]).index[0] < 0]
    if rest:
        yield rest
    matcher = Matcher(base.patterns, base.manifest.format, KeyRule())
    for batch in lines:
        index = matcher.match(batch).index
        if part := [batch[row] for row in np.flatnonzero(index < 0).tolist()]:
            yield part


def _taken(old: Sequence[Pattern], new: Sequence[Pattern], seed: int) -> dict[int, int]:
    """Places of old types to places of the new ones that take all their messages in."""
    rng = random.Random(seed)  # noqa: S311 - made-up values, no secret
    found: dict[int, int] = {}
    wide = Matcher(new, Format(), KeyRule())
    for place, pattern in enumerate(old):
        node = parse(pattern.regex)
        messages = [sample(node, rng) for _ in range(SAMPLES)]
        index = set(wide.match(messages).index.tolist())
        heir = index.pop()
        if index or heir < 0 or not (pattern.rare or new[heir].support > pattern.support):
            continue
        others = [one for number, one in enumerate(old) if number != place]
        if (Matcher(others, Format(), KeyRule()).match(messages).index < 0).all():
            found[place] = heir
    return found


def _joined(base: Bundle, mined: Mined, taken: dict[int, int]) -> Vocabulary:
    old, new = base.patterns, mined.patterns
    heirs: dict[int, int] = {}  # place of a new type to that of the old one whose id it takes
    for place, heir in sorted(taken.items(), key=lambda item: -old[item[0]].support):
        heirs.setdefault(heir, place)
    stay = [place for place in range(len(old)) if place not in taken]
    ids = {number: old[place].type_id for number, place in enumerate(stay)}
    ids |= {len(stay) + heir: old[place].type_id for heir, place in heirs.items()}
    shift = max((pattern.cluster for pattern in old), default=0)
    drafts = [old[place] for place in stay]
    drafts += [identity.changed(one, cluster=one.cluster + shift) for one in new]
    names = identity.hashed(drafts, ids)
    patterns = tuple(
        identity.changed(one, type_id=name, rank=rank)
        for rank, (one, name) in enumerate(zip(drafts, names, strict=True))
    )
    known = {pattern.type_id: number for number, pattern in enumerate(patterns, FIRST)}
    retired = {old[place].type_id: old[heirs[heir]].type_id for place, heir in taken.items() if heirs[heir] != place}
    moved = [*range(FIRST), *(known.get(retired.get(one.type_id, one.type_id), UNKNOWN) for one in old)]
    before = {one.type_id for one in old}
    return Vocabulary(
        patterns,
        np.array(moved, np.int32),
        tuple(one.type_id for one in patterns if one.type_id not in before),
        retired,
        {old[place].type_id: old[place].template for place in heirs.values()},
        mined,
    )
