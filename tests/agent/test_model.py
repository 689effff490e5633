"""The agent's side of the model: surprises in 1/256 nat that do not depend on how lines arrive."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from foretail.errors import ConfigError
from foretail.model import SequenceModel, runtime

MODELS = Path(__file__).with_name("models")
B1, B64 = (MODELS.joinpath(name).read_bytes() for name in ("b1.tflite", "b64.tflite"))
C, V = 4, 12


def made(**options):
    return SequenceModel(B1, B64, window=C, vocabulary=V, **options)


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(1)
    return rng.integers(0, V, (300, C)).astype(np.int32), rng.integers(1, V, 300).astype(np.int32)


def test_surprises_are_minus_log_probabilities(rows):
    """A surprise is minus the target's log-probability, in multiples of 1/256 nat; probabilities sum to one."""
    windows, targets = rows
    model = made()
    found = model.surprise(windows, targets)
    assert (np.float32, (300,)) == (found.dtype, found.shape)
    assert (np.rint(found * 256) == found * 256).all()
    for window, target, nats in zip(windows[:40], targets[:40], found[:40], strict=True):
        logp = model.distribution(window)
        assert (np.float32, (V,)) == (logp.dtype, logp.shape)
        assert pytest.approx(np.exp(logp).sum(), abs=1e-5) == 1
        assert abs(nats + logp[target]) <= 0.5 / 256 + 1e-6


def test_batches_do_not_matter(rows):
    """The same rows in batches of 1, 7, 30, 64 or all at once have the same surprises."""
    windows, targets = rows
    whole = made().surprise(windows, targets)
    for cut in (1, 7, 30, 64):
        model = made()
        parts = [model.surprise(windows[i : i + cut], targets[i : i + cut]) for i in range(0, 300, cut)]
        assert whole.tolist() == np.concatenate(parts).tolist()


def test_distributions_are_those_of_single_windows(rows):
    """Many windows at once have the log-probabilities of each alone, to the bit."""
    windows, _ = rows
    model = made()
    assert (model.distributions(windows) == np.stack([model.distribution(w) for w in windows])).all()


def test_memory_does_not_matter(rows):
    """With room for four rows the surprises are those with room for all; repeats are answered from memory."""
    windows, targets = rows
    small, large = made(memo_entries=4), made()
    for model in (small, large):
        model.surprise(windows, targets)
    assert small.surprise(windows, targets).tolist() == large.surprise(windows, targets).tolist()
    assert large.memo.hits >= 300


def test_nothing_is_scored_of_nothing():
    """No rows, no surprises."""
    assert made().surprise(np.zeros((0, C), np.int32), np.zeros(0, np.int32)).tolist() == []


def test_the_kernels_are_named():
    """XNNPACK takes the graph where the runtime can see the processor."""
    assert made().kernels in {"xnnpack", "reference"}


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"window": 5}, "the manifest says"),
        ({"vocabulary": 13}, "the manifest says"),
        ({"b1": B64}, "model of batch 1"),
        ({"b64": B1}, "model of batch 64"),
        ({"b1": b"x" * 100}, "no TFLite file"),
        ({"b64": B64[:300]}, "damaged|refuses"),
    ],
)
def test_wrong_models_are_refused_in_one_sentence(wrong, said):
    """A file of other shape, or damaged, is a ConfigError of one line."""
    options = {"b1": B1, "b64": B64, "window": C, "vocabulary": V} | wrong
    with pytest.raises(ConfigError, match=said) as refused:
        SequenceModel(options.pop("b1"), options.pop("b64"), **options)
    assert "\n" not in str(refused.value)


def test_a_runtime_can_be_forced(monkeypatch):
    """FORETAIL_RUNTIME takes the named runtime, and only known names."""
    monkeypatch.setenv("FORETAIL_RUNTIME", "tensorflow")
    with pytest.raises(ConfigError, match="FORETAIL_RUNTIME"):
        runtime()


def test_loading_says_nothing_and_imports_no_trainer():
    """A process that loads a model writes nothing to stderr and has no tensorflow, keras or sklearn inside."""
    code = (
        "import sys; from pathlib import Path; from foretail.model import SequenceModel\n"
        f"b1, b64 = (Path({str(MODELS)!r}, n).read_bytes() for n in ('b1.tflite', 'b64.tflite'))\n"
        f"SequenceModel(b1, b64, window={C}, vocabulary={V})\n"
        "print(sorted({'tensorflow', 'keras', 'sklearn'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("[]\n", "")
