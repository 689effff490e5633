"""What a window costs: int8 against float32, files against their float32 twins, every cell.

    python tests/bench/bench_model.py [--check] [--rounds 5]

Weights are random: time and size depend on the shape alone. Times are CPU times, so that a busy machine changes little.
Writes bench/model.json.
Must hold (issue 4): at C 10, U 64, V 500 a window in batches of 64 costs at most 5 us, int8 is at least 1.4 times
faster than float32, each file is at most 0.45 of its float32 twin.
"""

import argparse
import json
import statistics
import sys
import time
from pathlib import Path

import numpy as np

from foretail.model import SequenceModel
from foretail_trainer.export import export
from foretail_trainer.network import Shape, Weights, initial

CELLS = [("lstm", 1), ("gru", 1), ("rnn", 1), ("lstm", 2)]
US_MAX, FASTER_MIN, SIZE_MAX = 5.0, 1.4, 0.45


def scattered(shape):
    rng = np.random.default_rng(0)
    return Weights(shape, tuple(rng.normal(0, 0.2, a.shape).astype(np.float32) for a in initial(shape).arrays))


def timed(graph, batch, window, repeats):
    """Microseconds a window: the best of a few runs of `repeats` invocations."""
    graph.logits(window)
    best = np.inf
    for _ in range(5):
        start = time.process_time()
        for _ in range(repeats):
            graph.logits(window)
        best = min(best, (time.process_time() - start) / repeats / batch * 1e6)
    return best


def measure(cell, layers, rounds):
    """One row of the table: sizes and medians of `rounds` interleaved measurements."""
    shape = Shape(cell, layers, 64, 10, 500)
    weights = scattered(shape)
    files = {(b, q): export(weights, b, quantize=q) for b in (1, 64) for q in (True, False)}
    int8 = SequenceModel(files[1, True], files[64, True], window=10, vocabulary=500)
    float32 = SequenceModel(files[1, False], files[64, False], window=10, vocabulary=500)
    window = np.random.default_rng(1).integers(0, 500, (64, 10)).astype(np.int32)
    runs = {"us_64": [], "us_1": [], "float_us_64": [], "float_us_1": [], "faster": []}
    for _ in range(rounds):
        runs["us_64"].append(timed(int8._batch, 64, window, 30))
        runs["float_us_64"].append(timed(float32._batch, 64, window, 30))
        runs["us_1"].append(timed(int8._single, 1, window[:1], 300))
        runs["float_us_1"].append(timed(float32._single, 1, window[:1], 300))
        runs["faster"].append(runs["float_us_64"][-1] / runs["us_64"][-1])
    return {
        "cell": cell,
        "layers": layers,
        "parameters": shape.parameters,
        "kernels": int8.kernels,
        "bytes": max(len(files[b, True]) for b in (1, 64)),
        "size_ratio": max(len(files[b, True]) / len(files[b, False]) for b in (1, 64)),
        **{name: statistics.median(values) for name, values in runs.items()},
    }


def rows(rounds):
    """Microseconds a row of `surprise`: all new, and with 97 % repeats, in batches of 2,000."""
    weights = scattered(Shape(window=10, vocabulary=500))
    b1, b64 = export(weights, 1), export(weights, 64)
    rng = np.random.default_rng(2)
    found = {"new_us": [], "repeats_us": []}
    for _ in range(rounds):
        model = SequenceModel(b1, b64, window=10, vocabulary=500)
        fresh = rng.integers(0, 500, (2_000, 10)).astype(np.int32)
        target = fresh[:, 0].copy()
        start = time.process_time()
        model.surprise(fresh, target)
        found["new_us"].append((time.process_time() - start) / 2_000 * 1e6)
        spent = 0.0
        for _ in range(50):
            batch = fresh[rng.integers(0, 2_000, 2_000)]
            batch[:60] = rng.integers(0, 500, (60, 10))
            start = time.process_time()
            model.surprise(batch, batch[:, 0].copy())
            spent += time.process_time() - start
        found["repeats_us"].append(spent / 100_000 * 1e6)
    return {name: statistics.median(values) for name, values in found.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="the median of so many")
    parser.add_argument("--check", action="store_true", help="exit 1 when a must-hold is missed")
    options = parser.parse_args()
    table = [measure(cell, layers, options.rounds) for cell, layers in CELLS]
    print("C 10, U 64, V 500; us a window, median; size of the larger file, and against float32")
    print(
        f"{'cell':10}{'params':>8}{'int8/64':>9}{'f32/64':>8}{'faster':>8}{'int8/1':>8}{'f32/1':>7}{'KB':>6}{'ratio':>7}"
    )
    for row in table:
        name = f"{row['cell']} x {row['layers']}"
        print(
            f"{name:10}{row['parameters']:8}{row['us_64']:9.2f}{row['float_us_64']:8.2f}{row['faster']:8.2f}"
            f"{row['us_1']:8.1f}{row['float_us_1']:7.1f}{row['bytes'] / 1000:6.0f}{row['size_ratio']:7.3f}"
        )
    whole = rows(options.rounds)
    print(f"surprise() a row: all new {whole['new_us']:.2f} us; 97 % repeats {whole['repeats_us']:.2f} us")
    Path("bench").mkdir(exist_ok=True)
    Path("bench/model.json").write_text(json.dumps({"cells": table, "rows": whole}, indent=1))
    lstm = table[0]
    held = lstm["us_64"] <= US_MAX and lstm["faster"] >= FASTER_MIN and all(r["size_ratio"] <= SIZE_MAX for r in table)
    print("must-holds of issue 4: " + ("held" if held else "MISSED"))
    return 1 if options.check and not held else 0


if __name__ == "__main__":
    sys.exit(main())
