"""What is wrong becomes an exception of ONNX Runtime with a sentence that names the input."""

import ctypes

import layernorm.onnx
import numpy as np
import pytest
from models import normal, run, run_python

F32 = np.dtype(np.float32)
X, W = normal((2, 3, 4), F32), normal(4, F32, 1)

NORM, RMS = "LayerNormalization", "RMSNormalization"
SKIP, SKIP_RMS = "SkipLayerNormalization", "SkipSimplifiedLayerNormalization"


@pytest.mark.parametrize(
    ("operator", "inputs", "attributes", "sentence"),
    [
        (NORM, [X, normal(5, F32)], {}, "scale has the size 5 in dimension 0, where X has 4"),
        (
            NORM,
            [X, W, normal((3, 1, 4), F32)],
            {},
            "B has the size 3 in dimension 0, where X has 2",
        ),
        (
            NORM,
            [X, normal((2, 1, 1, 4), F32)],
            {},
            "scale has the size 2 in dimension 0, where X has 1",
        ),
        (RMS, [X, normal(3, F32)], {}, "scale has the size 3 in dimension 0, where X has 4"),
        (NORM, [X, W], {"axis": 3}, "axis is 3, and X has 3 dimensions"),
        (RMS, [X, W], {"axis": -4}, "axis is -4, and X has 3 dimensions"),
        (NORM, [normal((), F32), W], {}, "axis is -1, and X has 0 dimensions"),
        (NORM, [normal((1,) * 17, F32), W], {}, "X has 17 dimensions, more than 16"),
        (NORM, [X, W], {"stash_type": 16}, "stash_type is 16, not 1: float32"),
        (NORM, [X, W], {"epsilon": -1.0}, "epsilon is -1, not finite and 0 or more"),
        (RMS, [X, W], {"epsilon": float("nan")}, "epsilon is nan, not"),
        (SKIP, [X, normal((2, 4), F32), W], {}, "skip does not have the shape of input"),
        (SKIP, [X, normal((2, 1, 4), F32), W], {}, "skip does not have the shape of input"),
        (SKIP, [X, normal((1, 2, 3, 5), F32), W], {}, "skip does not have the shape of input"),
        (SKIP, [X, normal((), F32), W], {}, "skip does not have the shape of input"),
        (
            SKIP,
            [X, X, normal(3, F32)],
            {},
            "gamma has the size 3 in dimension 0, where input has 4",
        ),
        (
            SKIP,
            [X, X, W, normal(2, F32)],
            {},
            "beta has the size 2 in dimension 0, where input has 4",
        ),
        (SKIP, [X, X, W, W, normal(1, F32)], {}, "bias does not have the shape [4]"),
        (SKIP_RMS, [X, X, W, normal((1, 4), F32)], {}, "bias does not have the shape [4]"),
        (SKIP, [X, X, W], {"epsilon": float("inf")}, "epsilon is inf, not"),
    ],
)
def test_sentence(operator, inputs, attributes, sentence):
    with pytest.raises(Exception, match="ONNXRuntimeError") as raised:
        run(operator, inputs, [F32], **attributes)
    print(raised.value)
    assert sentence in str(raised.value)


def test_rms_norm_has_no_mean():
    with pytest.raises(Exception, match="mean is not an output that SkipSimplified"):
        run(SKIP_RMS, [X, X, W], [F32, F32])


def test_two_dtypes_with_a_residual():
    with pytest.raises(Exception, match="ONNXRuntimeError"):
        run(SKIP, [X, X.astype(np.float16), W], [F32])


def test_instruction_set():
    """What the library refuses, on the caller's thread and on others."""
    code = (
        "import numpy as np\n"
        "from models import run\n"
        "for rows in 2, 4096:\n"
        "  x = np.ones((rows, 768), np.float32)\n"
        "  try: run('LayerNormalization', [x, x[0]], [x.dtype], threads=2)\n"
        "  except Exception as error: print(error)\n"
    )
    lines = run_python(code, LAYERNORM_ISA="vax").splitlines()
    assert len(lines) == 2
    for line in lines:
        assert 'Message: LAYERNORM_ISA is "vax"' in line


def test_old_version():
    """A table of ONNX Runtime 1.17, with the one entry that serves to say no."""
    create_status = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_int, ctypes.c_char_p)
    get_api = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_uint32)
    get_version = ctypes.CFUNCTYPE(ctypes.c_void_p)
    said, asked = [], []
    text = ctypes.create_string_buffer(b"1.17.3")

    @create_status
    def say(code, sentence):
        said.append(sentence.decode())
        return 1

    table = (ctypes.c_void_p * 1)(ctypes.cast(say, ctypes.c_void_p))

    @get_api
    def api(version):
        asked.append(version)
        return ctypes.addressof(table)

    version = get_version(lambda: ctypes.addressof(text))
    base = (ctypes.c_void_p * 2)(*(ctypes.cast(f, ctypes.c_void_p).value for f in (api, version)))
    register = ctypes.CDLL(layernorm.onnx.library_path()).RegisterCustomOps
    register.argtypes = [ctypes.c_void_p, ctypes.c_void_p]
    register.restype = ctypes.c_void_p
    assert register(None, ctypes.addressof(base)) == 1
    assert asked == [1]
    (sentence,) = said
    assert "need ONNX Runtime 1.18 or later" in sentence
    assert "this is 1.17.3" in sentence
