"""The types: that the package agrees with its own, and what a caller's checker infers."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]

CALLER = """
import numpy as np
from numpy.typing import NDArray
import layernorm

x: NDArray[np.float32] = np.zeros((2, 3), np.float32)
reveal_type(layernorm.layer_norm(x, 3, eps=1e-6))
reveal_type(layernorm.layer_norm(x, (3,), weight=[1.0, 2.0, 3.0], return_stats=True))
reveal_type(layernorm.layer_norm(x, out=x))
reveal_type(layernorm.layer_norm(x, out=x, return_stats=True)[0])
reveal_type(layernorm.isa())
layernorm.layer_norm(x, 3.0)
layernorm.set_num_threads("2")
"""


def mypy(*arguments, cwd):
    command = [sys.executable, "-m", "mypy", "--config-file", ROOT / "pyproject.toml", *arguments]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    return done.stdout.splitlines()


def test_package(tmp_path):
    cache = f"--cache-dir={tmp_path}"
    assert mypy(cache, cwd=ROOT)[-1].startswith("Success: no issues found in 6 source files")


def test_caller(tmp_path):
    (tmp_path / "caller.py").write_text(CALLER)
    lines = mypy(f"--cache-dir={tmp_path}", tmp_path / "caller.py", cwd=ROOT)
    revealed = [line.split('"')[1].replace("numpy.", "") for line in lines if "Revealed" in line]
    errors = [line.split(":")[1] for line in lines if ": error: " in line]
    print("\n".join(lines))
    assert len(revealed) == 5
    assert errors == ["12", "13"]
