"""Waiting for daemons, and finding what they wrote."""

from __future__ import annotations

import json
import socket
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable

PATIENCE_S = 240.0


def until(fact: Callable[[], Any]) -> bool:
    """Wait for a fact that another process makes true."""
    never = threading.Event()
    for _ in range(int(PATIENCE_S / 0.1)):
        if fact():
            return True
        never.wait(0.1)
    return False


def connected(address: str | tuple[str, int]) -> socket.socket:
    """A stream connection, as soon as somebody listens there."""
    never = threading.Event()
    for _ in range(600):
        plug = socket.socket(socket.AF_UNIX if isinstance(address, str) else socket.AF_INET)
        plug.settimeout(PATIENCE_S)
        try:
            plug.connect(address)
        except (ConnectionRefusedError, FileNotFoundError):
            plug.close()
            never.wait(0.05)
        else:
            return plug
    raise TimeoutError(f"nobody listens at {address}")


def send(address: str | tuple[str, int], messages: list[str]) -> None:
    """Each message as a syslog line over a stream."""
    with connected(address) as plug:
        for message in messages:
            plug.sendall(b"<14>Nov 21 09:00:00 web1 prog[12]: %s\n" % message.encode())


def verdicts(path: Path) -> dict[int, list[str]]:
    """The number of each scored line -> ids of its verdicts."""
    found: dict[int, list[str]] = {}
    for file in sorted(path.parent.glob(f"{path.name}*")):
        whole = file.read_bytes().rpartition(b"\n")[0]
        for line in whole.splitlines():
            record = json.loads(line)
            if record["kind"] == "line":
                found.setdefault(int(record["key"]), []).append(record["id"])
    return found


def count(path: Path) -> int:
    """Lines in a file that may not be there yet."""
    return path.read_bytes().count(b"\n") if path.exists() else 0


def children(process: subprocess.Popen[bytes]) -> list[int]:
    """Process ids of what a daemon started."""
    tasks = Path(f"/proc/{process.pid}/task").glob("*/children")
    return [int(pid) for task in tasks for pid in task.read_text().split()]
