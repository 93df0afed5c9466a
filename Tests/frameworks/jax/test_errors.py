"""What is refused, and the sentences; and what the handlers say to calls of another's making."""

import os
import shutil
import subprocess
import sys

import jax
import jax.numpy as jnp
import layernorm
import layernorm.jax
import numpy as np
import pytest

X = jnp.ones((3, 4), jnp.float32)


@pytest.mark.parametrize(
    ("error", "sentence", "arguments", "keywords"),
    [
        (TypeError, "x is of type list; it must be an array", [[1.0]], {}),
        (TypeError, "the dtype of x is int32; it must be float32", [X.astype(jnp.int32)], {}),
        (TypeError, "the dtype of weight is bool", [X, jnp.ones(4, bool)], {}),
        (TypeError, "dtype is int8; it must be float32", [X], {"dtype": jnp.int8}),
        (ValueError, r"weight has shape \(3,\); it must be \(4,\)", [X, X[:, 0]], {}),
        (ValueError, r"bias has shape \(\); it must be \(4,\)", [X, None, X[0, 0]], {}),
        (ValueError, "axis is 2; it must name dimensions of x, which has 2", [X], {"axis": 2}),
        (ValueError, "axis is -3", [X], {"axis": -3}),
        (ValueError, r"axis is \(1, -1\)", [X], {"axis": (1, -1)}),
        (ValueError, r"axis is \(\)", [X], {"axis": ()}),
        (ValueError, "axis is -1; .* which has 0", [X[0, 0]], {}),
        (ValueError, "eps is -1.0; it must be 0 or more", [X], {"eps": -1.0}),
        (ValueError, "eps is nan", [X], {"eps": float("nan")}),
        (ValueError, "eps is inf", [X], {"eps": float("inf")}),
    ],
)
def test_layer_norm(error, sentence, arguments, keywords):
    with pytest.raises(error, match=sentence):
        layernorm.jax.layer_norm(*arguments, **keywords)


def test_residual():
    with pytest.raises(ValueError, match=r"residual has shape \(4,\); it must be \(3, 4\)"):
        layernorm.jax.add_layer_norm(X, X[0])
    with pytest.raises(TypeError, match="residual is float64 and x is float32; they must agree"):
        layernorm.jax.add_rms_norm(X, X.astype(jnp.float64))


FLAGS = {"rms", "weight_offset", "residual", "weight", "bias"}
RESULT = jax.ShapeDtypeStruct((2, 4, 1), jnp.float32)
BATCHED = jax.ShapeDtypeStruct((3, 5, 4, 1), jnp.float32)


def forward(*arrays, results=(RESULT,), **attributes):
    attributes = {"eps": np.float64(0), **dict.fromkeys(FLAGS, np.False_), **attributes}
    given = {name: value for name, value in attributes.items() if value is not None}
    return jax.ffi.ffi_call("layernorm_jax_forward", results)(*arrays, **given)


@pytest.mark.parametrize(
    ("sentence", "call"),
    [
        ("x and the first result must have", lambda x: forward(x[0])),
        ("x and the first result must have", lambda x: forward()),
        ("y has a shape that does not fit", lambda x: forward(x[:, :3])),
        ("x and the first result must have", lambda x: forward(x[None])),
        (
            "x has a shape that does not fit",
            lambda x: forward(jnp.stack([x, x]), results=[BATCHED]),
        ),
        ("y has a shape that does not fit", lambda x: forward(x[None], results=[BATCHED])),
        ("x is not float32", lambda x: forward(x.astype(jnp.int32))),
        ("weight is missing", lambda x: forward(x, weight=np.True_)),
        ("weight has a shape", lambda x: forward(x, x, weight=np.True_)),
        ("weight has a shape", lambda x: forward(x, jnp.ones((2, 4)), weight=np.True_)),
        ("residual has another dtype", lambda x: forward(x, x.astype("f2"), residual=np.True_)),
        ("attribute eps is missing or has the wrong type", lambda x: forward(x, eps=np.int64(7))),
        ("attribute rms is missing", lambda x: forward(x, rms=None)),
        ("eps is negative", lambda x: forward(x, eps=np.float64(-1))),
        ("more arguments or results than are known", lambda x: forward(x, x)),
        ("mean has a shape", lambda x: forward(x, results=[RESULT] * 3)),
    ],
)
def test_handler(sentence, call):
    with pytest.raises(Exception, match=sentence):
        jax.block_until_ready(call(jnp.ones((2, 4, 1), jnp.float32)))


def run(program, **environment):
    command = [sys.executable, "-c", program]
    environment = os.environ | environment
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_no_adapter(tmp_path):
    library = shutil.copy(layernorm.library_path(), tmp_path)
    done = run("import layernorm.jax", LAYERNORM_LIBRARY=library)
    assert "ImportError: cannot load the adapter for JAX" in done.stderr


def test_unknown_isa():
    program = "import jax.numpy as jnp, layernorm.jax as l; print(l.rms_norm(jnp.ones(4)))"
    done = run(program, LAYERNORM_ISA="z80")
    assert "LAYERNORM_ISA" in done.stderr
    assert "FAILED_PRECONDITION" in done.stderr
