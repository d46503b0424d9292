"""Records letKD for crates/baselines/tests/letkd.rs, into letkd.json beside this file.

The layer and both losses are written again over PyTorch, discriminants by singular values of the data as scikit-learn's
`svd` solver has them, clusters and decisions by loops. Inputs are closed forms that the test computes too. All runs in
float64.

    python3 letkd.py
"""

import json
import math
from pathlib import Path

import torch
import torch.nn.functional as F

torch.set_default_dtype(torch.float64)


def filled(shape, wave):
    return torch.tensor([wave(i) for i in range(math.prod(shape))]).reshape(shape)


def layer():
    """Forward, loss and gradients of the layer, all of it for maps as PyTorch has them."""
    leaf = lambda tensor: tensor.requires_grad_()
    x = leaf(filled((2, 4, 2, 2), lambda i: math.sin(0.7 * i + 0.3)))
    match = leaf(filled((6, 4), lambda i: math.cos(0.5 * i + 0.1)))
    value = leaf(filled((4, 6), lambda i: math.sin(0.9 * i + 0.2)))
    scales = leaf(torch.tensor([3.0])), leaf(torch.tensor([1.0]))
    norm = torch.nn.BatchNorm2d(6)
    norm.train()
    a = scales[0] * F.conv2d(F.normalize(x, dim=1), F.normalize(match, dim=1)[:, :, None, None])
    active = F.relu(norm(a))
    v = scales[1] * F.conv2d(F.normalize(active, dim=1), F.normalize(value, dim=1)[:, :, None, None])
    out = x + v
    targets = F.softmax(filled((2, 2, 2, 6), lambda i: math.cos(0.4 * i)), dim=-1)
    log_q = F.log_softmax(a.permute(0, 2, 3, 1), dim=-1)
    loss = (targets * (targets.log() - log_q)).sum(-1).mean()
    pull = filled((2, 4, 2, 2), lambda i: math.sin(1.3 * i))
    ((out * pull).sum() + loss).backward()
    moved = {"x": x, "match": match, "value": value, "match scale": scales[0], "value scale": scales[1]}
    moved |= {"norm weight": norm.weight, "norm bias": norm.bias}
    return {
        "scores": a[0, :, 0, 0].tolist(),
        "active": active[0, :, 0, 0].tolist(),
        "values": v[0, :, 0, 0].tolist(),
        "out": out[1, :, 1, 1].tolist(),
        "sum": out.sum().item(),
        "loss": loss.item(),
        "running mean": norm.running_mean.tolist(),
        "gradients": {name: tensor.grad.flatten().tolist() for name, tensor in moved.items()},
    }


WIDTH, CLASSES, EACH, PARTS = 5, 4, 60, 2


def points():
    """EACH points a class, class by class, rounded to float32."""
    rows = [
        [
            math.sin(1.7 * i + 2.3 * at * at) + 0.8 * math.cos((i // EACH) * (at + 1)) + 0.5 * math.sin(0.9 * i * (at + 2))
            for at in range(WIDTH)
        ]
        for i in range(CLASSES * EACH)
    ]
    return torch.tensor(rows).float().double(), torch.arange(CLASSES * EACH) // EACH


def lda(x, labels):
    number = len(x)
    means = torch.stack([x[labels == c].mean(0) for c in range(CLASSES)])
    share = torch.bincount(labels) / number
    mean = share @ means
    gaps = x - means[labels]
    spread = gaps.pow(2).mean(0).sqrt()
    _, size, turn = torch.linalg.svd(gaps / spread / math.sqrt(number - CLASSES), full_matrices=False)
    kept = size > 1e-4
    whiten = (turn[kept] / spread).T / size[kept]
    apart = (number * share / (CLASSES - 1)).sqrt()[:, None] * (means - mean) @ whiten
    _, size, turn = torch.linalg.svd(apart, full_matrices=False)
    return whiten @ turn.T[:, size > 1e-4 * size[0]], mean


def lloyd(x, centres, iterations):
    for _ in range(iterations):
        nearest = torch.cdist(x, centres).argmin(1)
        centres = torch.stack([x[nearest == k].mean(0) for k in range(len(centres))])
    return centres, torch.cdist(x, centres).argmin(1)


def clusters():
    x, _ = points()
    centres, nearest = lloyd(x, x[[3, 77, 150, 231]], 20)
    return {"centres": centres.flatten().tolist(), "nearest": nearest.tolist()}


def discriminants():
    x, labels = points()
    directions, mean = lda(x, labels)
    # A direction's sign is a convention: squares of the components have none.
    components = (x - mean) @ directions
    return {"mean": mean.tolist(), "squares": components[::20].pow(2).flatten().tolist()}


def main():
    recorded = {"layer": layer(), "clusters": clusters(), "discriminants": discriminants()}
    path = Path(__file__).with_suffix(".json")
    path.write_text(json.dumps(recorded, indent=1) + "\n")


if __name__ == "__main__":
    main()
