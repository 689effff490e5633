"""Makes the two TFLite files of this folder: an untrained LSTM with C 4, U 8, V 12, for tests without the trainer.

python tests/agent/models/make.py
"""

from pathlib import Path

import numpy as np

from foretail_trainer.export import export
from foretail_trainer.network import Shape, Weights, initial

if __name__ == "__main__":
    rng = np.random.default_rng(12)
    shape = Shape("lstm", 1, 8, 4, 12, 4)
    weights = Weights(shape, tuple(rng.normal(0, 0.7, a.shape).astype(np.float32) for a in initial(shape).arrays))
    for batch in (1, 64):
        Path(__file__).with_name(f"b{batch}.tflite").write_bytes(export(weights, batch))
