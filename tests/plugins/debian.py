"""The real rsyslogd and syslog-ng, unpacked from Debian's packages into `.cache/` (the packages conflict)."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from pathlib import Path

CACHE = Path(__file__).parents[2] / ".cache" / "debian"
PACKAGES = {
    "rsyslog": ("rsyslog", "libestr0", "libfastjson4", "liblognorm5"),
    "syslog-ng": ("syslog-ng-core", "libivykis0", "libnet1", "libwrap0", "libjson-c5", "libpcre3", "libglib2.0-0"),
}


def root(name: str) -> Path | None:
    """The folder that holds the program and its libraries; None where Debian's packages are not to be had."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # tests run side by side
        return _unpacked(name, CACHE / name)


def _unpacked(name: str, folder: Path) -> Path | None:
    if (folder / "complete").exists():
        return folder
    if shutil.which("apt-get") is None or shutil.which("dpkg") is None:
        return None
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    command = ["apt-get", "download", *PACKAGES[name]]
    fetched = subprocess.run(command, cwd=folder, capture_output=True, timeout=300, check=False)
    for package in folder.glob("*.deb"):
        subprocess.run(["dpkg", "-x", package, folder], check=True)
        package.unlink()
    if fetched.returncode:
        return None
    (folder / "complete").touch()
    return folder


def environment(folder: Path) -> dict[str, str]:
    """With the unpacked libraries first."""
    places = ("usr/lib/syslog-ng", "usr/lib/*-linux-gnu", "lib/*-linux-gnu")
    libraries = [path for place in places for path in folder.glob(place)]
    return os.environ | {"LD_LIBRARY_PATH": ":".join(map(str, libraries))}
