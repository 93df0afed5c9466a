"""The work is done on the session's threads, and the bits do not depend on them."""

from concurrent.futures import ThreadPoolExecutor

import layernorm
import numpy as np
import pytest
from models import DTYPES, node_model, normal, run, run_python, same_bits, session

F32 = np.dtype(np.float32)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_same_bits_on_two_threads(dtype):
    x, weight, bias = normal((1500, 768), dtype), normal(768, dtype, 1), normal(768, dtype, 2)
    inputs = {
        "LayerNormalization": [x, weight, bias],
        "RMSNormalization": [x, weight],
        "SkipLayerNormalization": [x.reshape(3, 500, 768), x[:500], weight, bias, weight],
        "SkipSimplifiedLayerNormalization": [x, x[::-1].copy(), weight, bias],
    }
    for operator, given in inputs.items():
        wanted = {2: [dtype, F32], 3: [dtype, F32, F32]}.get(len(given), [dtype, None, F32, dtype])
        one, two = (run(operator, given, wanted, threads=n) for n in (1, 2))
        for a, b in zip(one, two, strict=True):
            assert same_bits(a, b)
    correct = layernorm.layer_norm(x, weight=weight, bias=bias, eps=float(np.float32(1e-5)))
    (y,) = run("LayerNormalization", [x, weight, bias], [dtype], threads=2)
    assert same_bits(y, correct)


def test_broadcast_on_two_threads():
    x, weight = normal((6, 200, 768), F32), normal((6, 1, 1), F32, 1)
    one, two = (run("LayerNormalization", [x, weight, weight], [F32], threads=n)[0] for n in (1, 2))
    assert same_bits(one, two)
    np.testing.assert_allclose(one, layernorm.layer_norm(x) * weight + weight, rtol=1e-5, atol=1e-5)


def test_sessions_at_once():
    """Several sessions, each run by several threads, beside calls from Python."""
    x, weight = normal((1024, 768), F32), normal(768, F32, 1)
    feed = {"in0": x, "in1": weight}
    model = node_model("LayerNormalization", [x, weight], [F32])
    sessions = [session(model, threads) for threads in (1, 2, 3)]
    eps = float(np.float32(1e-5))
    correct = layernorm.layer_norm(x, weight=weight, eps=eps)

    def call(index):
        if index % 4 == 3:
            return layernorm.layer_norm(x, weight=weight, eps=eps)
        return sessions[index % 4].run(None, feed)[0]

    with ThreadPoolExecutor(8) as threads:
        for y in threads.map(call, range(80)):
            assert same_bits(y, correct)


def test_threads_are_the_sessions():
    """Neither the library's own threads nor a change for other callers in the process."""
    code = (
        "import os\n"
        "import layernorm\n"
        "from models import *\n"
        "x, weight = normal((4096, 768), np.float32), normal(768, np.float32, 1)\n"
        "model = node_model('LayerNormalization', [x, weight], [x.dtype])\n"
        "def threads(): return len(os.listdir('/proc/self/task'))\n"
        "first = threads()\n"
        "session(model, 1).run(None, {'in0': x, 'in1': weight})\n"
        "print(threads() - first)\n"
        "three = session(model, 3)\n"
        "made = threads()\n"
        "three.run(None, {'in0': x, 'in1': weight})\n"
        "print(threads() - made)\n"
        "layernorm.layer_norm(x)\n"
        "print(threads() - made)\n"
    )
    assert run_python(code, LAYERNORM_NUM_THREADS="4").split() == ["0", "0", "3"]
