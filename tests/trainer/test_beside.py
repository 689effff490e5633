import dataclasses
import json
import random
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foretail import bundle as bundles
from foretail import others
from foretail.columns import Columns
from foretail.errors import ConfigError
from foretail.lines import Batch, Source
from foretail.patterns import Matcher
from foretail.schema import KeyRule
from foretail.stream import Stream
from foretail.telling import Options
from foretail_trainer import (
    beside,
    cells,
    characters,
    charnet,
    forecast,
    learn,
    present,
    reading,
    reckoning,
    report,
    volume,
)
from foretail_trainer.stages import Stages
from foretail_trainer.workload import Workload

pytestmark = pytest.mark.trainer
GOLDEN = bundles.read(Path(__file__).resolve().parents[1] / "golden" / "bundle")
STEP, START = 10.0, 1_767_235_600.0
SOURCE = Source("0" * 24, "/var/log/storage.log", whole=True)
EVIL = b"2026-01-01T02:50:00.000Z INFO [background] cache: ' or 1=1 -- drop table"


def service(seed, start, seconds, quiet=(0, 0), rate=8.0):
    """Lines of the demo's service; none between `quiet` seconds."""
    events = Workload(seed, start, rate).events(seconds)
    return [event.text.encode() for event in events if not quiet[0] <= event.time - start < quiet[1]]


def labelled():
    """A classifier that knows an injection from messages of the service."""
    rng = random.Random(0)
    normal = [line.split(b": ", 1)[1] for line in service(13, START, 40)]
    evil = [
        rng.choice(normal)[: rng.randint(5, 40)] + b" ' or 1=1 -- drop table %d" % n for n in range(len(normal) // 2)
    ]
    options = characters.Options(shape=charnet.Shape(units=8, embedding=4), plan=charnet.Plan(epochs=8, batch=32))
    truth = np.arange(len(normal) + len(evil)) >= len(normal)
    return characters.fit([*normal, *evil], truth, options, ("evil", "normal"))


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """Volume and line detectors for the golden bundle's log."""
    path = tmp_path_factory.mktemp("log") / "storage.log"
    path.write_bytes(b"\n".join(service(11, START - 20_000, 900)) + b"\n")
    lines = reading.read([str(path)], Matcher(GOLDEN.patterns, GOLDEN.manifest.format, GOLDEN.manifest.key))
    host = volume.lines_of(lines.ids, lines.times, lines.lengths.astype(np.int64), lines.errors, lines.keys)
    asked = reckoning.Options(model="ae", alpha=0.02, interval_s=STEP, plan=forecast.Plan(steps=20))
    return volume.fit_volume([host], GOLDEN.patterns, asked), labelled()


def made(folder, parts, *, sequence=True, with_volume=True, with_lines=True):
    """The golden bundle with, or only with, these detectors."""
    counted, lines = parts
    files = {name: data for name, data in GOLDEN.files.items() if name != "manifest.json"}
    manifest = GOLDEN.manifest
    if not sequence:
        manifest = msgspec.structs.replace(manifest, sequence=None, calibration=None)
        golden = [row for row in files["golden.jsonl"].splitlines() if b'"window"' not in row]
        files = {"patterns.json": files["patterns.json"], "golden.jsonl": b"\n".join(golden) + b"\n"}
    if with_volume:
        manifest, files = msgspec.structs.replace(manifest, volume=counted.info), {**files, **counted.files}
    if with_lines:
        manifest, files = msgspec.structs.replace(manifest, lines=lines.info), {**files, **lines.files}
    return bundles.write(folder / "b", manifest, files)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory, parts):
    return made(tmp_path_factory.mktemp("all"), parts)


LINES = service(12, START, 150, quiet=(60, 100))
LINES.insert(150, EVIL.replace(b"T02:50:00.000Z", LINES[150][10:24]))
OFFSETS = np.cumsum([0] + [len(line) + 1 for line in LINES]).tolist()


def batch(start, stop):
    return Batch("s", SOURCE, LINES[start:stop], OFFSETS[start:stop], OFFSETS[stop], 1.8e9)


def stream(bundle, emit):
    return Stream(bundle, Options("s", machine="m", emit=emit))


def cut_at(bundle, cuts, emit, *, crash=False, replay=False):
    """All records when the log is cut there; `crash`: saved and restored at each cut, `replay`: by its columns."""
    records, work = [], stream(bundle, emit)
    for start, stop in zip([0, *cuts], [*cuts, len(LINES)], strict=True):
        if start == stop:
            continue
        columns = work.type(batch(start, stop))
        if replay:
            shadow = stream(bundle, emit)
            shadow.restore(msgspec.msgpack.decode(msgspec.msgpack.encode(work.snapshot())))
            shadow.judge(msgspec.msgpack.decode(msgspec.msgpack.encode(columns), type=Columns))
        records += work.judge(columns, LINES[start:stop])
        if replay:
            assert shadow.snapshot()["beside"] == work.snapshot()["beside"]
            assert shadow.teller.totals == work.teller.totals
        if crash:
            state = msgspec.msgpack.decode(msgspec.msgpack.encode(work.snapshot()))
            work = stream(bundle, emit)
            work.restore(state)
    return records + work.finish(ended=True)


@pytest.fixture(scope="module")
def whole(bundle):
    return {emit: cut_at(bundle, [], emit) for emit in ("lines", "anomalies", "sessions", "incidents")}


def test_all_detectors_speak(bundle, whole):
    """Silence opens an incident of volume, the injection one of the line classifier, explained each."""
    others.verify(bundle)
    assert others.names(bundle) == ("sequence", "volume", "line")
    opened = [r for r in map(json.loads, whole["incidents"]) if r["kind"] == "incident" and r["state"] == "open"]
    quiet = next(r for r in opened if r["reasons"] == ["volume"])
    assert START + 50 <= quiet["time"] < START + 100
    assert quiet["explanation"]["moved"]
    evil = next(r for r in opened if "line" in r["reasons"] and "1=1" in r["summary"])
    assert evil["explanation"]["label"] == "evil"
    assert "span" in evil["explanation"]


def test_which_records_leave(whole):
    """Anomalous intervals among lines and anomalies; none among sessions, where each record is a session."""
    kinds = {emit: {json.loads(record)["kind"] for record in records} for emit, records in whole.items()}
    assert "interval" in kinds["lines"] & kinds["anomalies"]
    assert kinds["sessions"] == {"session"}


@settings(max_examples=12, deadline=None)
@given(data=st.data(), crash=st.booleans())
def test_the_same_records_come_whatever_the_cuts_and_restarts(bundle, whole, data, crash):
    """Byte for byte, in the same order."""
    cuts = sorted(data.draw(st.lists(st.integers(0, len(LINES)), max_size=6)))
    emit = data.draw(st.sampled_from(sorted(whole)))
    assert cut_at(bundle, cuts, emit, crash=crash) == whole[emit]


@settings(max_examples=5, deadline=None)
@given(data=st.data())
def test_a_replay_of_the_journalled_columns_leads_to_the_same_state(bundle, whole, data):
    """Without the text of the lines."""
    cuts = sorted(data.draw(st.lists(st.integers(0, len(LINES)), max_size=6)))
    assert cut_at(bundle, cuts, "incidents", replay=True) == whole["incidents"]


@pytest.mark.parametrize(
    ("sequence", "with_volume", "with_lines"),
    [(True, True, False), (True, False, True), (False, True, True), (False, True, False), (False, False, True)],
)
def test_any_subset_of_detectors_runs(tmp_path, parts, sequence, with_volume, with_lines):
    """What is there speaks, what is not says nothing."""
    bundle = made(tmp_path, parts, sequence=sequence, with_volume=with_volume, with_lines=with_lines)
    others.verify(bundle)
    records = [json.loads(record) for record in cut_at(bundle, [100, 300], "anomalies", crash=True)]
    reasons = {reason for record in records for reason in record["reasons"]}
    assert ("volume" in reasons, "line" in reasons) == (with_volume, with_lines)
    assert bool(reasons - {"volume", "line"}) <= sequence


def test_a_bundle_of_no_detector_of_lines_is_refused(tmp_path):
    """One sentence."""
    bundle = made(tmp_path, (None, None), sequence=False, with_volume=False, with_lines=False)
    with pytest.raises(ConfigError, match="no detector of lines"):
        Stream(bundle, Options("s"))


def test_another_bundle_counts_anew(bundle):
    """Intervals that began under another bundle are dropped with it."""
    work = stream(bundle, "incidents")
    work.feed(batch(0, 200))
    assert work.waiting
    again = stream(dataclasses.replace(bundle, digest="another"), "incidents")
    again.restore(work.snapshot())
    assert again.snapshot()["beside"] == []
    same = stream(bundle, "incidents")
    same.take(work)
    assert same.snapshot()["beside"] == work.snapshot()["beside"] != []


def test_a_fit_learns_volume_and_says_how_the_budget_is_split(tmp_path):
    """Manifest, report and closing notes; the bundle verifies and runs."""
    log = tmp_path / "storage.log"
    log.write_bytes(b"\n".join(service(21, START, 2700, rate=2.0)) + b"\n")
    asked = learn.Options(out=str(tmp_path / "b"), files=(str(log),), detectors=("volume",), key="none", per_week=2.0)
    with Stages() as stages:
        learned = learn.fit(asked, stages)
    manifest = learned.bundle.manifest
    assert manifest.volume.series.interval_s == 60.0
    assert manifest.sequence is None
    assert manifest.metrics["budget_share_volume"] == 1.0
    assert manifest.metrics["volume_false_per_week"] > 2.0
    assert any("train on a longer log" in note for note in learned.notes)
    page = report.render(present.report_data(learned))
    assert 'id="volume"' in page
    assert (
        Stream(learned.bundle, Options("s")).feed(Batch("s", SOURCE, LINES[:50], OFFSETS[:50], OFFSETS[50], 1.8e9))
        == []
    )


def test_a_log_too_short_for_volume_gets_a_note(tmp_path):
    """The rest of the fit goes on; asked for volume alone, it is refused."""
    log = tmp_path / "storage.log"
    log.write_bytes(b"\n".join(service(21, START, 120)) + b"\n")
    found = reading.read([str(log)], Matcher(GOLDEN.patterns, GOLDEN.manifest.format, GOLDEN.manifest.key))
    for detectors in (beside.DETECTORS, ("volume",)):
        learned = learn.Learned(
            learn.Options(out="", detectors=detectors), GOLDEN.manifest.format, KeyRule(), GOLDEN.patterns, 0, "", 1, 0
        )
        with Stages() as stages:
            if detectors == ("volume",):
                with pytest.raises(ConfigError, match="too few for the volume detector"):
                    beside.add_volume(learned, found, stages)
            else:
                beside.add_volume(learned, found, stages)
                assert learned.volume is None
                assert "no volume detector" in learned.notes[0]
                assert beside.left(learned) == 1.0


@pytest.mark.parametrize(
    ("text", "wanted"), [("volume", ("volume",)), ("sequence, volume", beside.DETECTORS), ("x", None)]
)
def test_detectors_are_named(text, wanted):
    """An unknown one is one sentence."""
    if wanted is None:
        with pytest.raises(ConfigError, match="use one or more of sequence,volume"):
            cells.detectors(text)
    else:
        assert cells.detectors(text) == wanted
