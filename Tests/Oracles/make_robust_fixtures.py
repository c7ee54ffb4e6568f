#!/usr/bin/env python3
"""Writes oracles of the robust aggregation rules to ../FederationTests/Fixtures/robust-*.safetensors: updates of a few clients, and
what each rule makes of them by numpy and scipy. The geometric median is found by a quasi-Newton method and polished by Newton's
own, not by Weiszfeld's steps.

python3 make_robust_fixtures.py        (numpy 2, scipy 1.17)
"""
import json
import pathlib
import struct

import numpy as np
from scipy.optimize import minimize
from scipy.spatial.distance import cdist
from scipy.stats import trim_mean

SHAPES = {"m.lora_A.weight": (4, 70), "m.lora_B.weight": (9, 4), "z.bias": (5,)}
SMOOTHING = 1e-6


def write(path, tensors, metadata):
    header, data = {"__metadata__": metadata}, b""
    for name in sorted(tensors):
        bytes_ = np.ascontiguousarray(tensors[name], "<f4").tobytes()
        header[name] = {
            "dtype": "F32", "shape": list(tensors[name].shape), "data_offsets": [len(data), len(data) + len(bytes_)]}
        data += bytes_
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def split(row):
    parts, start = {}, 0
    for name in sorted(SHAPES):
        count = int(np.prod(SHAPES[name]))
        parts[name] = row[start:start + count].reshape(SHAPES[name])
        start += count
    return parts


def krum_order(x, f):
    squares = cdist(x, x, "sqeuclidean")
    np.fill_diagonal(squares, np.inf)
    scores = np.sort(squares, axis=1)[:, : len(x) - f - 2].sum(axis=1)
    return np.argsort(scores, kind="stable")


def norm_bound(x, start, bound):
    d = x - start
    norms = np.linalg.norm(d, axis=1)
    return start + (d * np.minimum(1, bound / norms)[:, None]).mean(axis=0), norms


def geometric_median(x, start):
    def value(v):
        norms = np.linalg.norm(v - x, axis=1)
        smooth = np.where(norms > SMOOTHING, norms, norms**2 / (2 * SMOOTHING) + SMOOTHING / 2)
        return smooth.sum(), ((v - x) / np.maximum(SMOOTHING, norms)[:, None]).sum(axis=0)

    v = minimize(value, start, jac=True, method="BFGS", options={"gtol": 1e-9, "maxiter": 5000}).x
    for _ in range(20):
        u = v - x
        norms = np.linalg.norm(u, axis=1)
        hessian = np.zeros((v.size, v.size))
        for direction, norm in zip(u, norms):
            if norm > SMOOTHING:
                hessian += (np.eye(v.size) - np.outer(direction, direction) / norm**2) / norm
            else:
                hessian += np.eye(v.size) / SMOOTHING
        v = v - np.linalg.solve(hessian, value(v)[1])
    assert np.linalg.norm(value(v)[1]) < 1e-10
    return v


def case(name, seed, n, f, spread, hostile):
    generator = np.random.default_rng(seed)
    width = sum(int(np.prod(shape)) for shape in SHAPES.values())
    start = generator.normal(size=width).astype(np.float32).astype(float)
    pull = generator.normal(size=width)
    x = start + 0.1 * pull + spread * generator.normal(size=(n, width))
    x[:f] = start + hostile * generator.normal(size=(f, width))
    # Names are not in the order of who is hostile.
    names = [f"client-{k:02}" for k in generator.permutation(n)]
    order = np.argsort(names)
    names = [names[k] for k in order]
    x = x[order].astype(np.float32).astype(float)
    bound = 0.9 * float(np.median(np.linalg.norm(x - start, axis=1)))
    bounded, norms = norm_bound(x, start, bound)
    multiplied, _ = norm_bound(x, start, 0.8 * np.median(norms))
    ranking = krum_order(x, f)
    kept = sorted(ranking[: n - f - 2])
    three = sorted(ranking[:3])
    ordered = np.sort(x, axis=0)
    results = {
        "norm-bound": bounded,
        "norm-multiple": multiplied,
        "median": np.median(x, axis=0),
        "trimmed-count": ordered[f : n - f].mean(axis=0),
        "trimmed-share": trim_mean(x, 0.3, axis=0),
        "krum": x[ranking[0]],
        "multi-krum": x[kept].mean(axis=0),
        "multi-krum-3": x[three].mean(axis=0),
        "geometric-median": geometric_median(x, start),
    }
    tensors = {}
    for label, row in [("start", start), *zip(names, x), *results.items()]:
        for tensor, values in split(row).items():
            tensors[f"{label}/{tensor}"] = values
    metadata = {
        "clients": " ".join(names), "byzantine": str(f), "bound": repr(bound), "krum": names[ranking[0]],
        "multi-krum": " ".join(names[k] for k in kept), "multi-krum-3": " ".join(names[k] for k in three),
        "over-bound": " ".join(name for name, norm in zip(names, norms) if norm > bound),
    }
    folder = pathlib.Path(__file__).parent.parent / "FederationTests/Fixtures"
    folder.mkdir(exist_ok=True)
    write(folder / f"robust-{name}.safetensors", tensors, metadata)


case("seven", 1, n=7, f=2, spread=0.3, hostile=2.0)
case("eleven", 2, n=11, f=3, spread=0.05, hostile=300.0)
case("eight", 3, n=8, f=1, spread=0.5, hostile=0.5)
