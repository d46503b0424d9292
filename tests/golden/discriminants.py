"""Records scikit-learn's classifier by discriminants for crates/baselines/tests/letkd.rs, into discriminants.json.

Points are those of letkd.py, of which the classes keep unequal parts, so that their shares count; what is told apart are
all of them. The test computes the points too. Release 1.2, as the authors of letKD have it: newer ones divide the spread within
classes by all points, and not by as many as are free.

    python3 -m pip install "scikit-learn==1.2.2" && python3 discriminants.py
"""

import json
import math
from pathlib import Path

import numpy
import sklearn
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

WIDTH, CLASSES, EACH = 5, 4, 60


def points():
    """As in letkd.py, without PyTorch."""
    rows = [
        [
            math.sin(1.7 * i + 2.3 * at * at) + 0.8 * math.cos((i // EACH) * (at + 1)) + 0.5 * math.sin(0.9 * i * (at + 2))
            for at in range(WIDTH)
        ]
        for i in range(CLASSES * EACH)
    ]
    return numpy.array(rows).astype(numpy.float32).astype(numpy.float64), numpy.arange(CLASSES * EACH) // EACH


def main():
    assert sklearn.__version__.startswith("1.2."), sklearn.__version__
    x, labels = points()
    # Of class c, the first EACH - 15 c.
    kept = numpy.arange(CLASSES * EACH) % EACH < EACH - 15 * labels
    lda = LinearDiscriminantAnalysis(solver="svd").fit(x[kept], labels[kept])
    likely = lda.predict_log_proba(x)
    recorded = {
        "scikit-learn": sklearn.__version__,
        "classes": lda.predict(x).tolist(),
        # The logarithms of the odds of each class against the first.
        "odds": (likely - likely[:, :1])[::20].flatten().tolist(),
    }
    path = Path(__file__).with_suffix(".json")
    path.write_text(json.dumps(recorded) + "\n")
    print(path, (lda.predict(x) == labels).mean())


if __name__ == "__main__":
    main()
