"""Records distributions.json: how two samples compare, by SciPy, and principal components, by numpy.

    python3 distributions.py

Needs SciPy beside numpy. Samples come from closed forms that both sides compute, so only results are recorded.
"""

import json
from pathlib import Path

import numpy as np
from scipy.stats import ks_2samp, wasserstein_distance

# Count, count, what is added to the second, what it is multiplied by: from equal to far apart, odd sizes among them.
PAIRS = [
    (500, 500, 0.0, 1.0), (500, 500, 0.05, 1.0), (500, 500, 0.1, 1.3), (500, 500, 0.2, 0.7), (500, 500, 0.6, 1.0),
    (500, 500, 3.0, 1.0), (40, 25, 0.1, 1.0), (7, 5, 0.4, 1.0), (7, 5, 0.0, 1.0), (300, 11, 0.3, 2.0), (2000, 1500, 0.02, 1.1),
]
# Vectors, numbers in each, components.
SETS = [(30, 6, 6), (12, 20, 8), (60, 9, 4)]


def sample(count, phase):
    at = np.arange(count, dtype=np.float64)
    return np.sin(1.7 * at + phase) + 0.5 * np.cos(0.37 * at * at + phase)


def vectors(count, width):
    row, at = np.arange(count, dtype=np.float64)[:, None], np.arange(width, dtype=np.float64)[None, :]
    return np.sin(1.3 * row + 2.1 * at + 0.7 * row * at) * (1.0 + at) + 0.3 * at


def compared(first, second, shift, scale):
    a, b = sample(first, 0.2), scale * sample(second, 1.1) + shift
    ks = ks_2samp(a, b, method="asymp")
    return {
        "first": first, "second": second, "shift": shift, "scale": scale, "statistic": float(ks.statistic),
        "p": float(ks.pvalue), "wasserstein": float(wasserstein_distance(a, b)),
    }


def principal(count, width, components):
    x = vectors(count, width)
    x = x - x.mean(axis=0)
    _, values, loadings = np.linalg.svd(x, full_matrices=False)
    largest = loadings[np.arange(len(loadings)), np.abs(loadings).argmax(axis=1)]
    loadings = loadings * np.sign(largest)[:, None]
    explained = values**2 / (values**2).sum()
    return {
        "count": count, "width": width, "explained": explained[:components].tolist(),
        "scores": (loadings[:components] @ x.T).tolist(),
    }


if __name__ == "__main__":
    recorded = {"pairs": [compared(*pair) for pair in PAIRS], "sets": [principal(*one) for one in SETS]}
    Path(__file__).with_suffix(".json").write_text(json.dumps(recorded, indent=1) + "\n")
