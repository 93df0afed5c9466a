"""Times layer norm over the channels of [N, C, H, W] as it lies, as in the stages of ConvNeXt-T:
this library's call beside PyTorch's, which moves the channels to the end and back, beside the
formula written out, as ConvNeXt's own module has it, and, since nothing moves less, beside this
library's call on as many rows that lie side by side.

    PYTHONPATH=bindings/python .venv-frameworks/bin/python Benchmarks/channels_first.py
"""

import layernorm
import numpy as np
import torch
from frameworks import interleaved

SHAPES = (8, 96, 56, 56), (8, 192, 28, 28), (8, 384, 14, 14), (8, 768, 7, 7), (8, 1024, 32, 32)
DTYPES = torch.float32, torch.float16
EPS = 1e-6
OURS, MOVED, WRITTEN = "layernorm", "PyTorch, permuted", "PyTorch, written out"
BESIDE = "(layernorm, channels last)"


def moved(x, weight, bias):
    y = torch.nn.functional.layer_norm(x.permute(0, 2, 3, 1), weight.shape, weight, bias, EPS)
    return y.permute(0, 3, 1, 2).contiguous()


def written_out(x, weight, bias):
    centered = x - x.mean(1, keepdim=True)
    variance = centered.pow(2).mean(1, keepdim=True)
    return centered / (variance + EPS).sqrt() * weight[:, None, None] + bias[:, None, None]


def calls(shape, dtype):
    torch.manual_seed(0)
    x = torch.randn(shape).to(dtype)
    weight, bias = (torch.randn(shape[1]).to(dtype) for _ in range(2))
    y = torch.empty_like(x)
    a, w, b, to = (t.numpy() for t in (x, weight, bias, y))
    rows, out = (array.reshape(-1, shape[1]) for array in (a.copy(), np.empty_like(a)))
    table = {
        OURS: lambda: layernorm.layer_norm(a, None, w, b, EPS, axis=1, out=to),
        MOVED: lambda: moved(x, weight, bias),
        WRITTEN: lambda: written_out(x, weight, bias),
        BESIDE: lambda: layernorm.layer_norm(rows, None, w, b, EPS, out=out),
    }
    expected = moved(x.double(), weight.double(), bias.double()).numpy()
    tolerance = 0.05 if dtype.itemsize == 2 else 1e-4
    for name in OURS, MOVED, WRITTEN:
        np.testing.assert_allclose(table[name](), expected, 0, tolerance)
    return table


def main():
    print(f"PyTorch {torch.__version__}, {layernorm.isa()}")
    for threads in 1, 2:
        torch.set_num_threads(threads)
        layernorm.set_num_threads(threads)
        for dtype in DTYPES:
            cases = {}
            with torch.no_grad():
                for shape in SHAPES:
                    name = "x".join(map(str, shape))
                    cases[name] = interleaved.microseconds(calls(shape, dtype))
            interleaved.table(f"Layer norm over channels, {dtype}, {threads} threads", cases)


if __name__ == "__main__":
    main()
