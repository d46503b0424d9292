"""Records paired.json: paired comparisons, by SciPy and statsmodels.

    python3 paired.py

Needs SciPy 1.13 or newer and statsmodels beside numpy. Answers about images come from closed forms that both sides compute,
so only results are recorded.
"""

import json
from pathlib import Path

import numpy as np
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests

# Gains seed by seed: with and without equals and zeros, few and many.
GAINS = [
    [1.0, 2.0, 3.0],
    [4.0, 4.25, 3.75],
    [-0.5, 0.25, 0.125, -1.0],
    [0.31, 0.07, 0.44, -0.12, 0.29],
    [0.5, 0.5, 0.5, -0.25, 1.0, 0.75],
    [0.5, -0.5, 0.0, 0.25, 1.0, 0.0, 0.75],
    [0.125 * ((7 * k) % 12 - 3) for k in range(12)],
    [0.1 * (k + 1) * (1 if k * k % 7 < 4 else -1) for k in range(30)],
    [-2.0, -3.0, -1.0, -4.0, -5.0, -6.0, -7.0, -8.0],
]
# How many pairs the quantile of t is asked for.
PAIRS = [2, 3, 4, 5, 6, 10, 20, 100]
# p as several tests might have them, equals among them.
FAMILIES = [[0.01], [0.03, 0.01, 0.02], [0.5, 0.5, 0.04, 0.001, 0.9], [0.0, 1.0, 0.012, 0.012, 0.2, 0.049, 0.051]]
# Won and lost images.
DISCORDANT = [(0, 0), (4, 1), (5, 5), (12, 30), (120, 160), (812, 640), (1500, 1500), (2600, 2300), (20000, 19500)]
# Images, seeds, and how much more often the second network is right.
ANSWERS = [(2000, 1, 0.0), (2000, 3, 0.02), (500, 5, 0.1)]


def gains(values):
    values = np.array(values)
    student = stats.ttest_1samp(values, 0.0)
    interval = student.confidence_interval(0.95)
    every = stats.PermutationMethod(n_resamples=np.inf)
    signs = stats.wilcoxon(values, zero_method="wilcox", method=every if len(values) < 20 else "exact")
    if len(np.unique(np.abs(values))) == len(values) and not (values == 0).any():
        exact = stats.wilcoxon(values, method="exact").pvalue
        assert abs(signs.pvalue - exact) < 1e-12, (values, signs.pvalue, exact)
    return {
        "gains": values.tolist(), "t": float(student.pvalue), "low": float(interval.low), "high": float(interval.high),
        "wilcoxon": float(signs.pvalue),
    }


def right(images, seed, more):
    """Right where a wave is above a threshold; the second network's wave is the first's, moved a little."""
    at = np.arange(images, dtype=np.float64)
    wave = np.sin(1.7 * at + 0.3 * seed) + 0.6 * np.cos(0.37 * at * at + seed)
    moved = np.sin(1.7 * at + 0.3 * seed + 0.2) + 0.6 * np.cos(0.37 * at * at + seed)
    return wave > 0.1, moved > 0.1 - 3.0 * more


def drawn(images, seeds, more):
    pairs = [right(images, seed, more) for seed in range(seeds)]
    brought = np.mean([second.astype(float) - first for first, second in pairs], axis=0)
    interval = stats.bootstrap(
        (100 * brought,), np.mean, n_resamples=10_000, method="percentile", batch=500, rng=np.random.default_rng(0)
    ).confidence_interval
    tables = [[[np.sum(a & b), np.sum(a & ~b)], [np.sum(~a & b), np.sum(~a & ~b)]] for a, b in pairs]
    return {
        "images": images, "seeds": seeds, "more": more, "gain": float(100 * brought.mean()),
        "low": float(interval.low), "high": float(interval.high),
        "mcnemar": [float(mcnemar(table, exact=True).pvalue) for table in tables],
    }


if __name__ == "__main__":
    recorded = {
        "gains": [gains(values) for values in GAINS],
        "quantiles": [{"pairs": n, "t": float(stats.t.ppf(0.975, n - 1))} for n in PAIRS],
        "families": [{"raw": raw, "holm": multipletests(raw, method="holm")[1].tolist()} for raw in FAMILIES],
        "discordant": [
            {"won": won, "lost": lost, "p": float(mcnemar([[0, lost], [won, 0]], exact=True).pvalue)} for won, lost in DISCORDANT
        ],
        "answers": [drawn(*one) for one in ANSWERS],
    }
    Path(__file__).with_suffix(".json").write_text(json.dumps(recorded, indent=1) + "\n")
