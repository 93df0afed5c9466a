"""The functions of tvm-ffi with tensors of PyTorch, beside PyTorch's own operations, which allocate
what they return, and the package for NumPy, in float32."""

import interleaved
import layernorm
import layernorm.tvm_ffi
import torch

EPS = 1e-5


def calls(module, rows, cols):
    dy, x = torch.randn(2, rows, cols).unbind(0)
    weight, bias = torch.ones(cols), torch.zeros(cols)
    y, dx = torch.empty_like(x), torch.empty_like(x)
    mean, rstd = torch.empty(rows), torch.empty(rows)
    dweight, dbias = torch.empty_like(weight), torch.empty_like(bias)
    arrays = {"weight": weight, "bias": bias, "x": x, "dy": dy, "y": y, "dx": dx}
    arrays = {name: tensor.numpy() for name, tensor in arrays.items()}
    forward, backward = module.layer_norm, module.layer_norm_backward
    aten = torch.ops.aten

    def ours():
        forward(x, weight, bias, EPS, y, mean, rstd)
        backward(dy, x, weight, mean, rstd, EPS, dx, dweight, dbias)

    def theirs():
        _, mean, rstd = aten.native_layer_norm(x, [cols], weight, bias, EPS)
        aten.native_layer_norm_backward(dy, x, [cols], mean, rstd, weight, bias, [True] * 3)

    def ctypes():
        given = arrays["x"], cols, arrays["weight"]
        _, mean, rstd = layernorm.layer_norm(
            *given, arrays["bias"], out=arrays["y"], return_stats=True
        )
        layernorm.layer_norm_backward(arrays["dy"], *given, mean, rstd, dx=arrays["dx"])

    return {
        "forward": {
            "tvm-ffi": lambda: forward(x, weight, bias, EPS, y),
            "torch": lambda: torch.nn.functional.layer_norm(x, (cols,), weight, bias, EPS),
            "ctypes": lambda: layernorm.layer_norm(
                arrays["x"], cols, arrays["weight"], arrays["bias"], out=arrays["y"]
            ),
        },
        "forward and backward": {"tvm-ffi": ours, "torch": theirs, "ctypes": ctypes},
    }


def main():
    module = layernorm.tvm_ffi.load()
    tables = {}
    for rows, cols in interleaved.SHAPES:
        for title, compared in calls(module, rows, cols).items():
            measured = interleaved.microseconds(compared)
            tables.setdefault(title, {})[f"{rows} x {cols}"] = measured
    for title, rows in tables.items():
        interleaved.table(f"tvm-ffi, PyTorch {torch.__version__}, {title}", rows)


if __name__ == "__main__":
    main()
