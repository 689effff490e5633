"""Native libraries write to file descriptor 2 whatever Python thinks of it; this keeps their chatter out of the log."""

from __future__ import annotations

import os
import tempfile
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def informative(line: bytes) -> bool:
    """Whether a line of a native library says more than that something went as it should."""
    return bool(line.strip()) and not line.startswith(b"INFO:")


@contextmanager
def hush(keep: Callable[[bytes], bool] = informative) -> Iterator[None]:
    """Hold back what is written to descriptor 2 within; at the end write out those lines for which `keep` is true.

    For the few milliseconds in which a library loads: descriptors belong to the whole process.
    """
    try:
        terminal = os.dup(2)
    except OSError:  # a service without stderr has nothing to keep clean
        yield
        return
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(terminal, 2)
            os.close(terminal)
            held.seek(0)
            kept = b"".join(line for line in held if keep(line))
            if kept:
                os.write(2, kept)
