"""Records dam.json: DAM's heads, terms and gradients, written here once more from its equations.

    python3 dam.py

Runs in double precision. Noise comes from closed forms that both sides compute, so only results are recorded.
"""

import json
import math
from pathlib import Path

import torch
import torch.nn.functional as F

from losses import wave

PAPER = {
    "output": "relu", "batch-norm": False, "peaks": 8, "window": 3, "min-box": 0.0, "boxes-from": "student",
    "combine": "sum", "over": "map", "agreement": 1000.0, "area": 1000.0, "stop-teacher": False,
}
BATCH, FROM, TO, HEIGHT, WIDTH, CLASSES = 3, 3, 4, 6, 5, 5


def normed(x, weights, at):
    return F.batch_norm(x, None, None, weights[f"{at}.weight"], weights[f"{at}.bias"], training=True)


def adapted(student, weights, dam):
    depth = dam["hint"]["depth"]
    at = "adapter.hint.1" + (f"-deep{depth}" if depth > 1 else "")
    out = F.relu(normed(F.conv2d(student, weights[f"{at}.conv.weight"]), weights, f"{at}.bn"))
    for deeper in range(depth - 1):
        here = f"{at}.deeper.{deeper}"
        out = F.relu(normed(F.conv2d(out, weights[f"{here}.conv.weight"], padding=1), weights, f"{here}.bn"))
    return out


def branch(x, weights, dam, name):
    at = f"adapter.dam.1.{name}"
    x = F.conv2d(x, weights[f"{at}.conv1.weight"], weights.get(f"{at}.conv1.bias"), padding=1)
    if dam["batch-norm"]:
        x = normed(x, weights, f"{at}.bn1")
    return F.conv2d(F.relu(x), weights[f"{at}.conv2.weight"], weights[f"{at}.conv2.bias"])


def sight(x, weights, dam):
    logits, size, offset = (branch(x, weights, dam, name) for name in ("heatmap", "size", "offset"))
    if dam["output"] == "relu":
        logits, size, offset = F.relu(logits), F.relu(size), F.relu(offset)
    elif dam["output"] == "softplus-sizes":
        size = F.softplus(size)
    return {"logits": logits, "heatmap": torch.sigmoid(logits), "size": size, "offset": offset}


def counts(seen, dam):
    """How often each cell of each image is covered by the boxes around the highest peaks."""
    heat, size, offset = (seen[name].detach() for name in ("heatmap", "size", "offset"))
    window = dam["window"]
    kept = heat == F.max_pool2d(heat, window, stride=1, padding=window // 2)
    covered = torch.zeros(BATCH, HEIGHT, WIDTH, dtype=heat.dtype)
    clamp = lambda value, last: int(min(max(value, 0.0), last))
    for image in range(BATCH):
        flat = torch.where(kept[image], heat[image], torch.tensor(-1.0, dtype=heat.dtype)).flatten()
        order = torch.sort(flat, descending=True, stable=True).indices[: dam["peaks"]]
        for place in (p.item() for p in order if flat[p] >= 0):
            row, column = place % (HEIGHT * WIDTH) // WIDTH, place % WIDTH
            (w, h), (dx, dy) = size[image, :, row, column].tolist(), offset[image, :, row, column].tolist()
            w, h = max(w, dam["min-box"]), max(h, dam["min-box"])
            x, y = column + dx, row + dy
            left, right = clamp(x - w / 2, WIDTH - 1), clamp(x + w / 2, WIDTH - 1)
            top, bottom = clamp(y - h / 2, HEIGHT - 1), clamp(y + h / 2, HEIGHT - 1)
            covered[image, top : bottom + 1, left : right + 1] += 1
    return covered


def each(values):
    return values.flatten(1).mean(1)


def terms(case, leaves):
    dam, weights = case["dam"], leaves
    student, teacher = adapted(leaves["student.maps.1"], weights, dam), leaves["teacher.maps.1"]
    ours, theirs = sight(student, weights, dam), sight(teacher, weights, dam)
    side = lambda seen: torch.cat([seen["heatmap"], seen["size"], seen["offset"]], dim=1)
    there = side(theirs).detach() if dam["stop-teacher"] else side(theirs)
    out = {"agreement": (dam["agreement"], each((side(ours) - there) ** 2))}
    if "anchor" in dam:
        for name, seen in (("anchor/student", ours), ("anchor/teacher", theirs)):
            surprise = F.cross_entropy(seen["logits"].mean((2, 3)), torch.tensor(case["labels"]), reduction="none")
            out[name] = dam["anchor"]["weight"], surprise
    source = {"student": ours, "teacher": theirs, "both": {n: (ours[n] + theirs[n]) / 2 for n in ours}}
    n = counts(source[dam["boxes-from"]], dam)
    case["covered"] = [int(v) for v in n.flatten()]
    if dam["combine"] == "count-squared" and dam["over"] == "map":
        # As the development code has it: both maps times n.
        area = each((n[:, None] * student - n[:, None] * teacher) ** 2)
    else:
        weight = {"sum": n, "union": n.clamp(max=1), "count-squared": n * n}[dam["combine"]]
        squares = ((student - teacher) ** 2).mean(1)
        over = HEIGHT * WIDTH if dam["over"] == "map" else weight.sum((1, 2))
        area = (weight * squares).sum((1, 2)) / over
    out["area"] = dam["area"], area
    return out, {"student": ours, "teacher": theirs}


def case(name, hint=1, **changed):
    dam = {"hint": {"depth": hint}, **PAPER, **{key.replace("_", "-"): value for key, value in changed.items()}}
    uniform = lambda *shape, scale=0.5, shift=0.0: {"shape": list(shape), "scale": scale, "shift": shift}
    weights = {}

    def norm(at, channels):
        weights[f"{at}.weight"] = uniform(channels, shift=1.0)
        weights[f"{at}.bias"] = uniform(channels, scale=0.3)

    at = "adapter.hint.1" + (f"-deep{hint}" if hint > 1 else "")
    weights[f"{at}.conv.weight"] = uniform(TO, FROM, 1, 1)
    norm(f"{at}.bn", TO)
    for deeper in range(hint - 1):
        weights[f"{at}.deeper.{deeper}.conv.weight"] = uniform(TO, TO, 3, 3)
        norm(f"{at}.deeper.{deeper}.bn", TO)
    width = dam.get("width", TO)
    for name_, to in (("heatmap", dam.get("heatmaps", CLASSES)), ("size", 2), ("offset", 2)):
        here = f"adapter.dam.1.{name_}"
        weights[f"{here}.conv1.weight"] = uniform(width, TO, 3, 3)
        if dam["batch-norm"]:
            norm(f"{here}.bn1", width)
        else:
            weights[f"{here}.conv1.bias"] = uniform(width, scale=0.3)
        weights[f"{here}.conv2.weight"] = uniform(to, width, 1, 1, scale=1.0)
        weights[f"{here}.conv2.bias"] = uniform(to, scale=0.3, shift=0.8 if name_ == "size" else 0.1)
    side = lambda channels: {
        "logits": uniform(BATCH, CLASSES, scale=1.0),
        "maps": [uniform(BATCH, c, HEIGHT, WIDTH, scale=1.0, shift=0.3) for c in (2, channels)],
    }
    labels = [4, 0, 3]
    return {"name": name, "dam": dam, "labels": labels, "student": side(FROM), "teacher": side(TO), "weights": weights}


ROBUST = {"output": "softplus-sizes", "over": "area", "agreement": 1.0, "area": 100.0, "anchor": {"weight": 1.0}}
CASES = [
    case("paper"),
    case("paper, three convolutions", hint=3),
    case("development code", combine="count-squared"),
    case("union", combine="union"),
    case("sum over the area", over="area"),
    case("union over the area", over="area", combine="union"),
    case("count squared over the area", over="area", combine="count-squared"),
    case("robust", **ROBUST),
    case("plain outputs", output="plain"),
    case("teacher's boxes", boxes_from="teacher"),
    case("both's boxes", boxes_from="both", output="plain"),
    case("teacher at rest", stop_teacher=True),
    case("batch norm, wider", batch_norm=True, width=6),
    case("two heatmaps", heatmaps=2, output="plain"),
    case("boxes of two cells at least", min_box=2.0),
    case("three boxes, no window", peaks=3, window=1),
    case("more boxes than peaks", peaks=40, window=5, heatmaps=2, output="plain"),
]


def record(case):
    leaves = {}
    for who in ("student", "teacher"):
        for place, spec in enumerate(case[who]["maps"]):
            name = f"{who}.maps.{place}"
            leaves[name] = wave(name, **spec).double().requires_grad_()
    for name, spec in case["weights"].items():
        leaves[name] = wave(name, **spec).double().requires_grad_()
    found, seen = terms(case, leaves)
    total = sum(weight * value.mean() for weight, value in found.values())
    total.backward()
    assert math.isfinite(total.item()), case["name"]
    digits = lambda tensor: [float(f"{value:.8g}") for value in tensor.flatten().tolist()]
    last = lambda t: t.permute(0, 2, 3, 1)
    case["sights"] = {}
    if case["name"] in ("paper", "robust"):
        names = ("heatmap", "size", "offset")
        case["sights"] = {who: {n: digits(last(side[n].detach())) for n in names} for who, side in seen.items()}
    case["terms"] = {name: digits(value.detach()) for name, (_, value) in found.items()}
    case["total"] = total.item()
    ours = lambda name, g: last(g) if ".maps." in name else g
    case["gradients"] = {n: digits(ours(n, leaf.grad)) for n, leaf in leaves.items() if leaf.grad is not None}
    print(f"{case['name']:32}", {name: round(value.mean().item(), 6) for name, (_, value) in found.items()},
          "covered", sum(c > 0 for c in case["covered"]), "most", max(case["covered"]))
    return case


if __name__ == "__main__":
    torch.use_deterministic_algorithms(True)
    recorded = {"torch": torch.__version__.split("+")[0], "cases": [record(one) for one in CASES]}
    path = Path(__file__).with_name("dam.json")
    path.write_text(json.dumps(recorded, separators=(",", ":")).replace('{"name"', '\n{"name"') + "\n")
    print(path.name, path.stat().st_size, "bytes")
