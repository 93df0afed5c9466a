"""The cases that the onnx package generates for the norms to test its backends with."""

import warnings
from math import prod

import numpy as np
import pytest
from layernorm import layer_norm, rms_norm
from onnx import helper

NORMS = {"LayerNormalization": layer_norm, "RMSNormalization": rms_norm}

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # the generators of other operators divide by zero
    from onnx.backend.test.case.node import collect_testcases

    # Of all operators: cases are generated once, by the first call, for those that it asks for.
    # An "expanded" case is the same data for the operator spelled out in simpler ones.
    CASES = {
        case.name: case
        for case in collect_testcases()
        if case.model.graph.node[0].op_type in NORMS and "_expanded" not in case.name
    }


@pytest.mark.parametrize("operator", NORMS)
def test_cases_are_found(capsys, operator):
    count = sum(case.model.graph.node[0].op_type == operator for case in CASES.values())
    with capsys.disabled():
        print(f"\n{count} cases of {operator} in the onnx package")
    # 4, 3 and 2 dimensions, each axis counted from the front and from the back, and the default.
    assert count >= 2 * (4 + 3 + 2) + 1


@pytest.mark.parametrize("name", CASES)
def test_case(name):
    case = CASES[name]
    (node,) = case.model.graph.node
    attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    axis = attributes.pop("axis", -1)
    eps = attributes.pop("epsilon", 1e-5)
    assert attributes.pop("stash_type", 1) == 1  # statistics in float32
    assert not attributes
    assert case.data_sets
    for inputs, outputs in case.data_sets:
        given = dict(zip(["x", "weight", "bias"], inputs))
        x = given["x"]
        results = NORMS[node.op_type](
            normalized_shape=x.shape[axis % x.ndim :], eps=eps, **given, return_stats=True
        )
        assert len(outputs) == len(node.output)
        for result, expected in zip(results, outputs):
            assert result.dtype == expected.dtype
            assert result.size == prod(expected.shape)  # mean and rstd keep dimensions in ONNX
            np.testing.assert_allclose(
                result.reshape(expected.shape), expected, rtol=case.rtol, atol=case.atol
            )
