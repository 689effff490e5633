from itertools import pairwise

import msgspec
import numpy as np
import pytest

from foretail import bundle as bundles
from foretail import others
from foretail.errors import ConfigError
from foretail.evidence import HOLD
from foretail.schema import FIRST, SCHEMA, UNKNOWN, Format, KeyRule, Manifest, Pattern, Patterns, Training
from foretail.volume import Volume
from foretail_trainer import forecast, volume, weighing
from foretail_trainer.reckoning import Options

pytestmark = pytest.mark.trainer
PATTERNS = tuple(
    Pattern(0, number, f"{number:016x}", f"message {number} <*>", f"message {number} .*", number) for number in range(5)
)
"""The last one comes in no training log."""


def log(minutes, seed=0, start=1.7e9, without=()):
    """Four types a minute: 60 requests, as many answers, retries, few others; `without` minutes are silent."""
    rng = np.random.default_rng(seed)
    times, ids = [], []
    for minute in range(minutes):
        if minute in without:
            continue
        requests = rng.poisson(60)
        for number, count in enumerate((requests, requests, rng.poisson(8), rng.poisson(1))):
            times.append(start + 60 * (minute + rng.random(count)))
            ids.append(np.full(count, FIRST + number))
    when = np.concatenate(times)
    order = np.argsort(when)
    return volume.lines_of(np.concatenate(ids)[order].astype(np.int32), when[order], np.full(len(when), 40))


def with_burst(lines, at, count=300, number=2):
    """The log with lines of one type within one minute."""
    times = np.concatenate([lines.times, at + 60 * np.random.default_rng(1).random(count)])
    ids = np.concatenate([lines.ids, np.full(count, FIRST + number, np.int32)])
    order = np.argsort(times)
    return volume.lines_of(ids[order], times[order], np.full(len(ids), 40))


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    options = Options(model="ae", alpha=0.01, plan=forecast.Plan(steps=60))
    fitted = volume.fit_volume([log(400)], PATTERNS, options)
    manifest = Manifest(
        SCHEMA,
        "t",
        1,
        "2024-01-01T00:00:00Z",
        "0",
        "0",
        {},
        Format(),
        KeyRule(),
        0.0,
        Training("", 0, 0),
        volume=fitted.info,
    )
    patterns = msgspec.json.encode(Patterns(SCHEMA, PATTERNS))
    return bundles.write(tmp_path_factory.mktemp("v") / "b", manifest, {**fitted.files, "patterns.json": patterns})


def judged(bundle, lines, cuts=()):
    """Verdicts of a log given in parts, through a snapshot at each cut."""
    one, out = Volume(bundle, stream="s", every=True), []
    edges = [0, *cuts, len(lines.ids)]
    for start, end in pairwise(edges):
        part = volume.lines_of(lines.ids[start:end], lines.times[start:end], lines.lengths[start:end])
        out += one.add("/var/log/x", part)
        state = msgspec.msgpack.encode(one.snapshot())
        one = Volume(bundle, stream="s", every=True)
        one.restore(msgspec.msgpack.decode(state))
    return out + one.advance(float(lines.times[-1]) + 60)


def test_the_bundle_verifies(bundle):
    """It holds this detector alone, and its model gives here what it gave where it was made."""
    others.verify(bundle)
    assert others.names(bundle) == ("volume",)


def test_the_interval_and_the_types_are_chosen(bundle):
    """A minute holds enough lines; the types that come are counted one by one."""
    info = bundle.manifest.volume
    assert (info.series.interval_s, len(info.types)) == (60.0, 4)
    assert info.series.columns[0] == "message 0 <*>"


def test_a_normal_log_is_quiet(bundle):
    """False verdicts stay within what was promised."""
    found = judged(bundle, log(300, seed=7))
    assert len(found) == 300
    odd = [v.explanation.summary for v in found if v.anomalous]
    assert len(odd) <= volume.promised(0.01, 300)[1], odd


def test_a_burst_is_named_with_what_was_expected(bundle):
    """The verdict says which message came how often, and how often it should."""
    lines = log(120, seed=8)
    at = (lines.times[0] // 60 + 60) * 60
    found = {verdict.time: verdict for verdict in judged(bundle, with_burst(lines, at))}
    verdict = found[at]
    moved = verdict.explanation.moved[0]
    assert (verdict.anomalous, verdict.reasons, moved.feature) == (True, ("volume",), "message 2 <*>")
    assert moved.seen > 280
    assert moved.high < 60
    assert '"message 2 <*>"' in verdict.explanation.summary
    assert msgspec.json.decode(msgspec.json.encode(verdict))["kind"] == "interval"


def test_a_burst_of_a_rare_type_is_named_too(bundle):
    """It is counted among the others; the verdict says which of them it is, and is about that type."""
    lines = log(120, seed=8)
    at = (lines.times[0] // 60 + 60) * 60
    verdict = {verdict.time: verdict for verdict in judged(bundle, with_burst(lines, at, number=4))}[at]
    moved = {moved.feature: moved for moved in verdict.explanation.moved}["other types"]
    assert (moved.seen, moved.mostly) == (300.0, "message 4 <*>")
    assert '"other types" 300 (most of them "message 4 <*>"), expected 0' in verdict.explanation.summary
    assert verdict.type_id == PATTERNS[4].type_id


def test_silence_is_found(bundle):
    """Minutes without a line are judged and anomalous."""
    lines = log(120, seed=9, without=range(60, 64))
    silent = [verdict for verdict in judged(bundle, lines) if not verdict.lines]
    assert len(silent) == 3
    assert all(verdict.anomalous for verdict in silent)


def test_verdicts_do_not_depend_on_cuts(bundle):
    """Batches of any size, restarts between them: the same verdicts with the same ids."""
    lines = with_burst(log(80, seed=3), 1.7e9 + 3000)
    assert judged(bundle, lines) == judged(bundle, lines, cuts=(1, 777, 5000))


def test_origins_are_apart(bundle):
    """Two files have intervals, histories and ids of their own."""
    one, lines = Volume(bundle, stream="s", every=True), log(5, seed=4)
    found = one.add("a", lines) + one.add("b", lines)
    assert {"a", "b"} == {verdict.source for verdict in found}
    assert len(found) == len({verdict.id for verdict in found})


def test_a_log_without_times_is_refused():
    """No event times, no volume: one sentence."""
    lines = volume.lines_of(np.full(50, FIRST, np.int32), np.full(50, np.nan), np.full(50, 9))
    with pytest.raises(ConfigError, match="lines carry times"):
        volume.fit_volume([lines], PATTERNS)


def test_lines_before_the_first_time_do_not_count():
    """A line without a time has that of the line before it."""
    lines = volume.lines_of(
        np.array([FIRST, FIRST, UNKNOWN], np.int32), np.array([np.nan, 5.0, np.nan]), np.array([1, 2, 3])
    )
    assert (lines.times.tolist(), lines.lengths.tolist()) == ([5.0, 5.0], [2, 3])


def test_promised_is_a_poisson_interval():
    """Ten expected: between 3 and 19 in 99 of 100 cases; none expected: none."""
    assert (volume.promised(0.01, 1000), volume.promised(0.0, 1000)) == ((3, 19), (0, 0))


def odd(*incidents, seed=0, n=4000):
    """Evidence of a normal log, in bits, with incidents `(first interval, intervals, bits)`."""
    evidence = np.random.default_rng(seed).exponential(4.0, n)
    for first, lasting, bits in incidents:
        evidence[first : first + lasting] = bits
    return evidence


def test_incidents_that_the_others_cannot_account_for_are_set_aside_and_no_others():
    """Fewer than STRANGE_P of normal logs lose one; one or two giants go, however long they last, three alike stay."""
    assert np.mean([bool(weighing.strange(odd(seed=seed))) for seed in range(100)]) < weighing.STRANGE_P
    for lasting in (1, 3, 20, 40):
        one, two, three = (100, lasting, 300.0), (900, 1, 190.0), (1500, lasting, 290.0)
        for incidents in ((one,), (one, two)):
            runs = weighing.strange(odd(*incidents))
            assert [(run[0], len(run)) for run in runs] == [(first, length) for first, length, _ in incidents]
        assert weighing.strange(odd(one, two, three)) == []
    assert weighing.strange(odd((100, 400, 300.0))) == []  # a fifth of the log is how the log is
    assert weighing.strange(np.array([90.0])) == weighing.strange(np.zeros(0)) == weighing.strange(np.zeros(50)) == []


@pytest.mark.parametrize(("bursts", "minutes", "aside"), [(0, 0, 0), (1, 1, 1), (1, 8, 1), (1, 20, 1), (3, 1, 0)])
def test_a_burst_in_the_training_log_does_not_deafen_the_detector(bursts, minutes, aside):
    """One that stands alone is named, and no threshold rests on it, however long it lasts; three like it are normal."""
    train, options = log(1500), Options(model="ae", alpha=0.0005, plan=forecast.Plan(steps=60))
    begins = [1.7e9 + 60 * (50 + 400 * number) for number in range(bursts)]
    for at in begins:
        for minute in range(minutes):
            train = with_burst(train, at + 60 * minute, count=2000)
    fitted = volume.fit_volume([train], PATTERNS, options)
    notes = [note for note in fitted.notes if "taken for a fault" in note]
    assert len(notes) == aside
    assert all("'message 2 <*>'" in note or "'lines'" in note or "'bytes'" in note for note in notes)
    calibration = fitted.info.series.calibration
    assert calibration.threshold < 40
    assert calibration.tail.levels[-1] < 2 * calibration.threshold
    raised = fitted.times[fitted.weighed.anomalous]
    assert len(raised) >= minutes * aside
    assert all(min(abs(when - at) for at in begins) < 60 * (minutes + HOLD) for when in raised)
