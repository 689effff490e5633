"""Make the golden bundles and what they must say: `python tests/golden/make.py [bundle] [others]` (needs the trainer).

`bundle` holds a sequence model and judges the log of the demo's storage service; `others` holds a volume detector and a
line classifier and judges `paced.log`. Nothing of anybody's data is committed. Run it when a format was extended or the
models changed on purpose, and read the difference before you commit it.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import paced

from foretail_trainer.workload import Workload, plans

HERE = Path(__file__).resolve().parent
START = 1_767_225_600.0
TRAIN_S, TEST_S, RATE = 1500, 120, 8.0
EMITS = ("lines", "sessions", "incidents")


def log(path: Path, seed: int, start: float, seconds: float, *, faults: bool) -> None:
    """Write the service's log."""
    workload = Workload(seed, start, RATE, plan=plans(10, seconds - 20) if faults else ())
    path.write_text("".join(f"{event.text}\n" for event in workload.events(seconds, 10)), encoding="ascii")


def fit(train: Path, name: str, *options: str) -> None:
    """Fit a bundle into its folder here."""
    made, target = train.parent / "bundle", HERE / name
    asked = ["fit", str(train), "--out", str(made), "--name", "golden", "--version-number", "1", *options]
    subprocess.run([sys.executable, "-m", "foretail_trainer.cli", *asked], check=True)
    target.mkdir(exist_ok=True)
    for old in target.iterdir():
        old.unlink()
    for new in made.iterdir():
        (target / new.name).write_bytes(new.read_bytes())


def said(bundle: str, emit: str, path: Path) -> bytes:
    """What the agent says of a log, which it knows by its name alone."""
    command = [sys.executable, "-m", "foretail", "score", "--bundle", str(HERE / bundle), "--emit", emit, path.name]
    return subprocess.run(command, cwd=path.parent, check=True, capture_output=True).stdout


def main() -> None:
    """Train, then write what the agent says."""
    wanted = sys.argv[1:] or ["bundle", "others"]
    with tempfile.TemporaryDirectory() as folder:
        train = Path(folder, "train.log")
        if "bundle" in wanted:
            log(train, 11, START, TRAIN_S, faults=False)
            fit(train, "bundle", "--false-alert-rate", "0.001")
            log(HERE / "storage.log", 12, START + 10_000, TEST_S, faults=True)
            for emit in EMITS:
                (HERE / f"{emit}.jsonl").write_bytes(said("bundle", emit, HERE / "storage.log"))
        if "others" in wanted:
            train.write_text("\n".join(paced.log(1, 240, faults=False)) + "\n", encoding="ascii")
            labels, judged = Path(folder, "labels.csv"), Path(folder, "paced.log")
            labels.write_text(paced.labelled(2, 2000), encoding="ascii")
            lines = ("--lines", str(labels), "--text", "text", "--label", "label")
            fit(train, "others", "--detectors", "volume", "--key", "none", *lines)
            judged.write_text("\n".join(paced.log(3, paced.MINUTES, faults=True)) + "\n", encoding="ascii")
            (HERE / "others.jsonl").write_bytes(said("others", "anomalies", judged))


if __name__ == "__main__":
    main()
