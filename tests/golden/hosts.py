"""Records CRD and ReviewKD and their gradients for tests/tests/hosts.rs, into hosts.json beside this file.

The formulas are those of RepDistiller and mdistiller, written again over PyTorch; inputs are closed forms that the test
computes too. Every case runs in float64, which is what is recorded, and in float32, whose sum is recorded as well.

    python3 hosts.py
"""

import json
import math
from pathlib import Path

import torch
import torch.nn.functional as F

from losses import wave

EPS = 1e-7


# Contrastive representation distillation.


def chances(anchors, bank, picks, temperature):
    """exp of the products of each anchor and its picks, not yet normalised."""
    picked = bank[picks.flatten()].view(*picks.shape, -1)
    return torch.exp((picked * anchors.unsqueeze(1)).sum(2) / temperature)


def surprise(chances, rows):
    """Per example, from normalised chances, the positive's first."""
    noise = (chances.shape[1] - 1) / rows
    own = torch.log(chances[:, 0] / (chances[:, 0] + noise + EPS))
    others = torch.log(noise / (chances[:, 1:] + noise + EPS))
    return -(own + others.sum(1))


def contrast(anchors, bank, picks, temperature, known):
    out = chances(anchors, bank, picks, temperature)
    normaliser = (out.mean() * len(bank)).item() if known is None else known
    return surprise(out / normaliser, len(bank)), normaliser


def embed(pooled, weights, who):
    out = F.linear(pooled, weights[f"adapter.crd.{who}.weight"], weights[f"adapter.crd.{who}.bias"])
    return out / out.pow(2).sum(1, keepdim=True).sqrt()


def crd(pair, rows, width, negatives, temperature, momentum):
    """Every image has a class of its own, and all others are negatives: nothing is drawn."""
    weights = pair["weights"]
    banks = {who: weights[f"adapter.crd.running_{who}"] for who in ("student", "teacher")}
    images = len(banks["student"])
    assert negatives == images - 1 and banks["student"].shape[1] == width
    picks = torch.tensor([[row] + [other for other in range(images) if other != row] for row in rows])
    said = {who: embed(pair[who]["pooled"], weights, who) for who in banks}
    normalisers, value = weights["adapter.crd.running_normalisers"], 0
    for place, (who, other) in enumerate((("student", "teacher"), ("teacher", "student"))):
        known = normalisers[place].item()
        values, known = contrast(said[who], banks[other].detach(), picks, temperature, known if known > 0 else None)
        normalisers[place] = known
        value = value + values
    with torch.no_grad():
        for who, bank in banks.items():
            mixed = bank[rows] * momentum + said[who] * (1 - momentum)
            bank[rows] = mixed / mixed.pow(2).sum(1, keepdim=True).sqrt()
    return value.mean()


# Knowledge review.


def pyramid(a, b):
    total, share, shares = F.mse_loss(a, b), 1.0, 1.0
    for side in (4, 2, 1):
        if side < a.shape[2]:
            share /= 2
            shares += share
            total = total + share * F.mse_loss(F.adaptive_avg_pool2d(a, side), F.adaptive_avg_pool2d(b, side))
    return total / shares


def review(pair, rows, **_):
    weights = pair["weights"]

    def layer(x, name):
        out = F.conv2d(x, weights[f"{name}.0.weight"], padding=weights[f"{name}.0.weight"].shape[2] // 2)
        return F.batch_norm(out, None, None, weights[f"{name}.1.weight"], weights[f"{name}.1.bias"], training=True)

    levels = lambda who: pair[who]["maps"] + [pair[who]["pooled"][:, :, None, None]]
    student, teacher = levels("student"), levels("teacher")
    stages = min(len(student), len(teacher)) - 1
    pairs = list(zip(student[:stages], teacher[:stages])) + [(student[-1], teacher[-1])]
    behind, total = None, 0
    for level, (ours, theirs) in reversed(list(enumerate(pairs))):
        name = f"adapter.review-kd.{level}"
        fused = layer(ours, f"{name}.conv1")
        if behind is not None:
            behind = F.interpolate(behind, tuple(fused.shape[2:]), mode="nearest")
            attention = weights[f"{name}.att_conv.0.weight"], weights[f"{name}.att_conv.0.bias"]
            shares = torch.sigmoid(F.conv2d(torch.cat([fused, behind], 1), *attention))
            fused = fused * shares[:, :1] + behind * shares[:, 1:]
        fused = F.interpolate(fused, tuple(theirs.shape[2:]), mode="nearest")
        total = total + pyramid(layer(fused, f"{name}.conv2"), theirs)
        behind = fused
    return total


LOSSES = {"crd": crd, "review-kd": review}


# The cases.


def contrasts(name, batch, width, rows, picks, temperature, known=None, unit=True):
    """Picks in a closed form; with `unit` anchors are of about the length that embeddings have."""
    scale = math.sqrt(3 / width) if unit else 2.0
    return {
        "name": name,
        "anchors": {"shape": [batch, width], "scale": scale},
        "bank": {"shape": [rows, width], "scale": scale},
        "picks": [[(31 * example + 17 * pick * pick + pick) % rows for pick in range(picks)] for example in range(batch)],
        "temperature": temperature,
        "known": known,
    }


CONTRASTS = [
    contrasts("a few", 3, 5, 7, 5, 0.07),
    contrasts("rows picked again and again", 4, 16, 11, 60, 0.07),
    contrasts("a known normaliser", 4, 16, 50, 21, 0.1, known=130.0),
    contrasts("rows that nobody picks", 5, 8, 300, 4, 0.07),
    contrasts("far from unit length", 3, 6, 20, 9, 0.3, unit=False),
    contrasts("as many as CIFAR's", 2, 128, 5000, 1639, 0.07),
]


def contrastive(name, batches, images, student, teacher, width, temperature=0.07, momentum=0.5):
    weights = {}
    for who, features in (("student", student), ("teacher", teacher)):
        weights[f"adapter.crd.{who}.weight"] = {"shape": [width, features], "scale": 1.0}
        weights[f"adapter.crd.{who}.bias"] = {"shape": [width], "scale": 0.3}
        weights[f"adapter.crd.running_{who}"] = {"shape": [images, width], "scale": math.sqrt(3 / width)}
    batch = len(batches[0])
    side = lambda features: {"pooled": {"shape": [batch, features], "scale": 1.0}, "maps": []}
    settings = {"width": width, "negatives": images - 1, "temperature": temperature, "momentum": momentum}
    return {"name": name, "loss": {"type": "crd", **settings}, "image": 1, "images": images, "batches": batches,
            "student": side(student), "teacher": side(teacher), "weights": weights}


def reviewed(name, batch, student, teacher, image, most_channels=512):
    """(features, [(channels, side) of each stage]) of both."""
    middle = min(most_channels, student[0])
    ends = [(ours[0], theirs[0]) for ours, theirs in zip(student[1], teacher[1])] + [(student[0], teacher[0])]
    weights = {}
    for level, (from_, to) in enumerate(ends):
        for conv, (a, b, kernel) in {"conv1": (from_, middle, 1), "conv2": (middle, to, 3)}.items():
            at = f"adapter.review-kd.{level}.{conv}"
            weights[f"{at}.0.weight"] = {"shape": [b, a, kernel, kernel], "scale": 0.5}
            weights[f"{at}.1.weight"] = {"shape": [b], "scale": 0.5, "shift": 1.0}
            weights[f"{at}.1.bias"] = {"shape": [b], "scale": 0.3}
        if level + 1 < len(ends):
            at = f"adapter.review-kd.{level}.att_conv.0"
            weights[f"{at}.weight"] = {"shape": [2, 2 * middle, 1, 1], "scale": 0.5}
            weights[f"{at}.bias"] = {"shape": [2], "scale": 0.3}
    side = lambda features, stages: {
        "pooled": {"shape": [batch, features], "scale": 1.0},
        "maps": [{"shape": [batch, channels, side, side], "scale": 1.0} for channels, side in stages],
    }
    loss = {"type": "review-kd", "most-channels": most_channels}
    return {"name": name, "loss": loss, "image": image, "images": batch, "batches": [list(range(batch))],
            "student": side(*student), "teacher": side(*teacher), "weights": weights}


CASES = [
    contrastive("crd, two batches", [[0, 3], [3, 4]], 5, 4, 6, 3),
    contrastive("crd, three batches, another momentum", [[1, 2, 0], [5, 7, 2], [0, 1, 7]], 8, 7, 5, 4, 0.2, 0.9),
    contrastive("crd, wide", [[9, 0, 4, 2]], 10, 5, 6, 128),
    reviewed("review, maps alike", 4, (5, [(3, 8), (4, 4)]), (6, [(4, 8), (5, 4)]), 8),
    reviewed("review, a teacher of larger maps", 4, (4, [(3, 4), (5, 3)]), (5, [(2, 8), (4, 6)]), 24),
    reviewed("review, a teacher of smaller maps and more stages", 5, (6, [(3, 8), (4, 8)]), (3, [(5, 4), (4, 2), (7, 1)]), 8),
    reviewed("review, more stages, few channels", 4, (6, [(3, 8), (4, 4), (5, 2)]), (4, [(4, 8), (3, 8)]), 8, most_channels=3),
]


def digits(tensor):
    return [float(f"{value:.8g}") for value in tensor.flatten().tolist()]


def record_contrast(case):
    anchors = wave("anchors", **case["anchors"]).double().requires_grad_()
    bank, picks = wave("bank", **case["bank"]).double(), torch.tensor(case["picks"])
    values, normaliser = contrast(anchors, bank, picks, case["temperature"], case["known"])
    values.sum().backward()
    print(f"{case['name']:55} {values.mean().item():.9g}")
    return {**case, "values": values.tolist(), "normaliser": normaliser, "gradient": digits(anchors.grad)}


def run(case, dtype):
    leaves = {}

    def leaf(name, spec):
        leaves[name] = wave(name, **spec).to(dtype).requires_grad_("running" not in name)
        return leaves[name]

    pair = {"weights": {name: leaf(name, spec) for name, spec in case["weights"].items()}}
    pair["weights"]["adapter.crd.running_normalisers"] = torch.tensor([-1.0, -1.0], dtype=dtype)
    for who in ("student", "teacher"):
        maps = [leaf(f"{who}.maps.{i}", spec) for i, spec in enumerate(case[who]["maps"])]
        pair[who] = {"pooled": leaf(f"{who}.pooled", case[who]["pooled"]), "maps": maps}
    settings = {name: value for name, value in case["loss"].items() if name != "type"}
    steps = []
    for rows in case["batches"]:
        for tensor in leaves.values():
            tensor.grad = None
        total = LOSSES[case["loss"]["type"]](pair, rows, **settings)
        total.backward()
        steps.append((total.item(), {name: t.grad for name, t in leaves.items() if t.grad is not None}))
    after = {name: t for name, t in pair["weights"].items() if "running" in name and case["loss"]["type"] == "crd"}
    return steps, after


def record(case):
    (steps, after), (rough, _) = run(case, torch.float64), run(case, torch.float32)
    # Maps have their channels last in our order of axes.
    ours = lambda name, g: g.permute(0, 2, 3, 1) if ".maps." in name else g
    recorded = []
    for (total, gradients), (single, _) in zip(steps, rough):
        print(f"{case['name']:55} {total:.9g}  float32 is off by {abs(single - total) / abs(total):.1e}")
        gradients = {name: digits(ours(name, g)) for name, g in gradients.items()}
        recorded.append({"total": total, "float32": str(single), "gradients": gradients})
    return {**case, "steps": recorded, "after": {name: digits(t) for name, t in after.items()}}


if __name__ == "__main__":
    torch.use_deterministic_algorithms(True)
    recorded = {
        "torch": torch.__version__.split("+")[0],
        "contrasts": [record_contrast(case) for case in CONTRASTS],
        "cases": [record(case) for case in CASES],
    }
    path = Path(__file__).with_name("hosts.json")
    path.write_text(json.dumps(recorded, separators=(",", ":")).replace('{"name"', '\n{"name"') + "\n")
    print(path.name, path.stat().st_size, "bytes")
