"""docs/claims.md: the text of page.md with what was measured filled in."""

import math
from pathlib import Path
from string import Template

import numpy as np

from . import invariances
from .claims import Claim, claims
from .experiments import SHORT_TEXT, TEXT
from .results import Results
from .train import Curve

QUICK = "**A quick run: it shows that the program works, and nothing about the claims.**\n\n"


def spread(values: np.ndarray) -> str:
    """Mean ± standard deviation over the seeds, or in how many of them there is no number."""
    missing = np.count_nonzero(~np.isfinite(values))
    if missing:
        return f"∞ in {missing} of {len(values)} seeds"
    deviation = values.std(ddof=1)
    digits = min(max(1 - math.floor(math.log10(deviation)), 0), 3) if deviation else 3
    return f"{values.mean():.{digits}f} ± {deviation:.{digits}f}"


def table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    rule = ("---",) * len(head)
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, rule, *rows))


def details(claim: Claim) -> str:
    """A claim with its verdict and the comparisons behind it."""
    rows = [
        (
            compared.measured,
            *(
                f"{name}: {spread(values)}"
                for name, values in zip((compared.less, compared.more), compared.values)
            ),
            compared.verdict(),
        )
        for compared in claim.comparisons
    ]
    head = ("what was measured", "should be less", "should be more", "is it?")
    return f"**{claim.sentence}** ({claim.source}): **{claim.verdict()}**.\n\n{table(head, rows)}\n"


def lstm_table(results: Results) -> str:
    """The LSTMs' learning rates and the time of a step."""

    def milliseconds(curve: Curve) -> float:
        return 1000 * curve.seconds[-1] / curve.steps[-1]

    rows = []
    for data, task in ((TEXT, "text"), ("digits", "digits")):
        rates, times = [], []
        for norm in ("none", "batch", "layer"):
            of_norm = {"experiment": "lstm", "data": data, "norm": norm}
            rates.append(results.best_rate(**of_norm))
            times.append(spread(results.values(milliseconds, **of_norm, rate=rates[-1])))
        rows.append((f"{task}: best learning rate", *(f"{rate:g}" for rate in rates)))
        rows.append((f"{task}: milliseconds for a step", *times))
    return table(("", "no norm", "batch norm", "layer norm"), rows)


def write_page(results: Results, path: Path) -> None:
    every = claims(results)
    fields = {
        "summary": table(
            ("claim", "by", "seen here"),
            [(claim.sentence, claim.source, claim.verdict()) for claim in every],
        ),
        "seeds": str(results.seeds),
        "chance": str(math.comb(2 * results.seeds, results.seeds)),
        "runs": str(len(results.runs)),
        "text": f"{int(TEXT.split()[1]):,}",
        "short_text": f"{int(SHORT_TEXT.split()[1]):,}",
        "lstm_table": lstm_table(results),
        "invariances": invariances.markdown(invariances.measure()),
        "quick": QUICK if results.machine["quick"] else "",
        **{name: str(value) for name, value in results.machine.items() if name != "quick"},
    }
    for experiment in dict.fromkeys(claim.experiment for claim in every):
        some = [details(claim) for claim in every if claim.experiment == experiment]
        fields[experiment.replace(" ", "_")] = "\n".join(some)
    template = Template((Path(__file__).parent / "page.md").read_text())
    path.write_text(template.substitute(fields))
