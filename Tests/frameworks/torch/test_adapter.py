"""The native adapter, and what takes its place where it cannot be loaded."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import layernorm
import pytest
from layernorm import _library
from layernorm.torch import _operators

HERE = Path(__file__).parent


def python(program, **environment):
    return subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | environment,
        capture_output=True,
        text=True,
    )


def test_the_native_adapter_is_in_use():
    assert _operators.native_error is None
    assert _library.adapter("torch").exists()


WITHOUT_ADAPTER = f"""
import sys, pytest
from layernorm.torch import _operators
assert "liblayernorm_torch.so" in _operators.native_error
sys.exit(pytest.main(["-q", "-x", "-p", "no:cacheprovider", "{HERE}/test_functions.py",
    "{HERE}/test_install.py", "{HERE}/test_modules.py", "{HERE}/test_recurrent.py"]))
"""


def test_ctypes_where_there_is_no_adapter(tmp_path):
    library = shutil.copy(layernorm.library_path(), tmp_path)
    done = python(WITHOUT_ADAPTER, LAYERNORM_LIBRARY=str(library))
    assert done.returncode == 0, done.stdout + done.stderr


def test_an_adapter_that_does_not_load(tmp_path):
    library = shutil.copy(layernorm.library_path(), tmp_path)
    (tmp_path / "liblayernorm_torch.so").write_text("not a library")
    program = "import torch, layernorm.torch as t; print(t.rms_norm(torch.ones(2), (2,)))"
    done = python(program, LAYERNORM_LIBRARY=str(library))
    assert done.stdout == "tensor([1.0000, 1.0000])\n", done.stderr


THREADS = """
import os, torch, layernorm.torch as t
from layernorm.torch.recurrent import LSTM
torch.set_num_threads({threads})
x, lstm, steps = torch.randn(8192, 768), LSTM(16, 256), torch.randn(2, 256, 16)
calls = {{"norm": lambda: t.layer_norm(x, (768,)), "lstm": lambda: lstm(steps)[0].sum().backward()}}
before = len(os.listdir("/proc/self/task"))
for _ in range(20):
    calls["{call}"]()
print(len(os.listdir("/proc/self/task")) - before)
"""


@pytest.mark.parametrize("call", ["norm", "lstm"])
@pytest.mark.parametrize("threads", [1, 2])
def test_threads_are_pytorchs(threads, call):
    program = THREADS.format(threads=threads, call=call)
    done = python(program, LAYERNORM_NUM_THREADS="2")
    assert done.stdout.strip() == str(threads - 1), done.stderr


def test_an_error_of_the_library_is_raised():
    program = "import torch, layernorm.torch as t; t.layer_norm(torch.ones(2, 2), (2,))"
    done = python(program, LAYERNORM_ISA="z80")
    assert done.returncode == 1
    assert "RuntimeError: LAYERNORM_ISA" in done.stderr


LEAKS = """
import os, torch, layernorm.torch as t
from torch.nn import functional

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

def work(times):
    x, r = (torch.randn(16, 1024, requires_grad=True) for _ in range(2))
    w, b = (torch.ones(1024, requires_grad=True) for _ in range(2))
    for dtype in torch.float32, torch.bfloat16:
        a = [each.to(dtype) for each in (x, r, w, b)]
        for _ in range(times):
            t.layer_norm(a[0], (1024,), a[2], a[3]).sum().backward()
            t.rms_norm(a[0], (1024,), a[2]).sum().backward()
            sum(t.add_layer_norm(a[0], a[1], (1024,), a[2], a[3])).sum().backward()
            sum(t.add_rms_norm(a[0], a[1], (1024,), a[2])).sum().backward()
            with t.installed():
                functional.layer_norm(a[0], (1024,), a[2], a[3]).sum().backward()
                functional.rms_norm(a[0], (1024,), a[2]).sum().backward()
                functional.layer_norm(a[0][:0], (1024,), a[2])  # is not covered
                try:
                    functional.layer_norm(a[0], (1023,))
                except RuntimeError:
                    pass

work(20)
before = resident()
work(200)
print((resident() - before) >> 20)
"""


def test_nothing_leaks():
    done = python(LEAKS)
    assert int(done.stdout) < 12, done.stderr  # one tensor leaked in each call of one kind: 25


def test_nothing_is_printed():
    program = """
import torch, layernorm.torch as t
t.install()
norm = torch.nn.LayerNorm(8)
norm(torch.ones(2, 8)).sum().backward()
t.uninstall()
try:
    t.layer_norm(torch.ones(3, 4), (5,))
except RuntimeError:
    pass
"""
    done = python(program)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
