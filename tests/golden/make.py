"""Make the golden bundle, its log and what it must say again: `python tests/golden/make.py` (needs the trainer).

The log is that of the demo's storage service, so nothing of anybody's data is committed. Run it when a format was
extended or the models changed on purpose, and read the difference before you commit it.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from foretail_trainer.workload import Workload, plans

HERE = Path(__file__).resolve().parent
START = 1_767_225_600.0
TRAIN_S, TEST_S, RATE = 1500, 120, 8.0
EMITS = ("lines", "sessions", "incidents")


def log(path: Path, seed: int, start: float, seconds: float, *, faults: bool) -> None:
    """Write the service's log."""
    workload = Workload(seed, start, RATE, plan=plans(10, seconds - 20) if faults else ())
    path.write_text("".join(f"{event.text}\n" for event in workload.events(seconds, 10)), encoding="ascii")


def main() -> None:
    """Train, then write what the agent says."""
    with tempfile.TemporaryDirectory() as folder:
        train = Path(folder) / "storage.log"
        log(train, 11, START, TRAIN_S, faults=False)
        options = ["--name", "golden", "--version-number", "1", "--false-alert-rate", "0.001"]
        run = ["foretail-train", "fit", str(train), "--out", f"{folder}/bundle", *options]
        subprocess.run([sys.executable, "-m", "foretail_trainer.cli", *run[1:]], check=True)
        target = HERE / "bundle"
        target.mkdir(exist_ok=True)
        for old in target.iterdir():
            old.unlink()
        for new in (Path(folder) / "bundle").iterdir():
            (target / new.name).write_bytes(new.read_bytes())
    log(HERE / "storage.log", 12, START + 10_000, TEST_S, faults=True)
    for emit in EMITS:
        command = [sys.executable, "-m", "foretail", "score", "--bundle", "bundle", "--emit", emit, "storage.log"]
        out = subprocess.run(command, cwd=HERE, check=True, capture_output=True).stdout
        (HERE / f"{emit}.jsonl").write_bytes(out)


if __name__ == "__main__":
    main()
