from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import msgspec
import numpy as np
import pytest

from foretail.errors import ConfigError
from foretail_trainer import report
from foretail_trainer.findings import (
    BlockRow,
    ClusterMap,
    Elbow,
    EvaluateData,
    EvaluateRow,
    GateRow,
    KeyRow,
    Losses,
    ReportData,
    SuspectRow,
    TypeRow,
    visible,
)

pytestmark = pytest.mark.trainer

HOSTILE = (
    "</div></script><script>alert(1)</script><img src=x onerror=alert(1)>\" onfocus='alert(1)' {{ 7*7 }} \x1b[31m\u202e"
)


def full(text: str = "plain") -> ReportData:
    """A report with every section, `text` in each place that holds words of a log or of a user."""
    return ReportData(
        name=text,
        version=3,
        digest="ab" * 32,
        created="2026-11-01T00:00:00Z",
        trainer="0.1",
        sources=(text,),
        header=text,
        key=text,
        lines=1000,
        sessions=100,
        first=1e9,
        last=1e9 + 7200,
        idle_s=5,
        alpha=0.001,
        unit="session",
        threshold=20.0,
        extrapolated=True,
        units=99,
        units_per_day=1200,
        model="LSTM",
        types=(
            TypeRow("1.1", "0" * 16, text, 998, text),
            TypeRow("1.2", "1" * 16, text, 2, text, rare=True, error=True, end=True),
        ),
        elbow=Elbow((2, 3, 4), (0.1, 0.4, 0.3), 3, text),
        map=ClusterMap((0.0, 1.0), (1.0, 0.0), (0, 1), 5, 0.96),
        losses=Losses((3.0, 2.0), (3.1, 2.1), 1),
        scores=(1.0, 2.0, 21.0),
        blocks=(BlockRow(1e9, 1e9 + 100, 50, 0.05, 1),),
        keys=(
            KeyRow(text, text, 0.9, 100, 1.5, chosen=True, note=text),
            KeyRow(text, text, 0.1, 3, None, chosen=False),
        ),
        suspects=(SuspectRow(text, 33.0, text, text, 1e9),),
        gate=(GateRow(text, text, text, passed=True),),
        notes=(text,),
    )


def evaluation(text: str = "plain") -> EvaluateData:
    return EvaluateData(
        name=text,
        version=1,
        digest="ab",
        created="now",
        data=text,
        unit="session",
        normal=10,
        anomalous=5,
        rows=(
            EvaluateRow("weak " + text, 0.5, 0.5, 0.5),
            EvaluateRow("strong " + text, 0.9, 0.9, 0.9, 0.85, 0.95, 0.97, 9, 1, 1, ours=True, note=text),
        ),
        notes=(text,),
    )


class _Page(HTMLParser):
    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.ids: list[str] = []
        self.open: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.ids += [value or "" for name, value in attrs if name == "id"]


@pytest.mark.parametrize("page", [report.render(full(HOSTILE)), report.render_evaluation(evaluation(HOSTILE))])
def test_hostile_lines_stay_text(page: str):
    """No tag, attribute or script of a log line reaches the browser, and no control character either."""
    parsed = _Page(page)
    assert [tag for tag, _ in parsed.tags].count("script") == 1
    assert "img" not in [tag for tag, _ in parsed.tags]
    assert not [name for _, attributes in parsed.tags for name in attributes if name.startswith("on")]
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f\u202a-\u202e\u2066-\u2069]", page)
    assert "49" not in re.findall(r"\{\{ 7\*7 \}\}|>49<", page)


@pytest.mark.parametrize("page", [report.render(full()), report.render_evaluation(evaluation())])
def test_a_page_needs_no_other_file(page: str):
    """Nothing is loaded: no link, source, import or url; the policy admits only the page's own script."""
    attributes = [(name, value or "") for _, attrs in _Page(page).tags for name, value in attrs.items()]
    assert not [value for name, value in attributes if name in {"src", "href", "xlink:href"} and value[:1] != "#"]
    assert "@import" not in page
    assert not re.findall(r"url\((?!#)", page)
    assert "default-src 'none'" in page
    assert "'unsafe-inline'; script-src 'sha256-" in page


@pytest.mark.parametrize("page", [report.render(full()), report.render_evaluation(evaluation())])
def test_a_page_can_be_read_aloud(page: str):
    """Language, one h1, named charts, unique ids, and targets for all links."""
    parsed = _Page(page)
    assert ("html", {"lang": "en"}) in parsed.tags
    assert [tag for tag, _ in parsed.tags].count("h1") == 1
    assert all(attributes.get("aria-label") for tag, attributes in parsed.tags if tag == "svg")
    assert len(parsed.ids) == len(set(parsed.ids))
    links = {
        value[1:] for _, attributes in parsed.tags for name in ("href", "xlink:href") if (value := attributes.get(name))
    }
    assert links <= set(parsed.ids)


def test_figures_take_their_colours_from_the_page():
    """Dark and light share one chart: no stand-in colour is left in it."""
    page = report.render(full())
    assert not re.search(r"#0[1-6]0[1-6]0\d", page)
    assert "var(--ink)" in page


def test_sections_without_data_are_left_out():
    """A types-only fit has a page too."""
    page = report.render(ReportData(name="bare", version=1, digest="", created=""))
    assert "<figure" not in page
    assert 'id="threshold"' not in page
    assert "Message types" in page


def test_the_budget_is_told_in_words():
    """Extrapolated or certified, and how many units it would take."""
    page = report.render(full())
    assert "= 0.001 takes 999" in page
    assert "8.4" in page  # 0.001 x 1200 x 7
    assert "certified by the log" in report.render(msgspec.structs.replace(full(), extrapolated=False))


def test_a_report_renders_again_from_its_data(tmp_path: Path):
    """`write` leaves what `read` needs, and the same data gives the same bytes."""
    path = report.write(full("<b>"), tmp_path / "made")
    assert path == tmp_path / "made" / "report.html"
    assert report.read(tmp_path / "made") == full("<b>")
    assert report.render(report.read(tmp_path / "made")) == path.read_text()


def test_columns_may_hold_numpy_numbers(tmp_path: Path):
    """The trainer need not convert its arrays."""
    data = msgspec.structs.replace(full(), scores=tuple(np.array([1.0, 2.5])), threshold=np.float64(2.0))
    report.write(data, tmp_path)
    assert report.read(tmp_path).scores == (1.0, 2.5)


def test_an_evaluation_renders_again_best_first(tmp_path: Path):
    """Rows are sorted by F1 whatever order they came in."""
    path = report.write_evaluation(evaluation(), tmp_path)
    assert report.read_evaluation(tmp_path) == evaluation()
    table = path.read_text().split("<tbody>")[1]
    assert table.index("strong") < table.index("weak")


@pytest.mark.parametrize("content", [None, b"", b"{}", b'{"name": 1}', b"\xff"])
def test_a_folder_without_a_report_is_one_sentence(tmp_path: Path, content: bytes | None):
    """Absent, empty, foreign: ConfigError with the path in it."""
    if content is not None:
        (tmp_path / "report.json").write_bytes(content)
    with pytest.raises(ConfigError, match=r"report\.json"):
        report.read(tmp_path)


def test_an_unwritable_folder_is_one_sentence(tmp_path: Path):
    """A file stands where the folder should be."""
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="file"):
        report.write(full(), tmp_path / "file")


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b"plain \xc3\xa9", "plain é"),
        (b"\xff\x00", r"\xff\x00"),
        ("a\x1b[31m\n", r"a\x1b[31m\x0a"),
        ("\u202eabc\U000e0041", r"\u202eabc\U000e0041"),
        ("\ud800", r"\ud800"),
        (b"x" * 410, "x" * 400 + " … 10 more"),
    ],
)
def test_what_is_in_a_line_can_be_seen(line: bytes | str, expected: str):
    """Bytes, control and bidirectional characters are shown, long lines are cut with a mark."""
    assert visible(line) == expected


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (None, "-"),
        (0, "0"),
        (0.0002, "0.0002"),
        (1.6e-9, "1.60e-09"),
        (12.345, "12.3"),
        (1234.5, "1,234"),
        (0.1, "0.1"),
    ],
)
def test_figures_have_three_digits(number: float | None, expected: str):
    """Three significant digits, no exponent that a reader must decode unless it is minute."""
    assert report._figure(number) == expected
