import numpy as np
import pytest

from foretail.series import Scored
from foretail_trainer import curves
from foretail_trainer.characters import Judged

pytestmark = pytest.mark.trainer


def scored(n, f):
    ratio = np.zeros(n)
    ratio[5] = 2
    one, many = np.zeros(n), np.zeros((n, f))
    shares = many.copy()
    shares[5, 1] = 1
    return Scored(ratio, np.zeros((n, 5)), one, one, many, many - 1, many + 1, shares, np.zeros((n, 5)), ratio > 1)


def test_the_feature_that_moved_is_drawn_first():
    """A section shows what moved in the strangest rows, and how many alarms there were."""
    html = curves.series_section(("a", "b<c"), np.zeros((50, 2)), scored(50, 2))
    assert "1 alarms" in html
    assert html.index("b&lt;c over 50 rows") < html.index("a over 50 rows")


def test_lines_are_shown_as_text():
    """Confusion, curves and the errors; what a line holds cannot become markup."""
    judged = Judged(
        np.array([True, True, False, False]), np.array([0.9, 0.1, 0.2, 0.8]), (b"x", b"<b>\x1b", b"y", b"z")
    )
    html = curves.lines_section(judged, 0.5, ("evil", "normal"))
    assert "<td>1</td><td>1</td>" in html
    assert "&lt;b&gt;\\x1b" in html
    assert html.count("<svg") == 1
