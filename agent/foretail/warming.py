"""What a running stream remembers, worked out anew for the one that follows: its first batches cost what others do.

Nothing is carried over: a skeleton is matched by the new patterns, a window scored by the new model.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from foretail.schema import FIRST, UNKNOWN

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from foretail.stream import Stream

SKELETONS_MAX, WINDOWS_MAX = 4000, 8000
PART = 256


def warm(fresh: Stream, running: Stream) -> None:
    """Fill the memos of `fresh` with what `running`, which another thread owns, saw of late."""
    fresh.matcher.warm(running.matcher.known(SKELETONS_MAX))
    if fresh.model.window == running.model.window:
        rows = _renumbered(fresh, running)
        for first in range(0, len(rows), PART):
            part = rows[first : first + PART]
            fresh.model.surprise(part[:, :-1], part[:, -1])
        fresh.model.memo.hits = fresh.model.memo.misses = 0


def _renumbered(fresh: Stream, running: Stream) -> NDArray[np.int32]:
    """Windows and targets in the numbers of the new bundle, without those whose target it does not know."""
    known = {pattern.type_id: model_id for model_id, pattern in enumerate(fresh.bundle.patterns, FIRST)}
    ids = [*range(FIRST), *(known.get(pattern.type_id, UNKNOWN) for pattern in running.bundle.patterns)]
    rows: NDArray[np.int32] = np.array(ids, np.int32)[running.model.memo.rows(WINDOWS_MAX)]
    judged: NDArray[np.int32] = rows[rows[:, -1] != UNKNOWN]
    return judged
