"""The operator list is read from bytes alone, and damaged bytes cost an error, never a crash."""

import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foretail.errors import ConfigError
from foretail.ops import ALLOWED, check_operators, operators

MODEL = Path(__file__).with_name("models").joinpath("b1.tflite").read_bytes()


def test_operators_are_named():
    """An unrolled LSTM takes these and nothing else."""
    found = operators(MODEL)
    assert {"ADD", "FULLY_CONNECTED", "GATHER", "LOGISTIC", "MUL", "SPLIT", "TANH", "UNPACK"} <= set(found)
    assert set(found) <= ALLOWED
    assert sorted(found) == list(found)
    check_operators(MODEL)


def test_other_operators_are_named_in_the_refusal():
    """An operator beyond the list is refused by its name."""
    at = next(i for i in range(len(MODEL)) if _renumbered(MODEL, i) is not None)
    with pytest.raises(ConfigError, match="WHILE"):
        check_operators(_renumbered(MODEL, at))


def _renumbered(model, at):
    """The model with byte `at` made 119 (WHILE), if that turns TANH into WHILE."""
    changed = model[:at] + bytes([119]) + model[at + 1 :]
    try:
        found = operators(changed)
    except ConfigError:
        return None
    return changed if "WHILE" in found else None


@pytest.mark.parametrize("content", [b"", b"TFL3", b"no model at all", b"\x00" * 64])
def test_what_is_no_model_is_refused(content):
    """Anything without the mark of a TFLite file gives one sentence."""
    with pytest.raises(ConfigError, match="no TFLite file"):
        operators(content)


@given(st.integers(0, 400), st.binary(min_size=1, max_size=8), st.integers(8, len(MODEL)))
def test_damage_is_an_error_or_a_list(at, garbage, length):
    """Whatever bytes are changed or cut off, the reader ends with a list or a ConfigError."""
    damaged = (MODEL[:at] + garbage + MODEL[at + len(garbage) :])[:length]
    with contextlib.suppress(ConfigError):
        assert all(isinstance(name, str) for name in operators(damaged))
