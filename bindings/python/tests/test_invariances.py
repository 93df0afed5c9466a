"""Table 1 of Ba, Kiros, Hinton 2016, entry by entry, on activations of a real model."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

PATH = Path(__file__).resolve().parents[3] / "Benchmarks/claims/invariances.py"
spec = importlib.util.spec_from_file_location("invariances", PATH)
invariances = importlib.util.module_from_spec(spec)
spec.loader.exec_module(invariances)

ENTRIES = [
    (norm, change, stays)
    for norm, row in invariances.PAPER.items()
    for change, stays in zip(invariances.CHANGES, row)
]


@pytest.fixture(scope="module")
def moved():
    return invariances.measure()


def test_every_entry_is_there():
    assert len(ENTRIES) == 18


@pytest.mark.parametrize(("norm", "change", "stays"), ENTRIES)
def test_entry(moved, norm, change, stays):
    most = moved[norm][change]
    assert most < invariances.STAYS if stays else most > invariances.MOVES


@pytest.mark.parametrize("seed", range(1, 6))
def test_the_table_is_not_that_of_one_draw(seed):
    x = np.random.default_rng(seed).normal(0.3, 1, (40, 96))
    assert invariances.verdicts(invariances.measure(x, seed)) == invariances.PAPER


def test_printed_table(moved):
    head, _, *rows = invariances.markdown(moved).splitlines()
    assert head.count("|") == 8
    cells = [[cell.split()[0] for cell in row.split("|")[2:-1]] for row in rows]
    words = {True: "yes", False: "no"}
    assert cells == [[words[stays] for stays in row] for row in invariances.PAPER.values()]
