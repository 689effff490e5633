"""Values of several words within a cluster."""

from __future__ import annotations

import pytest

from foretail_trainer.align import aligned
from foretail_trainer.grouping import Grouping
from foretail_trainer.masks import Masks
from foretail_trainer.tokens import VALUE

pytestmark = pytest.mark.trainer
NAMES = ("Mail", "Music", "Maps", "Notes", "Clock", "Photos", "Safari", "Finder")
WINDOWS = [f"app {name} window 3 moved to display 1" for name in NAMES]


def keys(messages: list[str], labels: list[int] | None = None) -> list[str]:
    """Templates after alignment, all in one cluster unless `labels` says otherwise."""
    masks = Masks()
    templates = Grouping(masks.row(message).key for message in messages).run()
    found = aligned(templates, labels or [0] * len(templates))
    return ["".join(one.key).replace(VALUE, "*") for one in found]


def test_a_name_of_two_words_joins_the_names_of_one():
    """Where names were found to vary, two words are a name too."""
    assert keys([*WINDOWS, "app Big Blue window 3 moved to display 1"]) == ["app * window * moved to display *"]


def test_words_of_the_event_are_no_name():
    """A word that names a state, or a noun that holds a name, keeps the message apart."""
    for words in ("Mail was", "invalid user", "Mail of bob"):
        assert len(keys([*WINDOWS, f"app {words} window 3 moved to display 1"])) == 2


def test_other_clusters_are_not_compared():
    """Templates of different clusters stay apart."""
    assert len(keys([*WINDOWS, "app Big Blue window 3 moved to display 1"], [0, 1])) == 2
