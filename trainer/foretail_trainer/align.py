"""In each cluster, templates are aligned: a value of several words belongs to the place where others have one.

`Google Chrome window 3 moved` is aligned with `<*> window <*> moved` when single names were found to vary there.
Only templates of one cluster are compared, so the cost stays that of clusters, not of all pairs.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from foretail_trainer.grouping import Template, narrowed
from foretail_trainer.slots import is_place
from foretail_trainer.tokens import BLANK, VALUE
from foretail_trainer.words import EVENT, HOLDERS, form, is_word

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from foretail_trainer.slots import Key

_WORDS_MAX = 5
_NAMES_MIN = 2


def aligned(templates: Sequence[Template], labels: Iterable[int]) -> list[Template]:
    """The templates after merging, in each cluster, those that differ in the words of a value; `labels`: one each."""
    clusters: defaultdict[int, list[Template]] = defaultdict(list)
    for template, label in zip(templates, labels, strict=True):
        clusters[label].append(template)
    out: list[Template] = []
    for members in clusters.values():
        hosts = [(one, place) for one in members for place in _named(one)]
        for one in members:
            found = next(
                (
                    (host, place, end)
                    for host, place in hosts
                    if host is not one and (end := _span(host, place, one.key))
                ),
                None,
            )
            if found is None:
                out.append(one)
                continue
            host, place, end = found
            for key, spans in one.members.items():
                host.members[key] = narrowed(spans, [(place, end)])
    return sorted(out, key=lambda one: one.key)


def _named(template: Template) -> list[int]:
    """Variable places that plain words were seen to fill."""
    places = []
    for place, token in enumerate(template.key):
        if token != VALUE:
            continue
        fillers = {key[slice(*spans[place])] for key, spans in template.members.items()}
        words = sum(len(filler) == 1 and is_word(filler[0]) and form(filler[0]) > EVENT for filler in fillers)
        if words >= _NAMES_MIN:
            places.append(place)
    return places


def _span(host: Template, place: int, key: Key) -> int:
    """Where the words end that stand in `key` at the host's place; 0 when they do not."""
    more = len(key) - len(host.key)
    end = place + 1 + more
    if more < 2 or more > 2 * (_WORDS_MAX - 1):
        return 0
    middle = key[place:end]
    if any(token != BLANK for token in middle[1::2]):
        return 0
    if not all(is_word(token) and form(token) > EVENT and token.lower() not in HOLDERS for token in middle[::2]):
        return 0
    rest = (*key[:place], VALUE, *key[end:])
    same = all(a == b or (a == VALUE and is_place(b) and form(b) > EVENT) for a, b in zip(host.key, rest, strict=True))
    return end if same else 0
