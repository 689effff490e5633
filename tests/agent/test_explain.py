"""What is said of a verdict, for people."""

from __future__ import annotations

import msgspec
import pytest

from foretail.explain import summary
from foretail.verdicts import Explanation, SessionVerdict

VERDICT = SessionVerdict(
    id="0", stream="s", bundle="b", session="k", source="f", offset=0, time=None, anomalous=True, score=0.6, p=0.001,
    reasons=("counts", "sequence"), events=5, explanation=Explanation(missing={"bye": 1}, extra={"retry": 3}),
)  # fmt: skip


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({}, '3 more "retry", 1 fewer "bye"'),
        ({"events": 3}, '3 more "retry"'),
        ({"explanation": None}, "by its numbers of messages"),
        ({"explanation": None, "reasons": ("novelty",)}, "it holds a message seen at most twice before"),
    ],
)
def test_a_strange_session_is_told_by_what_is_strange(change, said):
    """Against the nearest normal one where they have anything in common, else by what it holds."""
    assert summary(msgspec.structs.replace(VERDICT, **change), None).endswith(f"is unlike any normal one: {said}")
