import msgspec
import numpy as np
import pytest

from foretail import arrays, delimited, others, rows
from foretail.bundle import read, write
from foretail.errors import ConfigError
from foretail.ops import check_operators
from foretail.series import Detector
from foretail_trainer import forecast, reckoning, single
from foretail_trainer.quantiles import quantile
from foretail_trainer.reckoning import Options
from foretail_trainer.timeseries import fit_timeseries

pytestmark = pytest.mark.trainer
FAST = forecast.Plan(steps=40)


def csv(path, n, seed=0, fault=(), extra="anomaly"):
    """Three sensors a minute apart; in `fault` rows the second reads six deviations too high."""
    rng = np.random.default_rng(seed)
    wave = np.sin(np.arange(n) / 9)
    values = np.stack([wave, wave + 3, -wave], axis=1) + 0.2 * rng.normal(size=(n, 3))
    values[list(fault), 1] += 3
    lines = [f"datetime;a;b;c;{extra}"]
    for i, (a, b, c) in enumerate(values):
        stamp = f"2024-01-01 {i // 60 % 24:02d}:{i % 60:02d}:00"
        lines.append(f"{stamp};{a:.4f};{b:.4f};{c:.4f};{int(i in set(fault))}")
    path.write_text("\n".join(lines) + "\n")
    return str(path)


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("series")
    one = fit_timeseries(csv(folder / "train.csv", 400), Options(plan=FAST))
    return one, single.write_series(str(folder / "bundle"), one), folder


def test_columns_and_notes(fitted):
    """Stamps are found, a 0/1 column named like the answer is left out and said so."""
    one, _, _ = fitted
    assert (one.info.columns, one.info.timestamp) == (("a", "b", "c"), "datetime")
    assert any("anomaly" in note for note in one.notes)


def test_a_fault_is_found_and_named(fitted):
    """Verdicts of a file: one a row, the fault's rows anomalous, the column that moved first, expected against seen."""
    _, bundle, folder = fitted
    found = list(rows.score_timeseries(bundle, csv(folder / "x.csv", 300, seed=5, fault=range(200, 230))))
    assert list(range(1, 301)) == [verdict.row for verdict in found]
    assert sum(verdict.anomalous for verdict in found[200:230]) > 20
    assert sum(verdict.anomalous for verdict in found[:200]) <= 10
    first = next(verdict for verdict in found[200:] if verdict.anomalous)
    assert (first.explanation.moved[0].feature, first.reasons) == ("b", ("series",))
    assert first.explanation.moved[0].high < first.explanation.moved[0].seen
    assert all((verdict.score >= 0.5) is verdict.anomalous for verdict in found)
    assert msgspec.json.decode(msgspec.json.encode(first))["kind"] == "row"


def test_verdicts_do_not_depend_on_cuts(fitted):
    """Rows in batches of any size, through a snapshot, give the verdicts of all at once."""
    one, bundle, _ = fitted
    values, times = one.table.values[:120], one.table.times[:120]
    whole = Detector(one.info, bundle.files, "series").score(values, times)
    state, parts = None, []
    for start, end in ((0, 7), (7, 80), (80, 120)):
        detector = Detector(one.info, bundle.files, "series")
        if state is not None:
            detector.restore(msgspec.msgpack.decode(state))
        parts.append(detector.score(values[start:end], times[start:end]).ratio)
        state = msgspec.msgpack.encode(detector.snapshot())
    assert whole.ratio == pytest.approx(np.concatenate(parts), abs=1e-9)


def test_a_gap_begins_a_new_history(fitted):
    """Rows after a hole are judged without the rows before it, and every row gets its verdict."""
    one, bundle, _ = fitted
    times = one.table.times[:100].copy()
    times[50:] += 86_400
    assert len(Detector(one.info, bundle.files, "series").score(one.table.values[:100], times).ratio) == 100


def test_bundle_of_a_series_alone_is_read(fitted):
    """A bundle may hold this detector and no other."""
    _, bundle, folder = fitted
    again = read(folder / "bundle")
    assert (again.digest, others.names(again)) == (bundle.digest, ("series",))


def test_a_model_that_runs_otherwise_is_refused(fitted, tmp_path):
    """Golden results that differ on this host are one sentence; so is a missing file."""
    _, bundle, _ = fitted
    table = arrays.read(bundle.files, "series.golden.npy").copy()
    table[0, 0] += 1
    damaged = write(tmp_path / "b", bundle.manifest, {**bundle.files, "series.golden.npy": arrays.written(table)})
    with pytest.raises(ConfigError, match="the series model gives results on this host that differ by"):
        others.verify(damaged)
    less = {name: content for name, content in bundle.files.items() if name != "series.mix.npy"}
    with pytest.raises(ConfigError, match=r"no series\.mix\.npy"):
        others.verify(write(tmp_path / "c", bundle.manifest, less))


def test_a_missing_column_is_named(fitted, tmp_path):
    """A file without a column of the bundle is one sentence."""
    path = tmp_path / "x.csv"
    path.write_text("datetime;a;b\n2024-01-01 00:00:00;1;2\n2024-01-01 00:01:00;1;2\n")
    with pytest.raises(ConfigError, match="no column 'c'"):
        list(rows.score_timeseries(fitted[1], str(path)))


def test_calibration_keeps_its_promise(fitted):
    """Of the rows that calibration judged no more than alpha, and one, reach the threshold."""
    one, _, _ = fitted
    assert one.scored.state.shape == (400,)
    assert (one.scored.state >= one.info.calibration.threshold).sum() <= 5


@pytest.mark.parametrize("model", forecast.MODELS)
def test_every_model_exports_what_it_learned(model):
    """int8 files of allowed operators say what the float network says, at batch 1 and 64."""
    rng = np.random.default_rng(0)
    windows = rng.normal(size=(70, 8, 3)).astype(np.float32)
    shape = forecast.Shape(model, 8, 3, 2, units=8, latent=3)
    fitted = forecast.fit(shape, windows, windows[:, -1, :2], forecast.Plan(steps=3))
    files = forecast.files(fitted, "series")
    for content in files.values():
        check_operators(content)
    run, exact = forecast.runtime(fitted, files, "series"), forecast.expected(fitted, windows)
    assert np.abs(run(windows)[0] - exact).max() < 0.1
    assert np.abs(run(windows[:3])[0] - run(windows)[0][:3]).max() < 1e-5


def test_the_same_seed_gives_the_same_weights():
    """Training is deterministic."""
    windows = np.random.default_rng(0).normal(size=(50, 8, 1)).astype(np.float32)
    shape = forecast.Shape("lstm", 8, 1, 1, units=4)
    one, two = (forecast.fit(shape, windows, windows[:, -1], forecast.Plan(steps=5), seed=3) for _ in range(2))
    assert all((a == b).all() for a, b in zip(one.arrays, two.arrays, strict=True))


@pytest.mark.parametrize(("how", "wanted"), [("mean", [1.5, 3.0]), ("max", [2.0, 3.0]), ("last", [2.0, 3.0])])
def test_readings_of_an_interval_become_a_row(tmp_path, how, wanted):
    """`--interval` joins readings; an interval without any gives no row."""
    path = tmp_path / "x.csv"
    path.write_text("time,v\n2024-01-01 00:00:00,1\n2024-01-01 00:00:30,2\n2024-01-01 00:05:10,3\n")
    data = rows.table(delimited.read(str(path)), ("v",), 0, 60.0, how)
    assert (wanted, [0.0, 300.0]) == (data.values[:, 0].tolist(), (data.times - data.times[0]).tolist())


@pytest.mark.parametrize(
    ("values", "options", "said"),
    [
        (np.zeros((10, 1)), Options(), "10 rows are too few"),
        (np.zeros((90, 1)), Options(model="magic"), "choose one of lstm"),
        (np.zeros((90, 1)), Options(alpha=2.0), "between 0 and 1"),
    ],
)
def test_what_cannot_be_fitted_says_why(values, options, said):
    """One sentence, with the numbers."""
    with pytest.raises(ConfigError, match=said):
        reckoning.fit(values, np.arange(len(values)) * 60.0, ["v"], "series", options)


def test_quantile_extrapolates_only_when_it_must():
    """99 values certify 1 %; fewer lie on the fitted tail, beyond the largest."""
    values = np.arange(199.0)
    assert (quantile(values, 0.01)[1], quantile(values[:50], 0.01)[1]) == (False, True)
    assert quantile(values[:50], 0.01)[0] > 49


def test_long_shifts_of_several_sensors_are_found_with_defaults(tmp_path):
    """Eight sensors a second apart, `;` between cells, some of them shifted for 200 rows of 500: F1 above .65."""
    rng = np.random.default_rng(5)
    values = np.cumsum(rng.normal(size=(900, 8)) * 0.05, axis=0) + rng.normal(size=(900, 8))
    shifted = np.zeros(900, bool)
    shifted[600:800] = True
    values[shifted] += np.array([0, 4, 0, -3, 0, 3, 0, 0])
    head = "datetime;" + ";".join(f"sensor{n}" for n in range(8)) + ";anomaly"
    lines = [
        f"2020-03-09 {10 + at // 3600:02}:{at // 60 % 60:02}:{at % 60:02};"
        + ";".join(f"{value:.5g}" for value in row)
        + f";{int(odd)}.0"
        for at, (row, odd) in enumerate(zip(values, shifted, strict=True))
    ]
    (tmp_path / "train.csv").write_text("\n".join([head, *lines[:400]]))
    (tmp_path / "test.csv").write_text("\n".join([head, *lines[400:]]))
    found = fit_timeseries(str(tmp_path / "train.csv"))
    assert len(found.info.columns) == 8
    bundle = single.write_series(str(tmp_path / "b"), found)
    raised = np.array([verdict.anomalous for verdict in rows.score_timeseries(bundle, str(tmp_path / "test.csv"))])
    hit = (raised & shifted[400:]).sum()
    assert 2 * hit / (raised.sum() + shifted.sum()) > 0.65
