"""What tensors are filled with: one function per distribution, named as in the table."""

import numpy as np

from formats import Format

# Row by row, the values of the constant rows.
CONSTANTS = (0.1, "largest", 0.0, 1.0, -1e4, "smallest", 1e-30, 1e30)


def around(mean: float, spread: float):
    """N(mean, spread), the spread at least two last places of the mean."""

    def draw(random, rows, cols, form: Format):
        place = 2.0 ** (np.floor(np.log2(mean)) - form.precision + 1) if mean else 0.0
        return mean + max(spread, 2 * place) * random.standard_normal((rows, cols))

    return draw


def times(scale: float):
    def draw(random, rows, cols, form):
        return scale * random.standard_normal((rows, cols))

    return draw


def outlier(random, rows, cols, form):
    x = random.standard_normal((rows, cols))
    x[:, cols // 3] = 1e4
    return x


def constant(random, rows, cols, form):
    values = {"largest": form.largest, "smallest": form.smallest}
    row = [values.get(value, value) for value in CONSTANTS]
    return np.repeat(np.resize(np.array(row, dtype=np.float64), rows)[:, None], cols, axis=1)


def largest(random, rows, cols, form):
    """Up to the largest finite value: even rows of one sign, odd rows of both."""
    x = random.uniform(0.5, 1.0, (rows, cols)) * form.largest
    sign = np.where(random.uniform(size=(rows, cols)) < 0.5, -1.0, 1.0)
    sign[::2] = 1.0
    return x * sign


def subnormal(random, rows, cols, form):
    count = 2 ** (form.precision - 1)
    return random.randint(1 - count, count, (rows, cols)).astype(np.float64) * form.smallest


def alternating(random, rows, cols, form):
    sign = 1.0 - 2.0 * (np.arange(cols) % 2)
    return sign * (100.0 + random.standard_normal((rows, cols)))


def heavy(random, rows, cols, form):
    return random.standard_cauchy((rows, cols))


def nonfinite(random, rows, cols, form):
    """Eight rows: 0, 3 and 7 stay finite, to be seen untouched by their neighbours."""
    x = random.standard_normal((rows, cols))
    x[1, 0] = np.nan
    x[2, -1] = np.inf
    x[4, cols // 2] = -np.inf
    x[5, 0], x[5, -1] = np.inf, -np.inf
    x[6, :] = np.inf
    return x


def zero_rows(random, rows, cols, form):
    """Every second row is zero."""
    x = random.standard_normal((rows, cols))
    x[::2] = 0.0
    return x


def infinite(random, rows, cols, form):
    """Infinities at the ends of every second row."""
    x = random.standard_normal((rows, cols))
    x[1::2, 0], x[1::4, -1] = np.inf, -np.inf
    return x


def not_a_number(random, rows, cols, form):
    """A NaN in each row but the first."""
    x = random.standard_normal((rows, cols))
    x[1:, cols // 2] = np.nan
    return x


DISTRIBUTIONS = {
    "N(0,1)": around(0.0, 1.0),
    "mean 1e3": around(1e3, 1.0),
    "mean 1e4": around(1e4, 0.1),
    "mean 1e6": around(1e6, 1.0),
    "mean 1e7": around(1e7, 1.0),
    "one outlier": outlier,
    "constant": constant,
    "alternating": alternating,
    "heavy tails": heavy,
    "largest": largest,
    "subnormal": subnormal,
    "nonfinite": nonfinite,
    "1e-25": times(1e-25),
    "1e18": times(1e18),
    "1e30": times(1e30),
    "1e37": times(1e37),
    "3e37": times(3e37),
    "1e-200": times(1e-200),
    "1e200": times(1e200),
    "1e305": times(1e305),
    "infinite": infinite,
    "zero rows": zero_rows,
}
# Those that say what dy is; x is then N(0,1).
OF_DY = {"dy NaN": not_a_number, "dy 1e37": times(1e37), "dy 1e-40": times(1e-40)}
NORMAL = around(0.0, 1.0)

ONLY_F64 = {"1e-200", "1e200", "1e305"}
# Outside float16, which ends at 65504 and 6e-8.
NOT_F16 = {"mean 1e6", "mean 1e7", "1e-25", "1e18", "1e30", "1e37", "3e37", "dy 1e37", "dy 1e-40"}
NOT_FINITE = {"nonfinite", "infinite", "dy NaN"}


def has(form: Format, name: str) -> bool:
    """Whether the values of a distribution are inside the format."""
    return not (name in ONLY_F64 and form.name != "f64") and not (
        name in NOT_F16 and form.name == "f16"
    )


def draw(tensor: str, name: str, random, rows: int, cols: int, form: Format) -> np.ndarray:
    """The bits of a tensor of rows in cases of that distribution."""
    if tensor == "x":
        values = DISTRIBUTIONS.get(name, NORMAL)(random, rows, cols, form)
    elif tensor == "residual":
        # Less than x, lest the largest values overflow; finite where x is not.
        values = -0.5 * DISTRIBUTIONS[name](random, rows, cols, form)
        if name in NOT_FINITE:
            values = NORMAL(random, rows, cols, form)
    else:
        values = OF_DY.get(name, NORMAL)(random, rows, cols, form)
    if name not in NOT_FINITE:
        values = np.clip(values, -form.largest, form.largest)
    return form.encode(values)
