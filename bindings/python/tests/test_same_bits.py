"""Whatever the shape, strides, threads and output: the bits are those of each row alone."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from layernorm import layer_norm, set_num_threads
from reference import DTYPES, normal, same_bits

# A step in each dimension between neighbours in memory, negative ones backwards.
steps = st.sampled_from([1, 1, 1, 2, 3, -1, -2])


@st.composite
def arrays(draw, shape, dtype, seed):
    """normal(shape, dtype, seed) with some strides: dimensions permuted, spread out or reversed."""
    order = draw(st.permutations(range(len(shape))))
    spread = [draw(steps) for _ in shape]
    memory = np.empty([shape[axis] * abs(spread[axis]) for axis in order], dtype)
    view = memory.transpose(np.argsort(order))[tuple(slice(None, None, step) for step in spread)]
    view[...] = normal(shape, dtype, seed)
    return view


@st.composite
def calls(draw):
    dtype = draw(st.sampled_from(DTYPES))
    lead = draw(st.lists(st.integers(1, 6), max_size=3))
    if draw(st.booleans()):
        lead = [draw(st.integers(1, 300))]  # enough rows for more than one thread
    inner = draw(
        st.one_of(
            st.tuples(st.integers(1, 1100)),
            st.tuples(st.integers(1, 12), st.integers(1, 40)),
        )
    )
    shape = (*lead, *inner)
    seed = draw(st.integers(0, 2**32 - 1))
    param_dtype = draw(st.sampled_from([dtype, dtype, *DTYPES]))
    return {
        "x": draw(arrays(shape, dtype, seed)),
        "normalized_shape": inner if len(inner) > 1 or draw(st.booleans()) else None,
        "weight": draw(st.none() | arrays(inner, param_dtype, seed + 1)),
        "bias": draw(st.none() | arrays(inner, param_dtype, seed + 2)),
        "eps": draw(st.sampled_from([1e-5, 1e-12, 1e-3, 0.0])),
    }, draw(st.none() | arrays(shape, dtype, seed + 3))


def row_by_row(x, normalized_shape, **params):
    """One contiguous row at a time, on the caller's thread."""
    set_num_threads(1)
    inner = normalized_shape or x.shape[-1:]
    lead = x.shape[: -len(inner)]
    rows = np.array(x, order="C").reshape(-1, *inner)
    results = [layer_norm(row, inner, **params, return_stats=True) for row in rows]
    y, mean, rstd = map(np.stack, zip(*results))
    return y.reshape(x.shape), mean.reshape(lead), rstd.reshape(lead)


@settings(max_examples=300)
@given(call=calls(), threads=st.integers(1, 8), in_place=st.booleans(), with_stats=st.booleans())
def test_same_bits(call, threads, in_place, with_stats):
    arguments, out = call
    expected = row_by_row(**arguments)
    if in_place:
        out = arguments["x"]
    set_num_threads(threads)
    results = layer_norm(**arguments, out=out, return_stats=with_stats)
    if not with_stats:
        results = (results,)
    assert out is None or results[0] is out
    for result, wanted in zip(results, expected):
        assert same_bits(result, wanted)
