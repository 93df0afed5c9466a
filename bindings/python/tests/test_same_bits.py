"""Whatever the shape, strides, threads and outputs: the bits are those of each row alone, and of
contiguous arrays on one thread for what is summed over the rows."""

import layernorm
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from layernorm import set_num_threads
from reference import DTYPES, normal, same_bits

# What each function takes and returns of the shape of x, and what it takes of the shape of weight.
FUNCTIONS = {
    "layer_norm": (["x"], ["out"], ["weight", "bias"]),
    "rms_norm": (["x"], ["out"], ["weight"]),
    "add_layer_norm": (["x", "residual"], ["out", "sum_out"], ["weight", "bias", "x_bias"]),
    "add_rms_norm": (["x", "residual"], ["out", "sum_out"], ["weight", "x_bias"]),
    "layer_norm_backward": (["dy", "x", "dsum"], ["dx"], ["weight"]),
    "rms_norm_backward": (["dy", "x", "dsum"], ["dx"], ["weight"]),
}
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
def shapes(draw):
    """A shape, and how many of its dimensions are normalized, or the one axis that is."""
    lead = draw(st.lists(st.integers(1, 6), max_size=3))
    columns = st.tuples(st.integers(1, 1100))
    if draw(st.booleans()):  # work enough for more than one thread
        lead = [draw(st.sampled_from([100, 333, 1000]))]
        columns = st.tuples(st.integers(300, 1100))
    inner = draw(columns | st.tuples(st.integers(1, 12), st.integers(1, 40)))
    if len(inner) == 1 and draw(st.booleans()):
        axis = draw(st.integers(0, len(lead)))
        return (*lead[:axis], *inner, *lead[axis:]), {"axis": axis}, inner
    return (*lead, *inner), {"normalized_shape": inner}, inner


@st.composite
def calls(draw):
    """A function, its inputs, what else it is passed, and where its results go."""
    name = draw(st.sampled_from(sorted(FUNCTIONS)))
    tensors, outs, params = FUNCTIONS[name]
    dtype = draw(st.sampled_from(DTYPES))
    param_dtype = draw(st.sampled_from([dtype, dtype, *DTYPES]))
    shape, normalized, inner = draw(shapes())
    seed = draw(st.integers(0, 2**32 - 1))

    inputs = {key: draw(arrays(shape, dtype, seed + n)) for n, key in enumerate(tensors)}
    others = {"eps": draw(st.sampled_from([1e-5, 1e-12, 1e-3, 0.0]))}
    for n, key in enumerate(params, start=len(tensors)):
        dtype_of_key = dtype if key == "x_bias" else param_dtype
        others[key] = draw(st.none() | arrays(inner, dtype_of_key, seed + n))
    if "rms" in name:
        others["weight_offset"] = draw(st.booleans())
    if "dsum" in inputs and draw(st.booleans()):
        del inputs["dsum"]

    places = {}
    free = list(inputs)
    for key in outs:
        place = draw(st.sampled_from(["new", "strided", *free]))
        if place in free:
            free.remove(place)
            places[key] = inputs[place]
        elif place == "strided":
            places[key] = draw(arrays(shape, dtype, seed))
    if "backward" in name:
        for key in ("dweight", "dbias")[: 1 if "rms" in name else 2]:
            places[key] = draw(st.booleans())
        if "dx" not in places:
            places["dx"] = draw(st.booleans())
    else:
        places["return_stats"] = draw(st.booleans())
    return name, inputs, others, normalized, inner, places


def row_by_row(name, inputs, others, inner):
    """One contiguous row at a time, on the caller's thread; dweight and dbias of all of them."""
    function = getattr(layernorm, name)
    set_num_threads(1)
    rows = [dict(zip(inputs, row)) for row in zip(*inputs.values())]
    if "backward" in name:
        each = [function(**row, normalized_shape=inner, **others)[0] for row in rows]
        return [np.stack(each), *function(**inputs, normalized_shape=inner, **others)[1:]]
    each = [function(**row, normalized_shape=inner, **others, return_stats=True) for row in rows]
    return [np.stack(results) for results in zip(*each)]


@settings(max_examples=400)
@given(call=calls(), threads=st.sampled_from([1, 2, 3, 7]))
def test_same_bits(call, threads):
    name, inputs, others, normalized, inner, places = call

    def as_rows(array):
        last = np.moveaxis(array, normalized.get("axis", -1), -1)
        return np.array(last, order="C").reshape(-1, *inner)

    rows = {key: as_rows(array) for key, array in inputs.items()}
    expected = row_by_row(name, rows, others, inner)
    set_num_threads(threads)
    results = getattr(layernorm, name)(**inputs, **others, **normalized, **places)
    for result, wanted in zip(results if isinstance(results, tuple) else (results,), expected):
        if result is not None:
            is_tensor = wanted.ndim > len(inner)  # and not a vector as the others
            got = as_rows(result) if is_tensor else result.reshape(wanted.shape)
            assert same_bits(got, wanted)
