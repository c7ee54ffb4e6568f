"""Writes Tests/EngineTests/Fixtures/metrics.json: measures of random lists by scikit-learn and scipy, and SQuAD's normalisation.

    python3 Tests/Oracles/make_metric_vectors.py
"""

import collections
import json
import pathlib
import re
import string

import numpy as np
from scipy import stats
from sklearn import metrics

OUT = pathlib.Path(__file__).resolve().parents[1] / "EngineTests" / "Fixtures" / "metrics.json"


def classification(random):
    cases = []
    for classes, count in [(2, 1), (2, 20), (2, 200), (3, 30), (5, 12), (7, 300)]:
        labels = random.integers(0, classes, count)
        predictions = np.where(random.random(count) < 0.6, labels, random.integers(0, classes, count))
        cases.append((labels, predictions))
    # A class that is never a label, one that is never predicted, and constants.
    cases += [(np.array([0, 2, 2, 0]), np.array([0, 2, 1, 1])), (np.array([1, 1, 1]), np.array([1, 1, 1])),
              (np.array([0, 0, 1]), np.array([0, 0, 0])), (np.array([0, 1]), np.array([1, 0]))]
    result = []
    for labels, predictions in cases:
        def f1(average, **options):
            return float(metrics.f1_score(labels, predictions, average=average, zero_division=0, **options))
        result.append({
            "labels": labels.tolist(), "predictions": predictions.tolist(),
            "accuracy": float(metrics.accuracy_score(labels, predictions)),
            "binary": f1("macro", labels=[1]), "macro": f1("macro"), "micro": f1("micro"), "weighted": f1("weighted"),
            "matthews": float(metrics.matthews_corrcoef(labels, predictions)),
        })
    return result


def correlation(random):
    lists = []
    for count in (2, 3, 10, 100):
        left = random.normal(size=count)
        lists.append((left, 0.5 * left + random.normal(size=count)))
    lists.append((random.integers(0, 4, 40).astype(float), random.integers(0, 3, 40).astype(float)))
    lists.append((np.arange(10.0), np.exp(np.arange(10.0))))
    lists.append((1e9 + random.normal(size=20), random.normal(size=20)))
    return [{"left": a.tolist(), "right": b.tolist(), "pearson": float(stats.pearsonr(a, b).statistic),
             "spearman": float(stats.spearmanr(a, b).statistic)} for a, b in lists]


def normalised(text):
    """The steps of SQuAD 1.1's evaluation in its order: lower case, no punctuation, no articles, single spaces."""
    text = "".join(c for c in text.lower() if c not in string.punctuation)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", text).split())


def squad():
    texts = ["The cat.", "a  An THE", "theatre of a dog's life", "An-other", "U.S.A.", "“the end”", "the—best", "42%", "ÉCOLE the école",
             "", "  x\ty\n", "in the 1990s", "a_b the_", "naïve café", "日本 the 語", "the€ 5"]
    pairs = [("the cat sat", "A cat sat down"), ("", "x"), ("one two two", "two two three"), ("same", "Same!")]
    scored = []
    for left, right in pairs:
        a, b = normalised(left).split(), normalised(right).split()
        common = sum((collections.Counter(a) & collections.Counter(b)).values())
        scored.append({"left": left, "right": right, "f1": 2 * common / (len(a) + len(b)) if common else 0.0})
    return {"texts": [{"text": text, "words": normalised(text).split()} for text in texts], "pairs": scored}


def main():
    random = np.random.default_rng(20)
    result = {"classification": classification(random), "correlation": correlation(random), "squad": squad()}
    OUT.write_text(json.dumps(result, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
