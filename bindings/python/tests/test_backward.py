"""Gradients, against the formulas in longdouble and against central differences."""

import numpy as np
import pytest
import reference
from layernorm import (
    add_layer_norm,
    add_rms_norm,
    layer_norm,
    layer_norm_backward,
    rms_norm,
    rms_norm_backward,
)
from ml_dtypes import bfloat16
from reference import DTYPES, normal, same_bits

dtypes = pytest.mark.parametrize("dtype", DTYPES, ids=str)
NORMS = ["layer", "rms", "rms of 1 + weight"]
norms = pytest.mark.parametrize("norm", NORMS)
half = pytest.mark.parametrize("dtype", [d for d in DTYPES if d.itemsize == 2], ids=str)

# The largest errors in units: by row for dx, of the whole vector for dweight and dbias. What is
# computed in float32 has the error of that besides its rounding to a half type.
UNITS = {dtype: 4.0 if dtype in (np.float32, np.float64) else 0.52 for dtype in DTYPES}
# Of dweight and dbias over many rows.
SUM_UNITS = {dtype: 2.0 if dtype in (np.float32, np.float64) else 0.51 for dtype in DTYPES}


def gradients(norm, dy, x, *args, **kwargs):
    """dx, dweight and, of layer norm, dbias."""
    if norm == "layer":
        return layer_norm_backward(dy, x, *args, **kwargs)
    return rms_norm_backward(dy, x, *args, **kwargs, weight_offset=norm != "rms")


def exact_gradients(norm, dy, x, dims=1, *args, **kwargs):
    """The same, exact, as what assert_correct() takes."""
    offset = norm == "rms of 1 + weight"
    *exact, terms = reference.backward(
        dy, x, dims, *args, **kwargs, rms=norm != "layer", weight_offset=offset
    )
    dx, dweight, dbias = exact
    expected = [(dx, dims, terms), (dweight, dims, 0), (dbias, dims, 0)]
    return expected if norm == "layer" else expected[:2]


def forward(norm, x, *args, **kwargs):
    if norm == "layer":
        return layer_norm(x, *args, **kwargs)
    return rms_norm(x, *args, **kwargs, weight_offset=norm != "rms")


def assert_correct(results, expected, bounds=UNITS):
    assert len(results) == len(expected)
    for result, (exact, dims, scale) in zip(results, expected):
        assert result.shape == exact.shape
        assert reference.units(result, exact, dims, scale) <= bounds[result.dtype]


def assert_same(results, expected):
    assert len(results) == len(expected)
    for result, wanted in zip(results, expected):
        assert same_bits(result, wanted)


def tensors(shape, dtype, count=2):
    return [normal(shape, dtype, seed) for seed in range(count)]


@dtypes
@norms
@pytest.mark.parametrize("cols", [2, 7, 64, 65, 768, 1021])
@pytest.mark.parametrize("weighted", [False, True])
def test_last_dimension(dtype, norm, cols, weighted):
    dy, x = tensors((3, 5, cols), dtype)
    weight = normal(cols, dtype, 2) if weighted else None
    results = gradients(norm, dy, x, weight=weight)
    assert all(result.dtype == dtype for result in results)
    assert_correct(results, exact_gradients(norm, dy, x, weight=weight))


@dtypes
@norms
@pytest.mark.parametrize("dims", [1, 2, 3])
def test_normalized_shape(dtype, norm, dims):
    dy, x = tensors((4, 6, 10), dtype)
    shape = x.shape[-dims:]
    weight = normal(shape, dtype, 2)
    results = gradients(norm, dy, x, shape, weight)
    assert_correct(results, exact_gradients(norm, dy, x, dims, weight))


@dtypes
@norms
@pytest.mark.parametrize("eps", [0.0, 1e-12, 0.1, 10])
def test_eps(dtype, norm, eps):
    dy, x = tensors((3, 100), dtype)
    assert_correct(gradients(norm, dy, x, eps=eps), exact_gradients(norm, dy, x, eps=eps))


@dtypes
@norms
@pytest.mark.parametrize("mean", [0, 1000])
def test_given_stats(dtype, norm, mean):
    dy, x = tensors((5, 300), dtype)
    x = (x.astype(np.float64) + mean).astype(dtype)
    *_, rstd = stats = forward(norm, x, return_stats=True)[1:]
    given = {"rstd": rstd} if len(stats) == 1 else dict(zip(("mean", "rstd"), stats))
    results = gradients(norm, dy, x, **given, eps=100)
    assert_correct(results, exact_gradients(norm, dy, x))
    strided = {name: np.repeat(array, 2)[::2] for name, array in given.items()}
    assert_same(gradients(norm, dy, x, **strided), results)


@dtypes
@norms
def test_dsum(dtype, norm):
    dy, x, dsum = tensors((5, 300), dtype, 3)
    weight = normal(300, dtype, 3)
    dx, *params = gradients(norm, dy, x, weight=weight, dsum=dsum)
    exact = exact_gradients(norm, dy, x, weight=weight, dsum=dsum)
    assert_correct((dx, *params), exact)
    assert_same(params, gradients(norm, dy, x, weight=weight)[1:])


@norms
@pytest.mark.parametrize("shape", [(3, 5), (2, 3, 4), (1, 9)])
def test_central_differences(norm, shape):
    """Of sum(dy * y) + sum(dsum * sum), as a function of x, weight and bias."""
    dy, x, dsum, residual = tensors(shape, np.float64, 4)
    names = ["x", "weight", "bias"] if norm == "layer" else ["x", "weight"]
    point = dict(
        zip(names, (x, normal(shape[-1], np.float64, 5), normal(shape[-1], np.float64, 6)))
    )
    extra = {"weight_offset": True} if norm == "rms of 1 + weight" else {}
    fused = add_layer_norm if norm == "layer" else add_rms_norm

    def loss(**moved):
        y, total = fused(residual=residual, **(point | moved), **extra)
        return (dy * y).sum() + (dsum * total).sum()

    weight = point["weight"]
    results = gradients(norm, dy, x + residual, weight=weight, dsum=dsum)
    assert len(results) == len(names)
    step = 1e-5
    for name, result in zip(names, results):
        difference = np.empty(point[name].shape)
        for index in np.ndindex(difference.shape):
            ahead, behind = point[name].copy(), point[name].copy()
            ahead[index] += step
            behind[index] -= step
            difference[index] = (loss(**{name: ahead}) - loss(**{name: behind})) / (2 * step)
        np.testing.assert_allclose(result, difference, rtol=1e-7, atol=1e-7)


@dtypes
@norms
def test_each_gradient_alone(dtype, norm):
    dy, x = tensors((40, 33), dtype)
    weight = normal(33, dtype, 2)
    every = gradients(norm, dy, x, None, weight)
    names = ["dx", "dweight", "dbias"][: len(every)]
    for wanted in np.ndindex((2,) * len(names)):
        results = gradients(norm, dy, x, None, weight, **dict(zip(names, map(bool, wanted))))
        assert len(results) == len(names)
        for result, expected, is_wanted in zip(results, every, wanted):
            assert same_bits(result, expected) if is_wanted else result is None
    unwanted = dict.fromkeys(names, False)
    results = gradients(norm, dy, x, **unwanted, accumulate_dx=True, accumulate_params=True)
    assert results == (None,) * len(names)


@dtypes
@norms
@pytest.mark.parametrize("place", ["dy", "x", "contiguous", "transposed", "spread", "unaligned"])
def test_dx_in_place_and_elsewhere(dtype, norm, place):
    dy, x = tensors((40, 33), dtype)
    expected = gradients(norm, dy, x)
    unaligned = np.empty(x.nbytes + 1, np.uint8)[1:].view(dtype).reshape(x.shape)
    places = {"dy": dy, "x": x, "contiguous": np.empty_like(x), "unaligned": unaligned}
    places["transposed"] = np.empty((33, 40), dtype).T
    places["spread"] = np.empty((40, 99), dtype)[:, ::3]
    results = gradients(norm, dy, x, dx=places[place])
    assert results[0] is places[place]
    assert_same(results, expected)


@dtypes
@norms
@pytest.mark.parametrize("layout", ["contiguous", "transposed", "unaligned"])
def test_accumulation(dtype, norm, layout):
    dy, x, before = tensors((40, 33), dtype, 3)
    dx = before.copy() if layout == "contiguous" else np.asfortranarray(before)
    if layout == "unaligned":
        dx = np.empty(x.nbytes + 1, np.uint8)[1:].view(dtype).reshape(x.shape)
        dx[...] = before
    given = {"dx": dx, "dweight": normal(33, dtype, 4), "dbias": normal(33, dtype, 5)}
    if norm != "layer":
        del given["dbias"]
    terms = [before] + [array.copy() for name, array in given.items() if name != "dx"]
    expected = gradients(norm, dy, x)
    exact = exact_gradients(norm, dy, x)
    results = gradients(norm, dy, x, **given, accumulate_dx=True, accumulate_params=True)
    for result, place in zip(results, given.values()):
        assert result is place
    sums = [
        (reference.wide(term) + wanted, *others) for term, (wanted, *others) in zip(terms, exact)
    ]
    assert_correct(results, sums)

    # Each flag by itself: the other gradients are assigned.
    for flag, names in ("accumulate_dx", ["dx"]), ("accumulate_params", ["dweight", "dbias"]):
        for array, term in zip(given.values(), terms):
            array[...] = term
        for name, got, added, assigned in zip(
            given, gradients(norm, dy, x, **given, **{flag: True}), sums, expected
        ):
            if name in names:
                assert_correct([got], [added])
            else:
                assert same_bits(got, assigned)


@pytest.mark.parametrize("x_dtype", DTYPES, ids=str)
@pytest.mark.parametrize("dy_dtype", DTYPES, ids=str)
def test_mixed_dtypes(x_dtype, dy_dtype):
    x, dy = normal((40, 33), x_dtype), normal((40, 33), dy_dtype, 1)
    weight = normal(33, np.float32, 2)
    dx, dweight, dbias = layer_norm_backward(dy, x, None, weight)
    assert dx.dtype == dy_dtype
    assert dweight.dtype == dbias.dtype == np.float32
    exact = reference.backward(dy, x, 1, weight)
    computed = np.float64 if np.float64 == x_dtype else np.float32
    finfo = reference.ml_dtypes.finfo
    for got, wanted in zip((dx, dweight, dbias), exact):
        bound = 4 * float(finfo(computed).eps) + 0.52 * float(finfo(got.dtype).eps)
        scale = np.maximum(np.abs(wanted), np.sqrt(np.square(wanted).mean(-1, keepdims=True)))
        assert (np.abs(reference.wide(got) - wanted) <= 2 * bound * scale).all()


@half
def test_wider_gradients_of_parameters(dtype):
    """float32 gradients of 16-bit parameters, more exact than what the rounded ones come from."""
    dy, x, weight = normal((300, 33), dtype), normal((300, 33), dtype, 1), normal(33, dtype, 2)
    wide = np.empty(33, np.float32)
    dx, dweight, dbias = layer_norm_backward(dy, x, None, weight, dweight=wide)
    assert dweight is wide
    assert dbias.dtype == np.float32
    assert_correct((dx, dweight, dbias), exact_gradients("layer", dy, x, 1, weight))
    narrow = layer_norm_backward(dy, x, None, weight)
    assert_same(narrow[:1], (dx,))
    assert_correct(narrow, exact_gradients("layer", dy, x, 1, weight))


@norms
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("rows", [4096, 65536])
def test_sums_over_many_rows(norm, dtype, rows, capsys):
    dy, x = tensors((rows, 64), dtype)
    weight = normal(64, dtype, 2)
    _, *results = gradients(norm, dy, x, None, weight, dx=False)
    exact = exact_gradients(norm, dy, x, 1, weight)[1:]
    errors = [reference.units(got, *wanted) for got, wanted in zip(results, exact)]
    line = f"{dtype} {rows} x 64, {norm}: dweight {errors[0]:.2f} units"
    if norm in ("layer", "rms"):
        line += by_torch(f"{norm}_norm", dy, x, weight, *exact[0])
    with capsys.disabled():
        print(f"\n{line}", end="")
    assert_correct(results, exact, SUM_UNITS)


def by_torch(name, dy, x, weight, *exact):
    """PyTorch's error, where there is PyTorch."""
    try:
        import torch
    except ImportError:
        return ""
    dtype = getattr(torch, str(dy.dtype))
    dy, x, leaf = (torch.tensor(a.astype(np.float64)).to(dtype) for a in (dy, x, weight))
    leaf.requires_grad_()
    function = getattr(torch.nn.functional, name)
    function(x, (x.shape[1],), leaf, eps=reference.EPS).backward(dy)
    dweight = leaf.grad.double().numpy().astype(weight.dtype)
    return f", PyTorch's {reference.units(dweight, *exact):.2f}"


@dtypes
@norms
def test_one_column(dtype, norm):
    """x - mean is 0, so that dweight and dx are exactly 0; RMSNorm has no mean."""
    dy, x = tensors((300, 1), dtype)
    weight = normal(1, dtype, 2)
    results = gradients(norm, dy, x, None, weight)
    if norm != "layer":
        assert_correct(results, exact_gradients(norm, dy, x, 1, weight))
        return
    assert (results[0] == 0).all()
    assert (results[1] == 0).all()


@dtypes
@norms
def test_constant_rows(dtype, norm):
    dy = normal((5, 100), dtype)
    x = np.full((5, 100), 1.1, dtype)
    results = gradients(norm, dy, x)
    assert_correct(results, exact_gradients(norm, dy, x))
    if norm == "layer":
        assert (results[1] == 0).all()


@dtypes
@norms
def test_nan_stays_in_its_row_of_dx(dtype, norm):
    dy, x = tensors((3, 100), dtype)
    expected = gradients(norm, dy, x)
    x[1, 17] = np.nan
    dx, *_ = gradients(norm, dy, x)
    assert np.isnan(dx[1].astype(np.float32)).all()
    assert same_bits(dx[::2], expected[0][::2])


@dtypes
@norms
@pytest.mark.parametrize("shape", [(0, 5), (2, 0, 5), (3, 0), (0, 0)])
def test_no_elements(dtype, norm, shape):
    empty = np.empty(shape, dtype)
    dx, *params = gradients(norm, empty, empty.copy())
    assert dx.shape == shape
    for param in params:
        assert same_bits(param, np.zeros(shape[-1], dtype))
    kept = normal(shape[-1], dtype)
    results = gradients(
        norm,
        empty,
        empty.copy(),
        dweight=kept.copy(),
        accumulate_params=True,
        **({"dbias": False} if norm == "layer" else {}),
    )
    assert same_bits(results[1], kept)


def test_a_row_out_of_range_splits_no_sums():
    """1024 columns are taken in groups of eight rows as they are, and of four through buffers."""
    dy, x = normal((16, 1024), bfloat16), normal((16, 1024), bfloat16, 1)
    x[5] = (x[5].astype(np.float32) * 1e30).astype(bfloat16)
    dy[0], dy[2] = 2**24, -(2**24)  # between them float32 loses digits
    weight = normal(1024, bfloat16, 2)
    wide = np.empty((16, 2048), bfloat16)
    wide[:, ::2] = x
    as_they_are = layer_norm_backward(dy, x, None, weight)
    assert_same(layer_norm_backward(dy, wide[:, ::2], None, weight), as_they_are)
