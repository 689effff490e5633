import numpy as np
import pytest

from foretail.characters import LineModel, score_lines
from foretail.delimited import Dialect
from foretail.errors import ConfigError
from foretail.ops import check_operators
from foretail_trainer import characters, charnet, single
from foretail_trainer.characters import Options

pytestmark = pytest.mark.trainer
FAST = charnet.Plan(epochs=6, batch=32)
EVIL = "' or 1=1 --"


def rows(n=400, seed=0):
    """Requests, a third of them with an injection somewhere."""
    rng = np.random.default_rng(seed)
    out = []
    for _ in range(n):
        words = ["".join(rng.choice(list("abcdefgh123"), rng.integers(2, 9))) for _ in range(rng.integers(1, 9))]
        bad = rng.random() < 0.33
        if bad:
            words.insert(int(rng.integers(0, len(words) + 1)), EVIL)
        out.append((" ".join(words), "evil" if bad else "normal"))
    return out


def csv(path, items):
    path.write_text("text,label\n" + "".join(f'"{text}",{label}\n' for text, label in items))
    return str(path)


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lines")
    options = Options(shape=charnet.Shape(units=16, embedding=8), plan=FAST)
    return characters.fit_lines(csv(folder / "x.csv", rows()), "text", "label", options), folder


def test_the_label_that_is_not_normal_is_raised(fitted):
    """Two labels, one named like normal: the other is the positive one."""
    assert (fitted[0].info.positive, fitted[0].info.negative) == ("evil", "normal")
    assert fitted[0].metrics["accuracy"] > 0.95


def test_a_csv_is_scored_with_its_reasons(fitted, tmp_path):
    """One verdict a row; the span that speaks most lies in the injection."""
    one, folder = fitted
    bundle = single.write_lines(str(folder / "b"), one)
    items = rows(60, seed=9)
    found = list(score_lines(bundle, csv(tmp_path / "y.csv", items), "text"))
    assert len(found) == 60
    right = [verdict.anomalous == (label == "evil") for verdict, (_, label) in zip(found, items, strict=True)]
    assert sum(right) >= 56
    odd = next(v for v, (_, label) in zip(found, items, strict=True) if v.anomalous and label == "evil")
    assert set(odd.explanation.span.text) & set("'=-or")
    assert (odd.reasons, odd.label) == (("line",), "evil")
    assert all((verdict.score >= 0.5) is verdict.anomalous for verdict in found)


@pytest.mark.parametrize("cell", charnet.CELLS)
def test_a_line_is_judged_alike_in_any_company(cell):
    """Log-odds of a line do not depend on the lines beside it, on its batch, or on the memo; int8 is near float."""
    shape = charnet.Shape(cell=cell, units=8, embedding=4, chunk=16)
    arrays = charnet.initial(shape, 1)
    files, twin = charnet.export(shape, arrays), charnet.export(shape, arrays, quantize=False)
    for name in ("line.b1.tflite", "line.b64.tflite"):
        check_operators(files[name])
    info = characters.plain(shape, Options(shape=shape, bytes_max=100), ("a", "b"))
    model, rng = LineModel(info, files), np.random.default_rng(0)
    lines = [bytes(rng.integers(0, 256, n, np.uint8)) for n in (0, 1, 15, 16, 17, 40, 99, 100, 150, *range(20, 50))]
    together = model.logits(lines)
    assert together.tolist() == [float(LineModel(info, files).logits([line])[0]) for line in lines]
    assert together.tolist() == model.logits(lines).tolist()
    assert len({line[:100] for line in lines}) == model.misses
    assert np.abs(LineModel(info, twin).logits(lines) - together).max() < 0.2


@pytest.mark.parametrize("cell", charnet.CELLS)
def test_chunks_say_what_training_saw(cell):
    """The exported chunk, looped by the agent, gives the logits of the network that was trained."""
    shape = charnet.Shape(cell=cell, units=6, embedding=4, chunk=8)
    arrays = charnet.initial(shape, 2)
    info = characters.plain(shape, Options(shape=shape, bytes_max=64), ("a", "b"))
    lines = [bytes(range(40, 40 + n)) for n in (3, 8, 20, 33)]
    ours = LineModel(info, charnet.export(shape, arrays, quantize=False)).logits(lines)
    theirs = [charnet.logit(shape, arrays, line) for line in lines]
    assert ours == pytest.approx(theirs, abs=0.01)


def test_long_lines_cost_only_themselves(fitted, monkeypatch):
    """A short line beside a long one takes part in its own chunk alone."""
    model = LineModel(fitted[0].info, fitted[0].files)
    seen = []
    run = model._pair.__call__
    monkeypatch.setattr(model, "_pair", lambda ids: seen.append(len(ids)) or run(ids))
    model.logits([b"x" * 10] * 1 + [b"y%d" % i for i in range(20)] + [b"z" * 320])
    assert seen == [1] * 9 + [22]


def test_thresholds_of_a_wanted_rate():
    """`fpr`: held-out normal lines reach the threshold no more often than wanted."""
    items = rows(500, seed=3)
    options = Options(shape=charnet.Shape(units=16, embedding=8), plan=FAST, fpr=0.05)
    found = characters.fit([t.encode() for t, _ in items], np.array([label == "evil" for _, label in items]), options)
    assert found.info.fpr <= 0.05


def test_platt_gives_probabilities():
    """Of lines with a calibrated probability near .8, about four in five are positive."""
    rng = np.random.default_rng(0)
    z = rng.normal(0, 3, 20_000)
    truth = rng.random(20_000) < 1 / (1 + np.exp(-(0.5 * z - 1)))
    slope, offset = characters.platt(z, truth)
    assert (pytest.approx(slope, abs=0.03), pytest.approx(offset, abs=0.06)) == (0.5, -1.0)


def test_auc_counts_ties_half():
    """A constant says nothing: one half; a perfect order: one."""
    truth = np.array([False, False, True, True])
    assert (characters.auc(truth, np.zeros(4)), characters.auc(truth, np.arange(4.0))) == (0.5, 1.0)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a,1\n" * 20, "holds 1 labels"),
        ("a,1\nb,2\nc,3\n" * 20, "holds 3 labels"),
        ("a,1\n" * 20 + "b,2\n", "only 1 lines are labelled '2'"),
    ],
)
def test_labels_that_cannot_be_learned_say_why(tmp_path, text, said):
    """Two labels, each with some lines, or one sentence."""
    path = tmp_path / "x.csv"
    path.write_text(text)
    with pytest.raises(ConfigError, match=said):
        characters.fit_lines(str(path), "1", "2", dialect=Dialect(header=False))


def test_json_requests_are_read_without_dropped_fields(tmp_path):
    """`--quote '|' --no-header`, column numbers, `drop`: what is left decides."""
    path = tmp_path / "x.csv"
    lines = [
        f'|{{"timestamp": {i}, "q": "{EVIL if i % 3 == 0 else "search"} {i * 7919 % 1000}"}}|,{int(i % 3 == 0)}'
        for i in range(300)
    ]
    path.write_text("\n".join(lines) + "\n")
    options = Options(shape=charnet.Shape(units=8, embedding=8), plan=FAST, drop=("timestamp",))
    found = characters.fit_lines(str(path), "1", "2", options, dialect=Dialect(quote="|", header=False))
    assert found.info.positive == "1"
    assert all(b"timestamp" not in line for line in found.judged.lines)
    assert found.metrics["accuracy"] > 0.95
