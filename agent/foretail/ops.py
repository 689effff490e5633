"""Pure: which operators a TFLite file asks for, read from its bytes before any runtime touches them.

A TFLite file is a FlatBuffer (https://flatbuffers.dev/internals); only the path root -> operator_codes is followed.
Every read is checked against the file's length: a hostile file costs an error, never a crash.
"""

from __future__ import annotations

import struct

from foretail.errors import ConfigError

ALLOWED = frozenset(
    {
        "ADD", "CONCATENATION", "CONV_2D", "DEPTHWISE_CONV_2D", "DEQUANTIZE", "EXPAND_DIMS", "FILL",
        "FULLY_CONNECTED", "GATHER", "LOGISTIC", "MAX_POOL_2D", "MEAN", "MUL", "PACK", "PAD", "QUANTIZE", "RELU",
        "RESHAPE", "SLICE", "SPLIT", "STRIDED_SLICE", "SUB", "TANH", "TRANSPOSE", "UNPACK",
    }
)  # fmt: skip
"""Stateless arithmetic without control flow, resources or custom code: all that foretail's networks export to."""

_NAMES = {
    0: "ADD", 2: "CONCATENATION", 3: "CONV_2D", 4: "DEPTHWISE_CONV_2D", 6: "DEQUANTIZE", 7: "EMBEDDING_LOOKUP",
    9: "FULLY_CONNECTED", 14: "LOGISTIC", 16: "LSTM", 17: "MAX_POOL_2D", 18: "MUL", 19: "RELU", 22: "RESHAPE",
    24: "RNN", 25: "SOFTMAX", 28: "TANH", 32: "CUSTOM", 34: "PAD", 36: "GATHER", 39: "TRANSPOSE", 40: "MEAN",
    41: "SUB", 44: "UNIDIRECTIONAL_SEQUENCE_LSTM", 45: "STRIDED_SLICE", 49: "SPLIT", 50: "LOG_SOFTMAX",
    65: "SLICE", 70: "EXPAND_DIMS", 83: "PACK", 88: "UNPACK", 94: "FILL", 114: "QUANTIZE", 119: "WHILE",
    129: "CALL_ONCE", 142: "VAR_HANDLE", 143: "READ_VARIABLE", 144: "ASSIGN_VARIABLE",
}  # fmt: skip
"""BuiltinOperator of the TFLite schema, as far as foretail meets it."""

_OPERATORS_MAX = 1024  # a damaged count ends at the file's end or here


class _Bytes:
    """The four reads that a FlatBuffer needs, each within bounds."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def number(self, form: str, at: int) -> int:
        if at < 0:
            raise struct.error
        value: int = struct.unpack_from("<" + form, self._data, at)[0]
        return value

    def follow(self, at: int) -> int:
        return at + self.number("I", at)

    def field(self, table: int, index: int) -> int | None:
        """Where field `index` of a table stands; None if it is left at its default."""
        vtable = table - self.number("i", table)
        if 4 + 2 * index >= self.number("H", vtable):
            return None
        offset = self.number("H", vtable + 4 + 2 * index)
        return table + offset if offset else None

    def text(self, at: int) -> str:
        start = self.follow(at)
        length = self.number("I", start)
        return self._data[start + 4 : start + 4 + min(length, 64)].decode("ascii", "replace")


def operators(model: bytes) -> tuple[str, ...]:
    """Names of the operators in a TFLite file, sorted.

    Custom operators read `CUSTOM:name`, builtins that foretail has no name for `BUILTIN:number`.

    Raises:
        ConfigError: the bytes are no TFLite file.
    """
    if model[4:8] != b"TFL3":
        raise ConfigError(f"The model is no TFLite file ({len(model)} bytes without its mark): build the bundle again.")
    data = _Bytes(model)
    try:
        codes = data.field(data.follow(0), 1)
        if codes is None:
            return ()
        start = data.follow(codes)
        count = data.number("I", start)
        return tuple(sorted({_name(data, data.follow(start + 4 + 4 * i)) for i in range(min(count, _OPERATORS_MAX))}))
    except struct.error:
        raise ConfigError(f"The TFLite file is damaged ({len(model)} bytes): build the bundle again.") from None


def _name(data: _Bytes, code: int) -> str:
    custom = data.field(code, 1)
    if custom is not None:
        return "CUSTOM:" + data.text(custom)
    old, new = data.field(code, 0), data.field(code, 3)  # 127 operators fitted the old int8 field, the rest the new
    number = max(data.number("b", old) if old is not None else 0, data.number("i", new) if new is not None else 0)
    return _NAMES.get(number, f"BUILTIN:{number}")


def check_operators(model: bytes) -> None:
    """Refuse a model that holds anything but allowed builtin operators.

    Raises:
        ConfigError: names the operators that are not allowed.
    """
    strange = [name for name in operators(model) if name not in ALLOWED]
    if strange:
        raise ConfigError(f"The model holds operators that foretail does not run: {', '.join(strange)}.")
