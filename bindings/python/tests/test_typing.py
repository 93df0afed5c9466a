"""The types: that the package agrees with its own, and what a caller's checker infers."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]

CALLER = """
import numpy as np
from numpy.typing import NDArray
import layernorm

x: NDArray[np.float32] = np.zeros((2, 3), np.float32)
w: NDArray[np.float32] = np.zeros(3, np.float32)
reveal_type(layernorm.layer_norm(x, 3, eps=1e-6))
reveal_type(layernorm.layer_norm(x, (3,), weight=[1.0, 2.0, 3.0], return_stats=True))
reveal_type(layernorm.layer_norm(x, out=x))
reveal_type(layernorm.rms_norm(x, out=x, return_stats=True))
reveal_type(layernorm.add_layer_norm(x, x, sum_out=x))
reveal_type(layernorm.add_rms_norm(x, x, out=x, return_stats=True))
reveal_type(layernorm.layer_norm_backward(x, x))
reveal_type(layernorm.layer_norm_backward(x, x, dx=x, dbias=False))
reveal_type(layernorm.rms_norm_backward(x, x, dweight=w))
reveal_type(layernorm.LayerNorm(w, eps=1e-6)(x))
reveal_type(layernorm.RMSNorm(w, axis=1)(x, out=x, return_stats=True))
reveal_type(layernorm.isa())
layernorm.layer_norm(x, 3.0)
layernorm.set_num_threads("2")
layernorm.layer_norm_backward(x, x, dx=None)
layernorm.layer_norm(x, out=1)
"""

ANY = "ndarray[tuple[Any, ...], dtype[Any]]"
F32 = "ndarray[tuple[Any, ...], dtype[floating[_32Bit]]]"
REVEALED = [
    ANY,
    f"tuple[{ANY}, {ANY}, {ANY}]",
    F32,
    f"tuple[{F32}, {ANY}]",
    f"tuple[{ANY}, {F32}]",
    f"tuple[{F32}, {ANY}, {ANY}]",
    f"tuple[{ANY}, {ANY}, {ANY}]",
    f"tuple[{F32} | None, {ANY} | None, {ANY} | None]",
    f"tuple[{ANY}, {F32}]",
    ANY,
    f"tuple[{F32}, {ANY}]",
    "str",
]


def mypy(*arguments, cwd):
    command = [sys.executable, "-m", "mypy", "--config-file", ROOT / "pyproject.toml", *arguments]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    return done.stdout.splitlines()


def test_package(tmp_path):
    cache = f"--cache-dir={tmp_path}"
    count = len([*(ROOT / "bindings/python/layernorm").rglob("*.py")])
    assert mypy(cache, cwd=ROOT)[-1] == f"Success: no issues found in {count} source files"


def test_caller(tmp_path):
    (tmp_path / "caller.py").write_text(CALLER)
    lines = mypy(f"--cache-dir={tmp_path}", tmp_path / "caller.py", cwd=ROOT)
    print("\n".join(lines))
    revealed = [line.split('"')[1] for line in lines if "Revealed" in line]
    assert [re.sub(r"(\w+\.)+(?=\w)", "", kind) for kind in revealed] == REVEALED
    # In the last four lines.
    errors = [int(line.split(":")[1]) for line in lines if ": error: " in line]
    last = len(CALLER.splitlines())
    assert errors == [*range(last - 3, last + 1)]
