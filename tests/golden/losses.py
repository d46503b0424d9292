"""Records losses and their gradients for tests/tests/golden.rs, into losses.json beside this file.

The formulas are those of mdistiller and RepDistiller, written again over PyTorch; inputs are closed forms that the test
computes too, rounded to float32 before anything is done with them. Every case runs in float64, which is what is
recorded, and in float32, whose sum is recorded as well: how far the peers' own arithmetic lies from the truth.

    python3 losses.py
"""

import json
import math
from pathlib import Path

import torch
import torch.nn.functional as F


def wave(name, shape, scale=1.0, shift=0.0, dead=()):
    """Noise that both languages can draw: the digits of sines, in [shift - scale, shift + scale)."""
    phase = sum(ord(letter) * (place + 1) for place, letter in enumerate(name))
    digits = [math.sin(phase + 12.9898 * (i + 1)) * 43758.5453 for i in range(math.prod(shape))]
    values = torch.tensor([shift + scale * (2 * (d - math.floor(d)) - 1) for d in digits], dtype=torch.float64)
    values = values.float().reshape(shape)
    for example in dead:
        values[example] = 0
    return values


# The peers' losses, reduced over the batch as they are.


def cross_entropy(pair, smoothing=0.0):
    return F.cross_entropy(pair["student"]["logits"], pair["labels"], label_smoothing=smoothing)


def kd(pair, temperature=4.0):
    student = F.log_softmax(pair["student"]["logits"] / temperature, dim=1)
    teacher = F.softmax(pair["teacher"]["logits"] / temperature, dim=1)
    return F.kl_div(student, teacher, reduction="none").sum(1).mean() * temperature**2


def dkd(pair, alpha=1.0, beta=8.0, temperature=4.0):
    student, teacher = pair["student"]["logits"] / temperature, pair["teacher"]["logits"] / temperature
    label = F.one_hot(pair["labels"], student.shape[1]).to(student.dtype)

    def target(logits):
        p = F.softmax(logits, dim=1)
        return torch.cat([(p * label).sum(1, keepdim=True), (p * (1 - label)).sum(1, keepdim=True)], dim=1)

    batch = student.shape[0]
    tckd = F.kl_div(torch.log(target(student)), target(teacher), reduction="sum") / batch
    others = F.log_softmax(student - 1000 * label, dim=1), F.softmax(teacher - 1000 * label, dim=1)
    nckd = F.kl_div(*others, reduction="sum") / batch
    return (alpha * tckd + beta * nckd) * temperature**2


def dkd_in_logarithms(pair, alpha=1.0, beta=8.0, temperature=4.0):
    """The same function where the form above overflows: example by example, the label taken out of the list."""
    total = 0
    for student, teacher, label in zip(pair["student"]["logits"], pair["teacher"]["logits"], pair["labels"].tolist()):
        keep = [c for c in range(len(student)) if c != label]
        s, t = (F.log_softmax(logits / temperature, dim=0) for logits in (student, teacher))
        ns, nt = (F.log_softmax(logits[keep] / temperature, dim=0) for logits in (student, teacher))
        bs, bt = (torch.stack([p[label], torch.logsumexp(p[keep], 0)]) for p in (s, t))
        total = total + alpha * (bt.exp() * (bt - bs)).sum() + beta * (nt.exp() * (nt - ns)).sum()
    return total * temperature**2 / len(pair["labels"])


def fitnet(pair, stage):
    student, teacher, weights = pair["student"]["maps"][stage], pair["teacher"]["maps"][stage], pair["weights"]
    at = f"adapter.hint.{stage}"
    ours, theirs, kernel = student.shape[2], teacher.shape[2], weights[f"{at}.conv.weight"]
    if ours == 2 * theirs:
        out = F.conv2d(student, kernel, stride=2, padding=1)
    elif ours * 2 == theirs:
        # PyTorch keeps a transposed kernel as (from, to, height, width), and mirrored against an ordinary one.
        out = F.conv_transpose2d(student, kernel.transpose(0, 1).flip(2, 3), stride=2, padding=1)
    else:
        out = F.conv2d(student, kernel)
    out = F.batch_norm(out, None, None, weights[f"{at}.bn.weight"], weights[f"{at}.bn.bias"], training=True)
    return F.mse_loss(F.relu(out), teacher)


def at(pair, power=2):
    def attention(features):
        return F.normalize(features.pow(power).mean(1).reshape(features.size(0), -1))

    total = 0
    for student, teacher in zip(pair["student"]["maps"], pair["teacher"]["maps"]):
        ours, theirs = student.shape[2], teacher.shape[2]
        if ours > theirs:
            student = F.adaptive_avg_pool2d(student, (theirs, theirs))
        elif ours < theirs:
            teacher = F.adaptive_avg_pool2d(teacher, (ours, ours))
        total = total + (attention(student) - attention(teacher)).pow(2).mean()
    return total


LOSSES = {"cross-entropy": cross_entropy, "kd": kd, "dkd": dkd, "fitnet": fitnet, "at": at}


# The cases.


def logits(name, loss, batch, classes, student=3.0, teacher=5.0, shift=0.0, formula=None):
    side = lambda who, scale: {"logits": {"shape": [batch, classes], "scale": scale, "shift": shift}, "maps": []}
    labels = [(7 * row + 1) % classes for row in range(batch)]
    sides = {"student": side("student", student), "teacher": side("teacher", teacher)}
    return {"name": name, "loss": loss, "labels": labels, **sides, "weights": {}}, formula


def maps(name, loss, student, teacher, weights=None, **how):
    side = lambda shapes: {
        "logits": {"shape": [shapes[0][0], 2], "scale": 1.0},
        "maps": [{"shape": shape, "scale": 1.0, **how} for shape in shapes],
    }
    labels = [0] * student[0][0]
    return {"name": name, "loss": loss, "labels": labels, "student": side(student), "teacher": side(teacher),
            "weights": weights or {}}, None


def adapter(kernel, student, teacher, image):
    """One FitNet case: kernel side, (channels, side) of both maps."""
    (from_, ours), (to, theirs) = student, teacher
    weights = {
        "adapter.hint.0.conv.weight": {"shape": [to, from_, kernel, kernel], "scale": 0.5},
        "adapter.hint.0.bn.weight": {"shape": [to], "scale": 0.5, "shift": 1.0},
        "adapter.hint.0.bn.bias": {"shape": [to], "scale": 0.3},
    }
    name = f"fitnet, {from_}x{ours}x{ours} to {to}x{theirs}x{theirs}"
    shapes = [[2, from_, ours, ours]], [[2, to, theirs, theirs]]
    case, formula = maps(name, {"type": "fitnet", "stage": 0}, *shapes, weights)
    return {**case, "image": image}, formula


CASES = [
    logits("cross-entropy", {"type": "cross-entropy"}, 3, 100),
    logits("cross-entropy, smoothed", {"type": "cross-entropy", "smoothing": 0.1}, 3, 5),
    logits("cross-entropy, sure", {"type": "cross-entropy", "smoothing": 0.1}, 5, 10, student=300.0),
    logits("kd", {"type": "kd"}, 3, 100),
    logits("kd, temperature 1", {"type": "kd", "temperature": 1.0}, 3, 5),
    logits("kd, far from zero", {"type": "kd"}, 3, 5, shift=200.0),
    logits("kd, sure", {"type": "kd"}, 5, 10, student=300.0, teacher=300.0),
    logits("kd, alike", {"type": "kd"}, 3, 5, student=0.02, teacher=0.02),
    logits("dkd", {"type": "dkd"}, 3, 100),
    logits("dkd, other weights", {"type": "dkd", "alpha": 0.5, "beta": 2.0, "temperature": 1.0}, 3, 5),
    logits("dkd, two classes", {"type": "dkd"}, 5, 2),
    logits("dkd, two classes, sure", {"type": "dkd"}, 5, 2, student=60.0, teacher=90.0),
    logits("dkd, sure", {"type": "dkd"}, 5, 10, student=100.0, teacher=150.0),
    logits("dkd, extreme", {"type": "dkd"}, 5, 10, student=9000.0, teacher=9000.0, formula=dkd_in_logarithms),
    adapter(1, (4, 6), (5, 6), 6),
    adapter(3, (4, 8), (5, 4), 8),
    adapter(4, (4, 3), (5, 6), 6),
    adapter(7, (4, 8), (5, 2), 8),
    maps("at", {"type": "at"}, [[3, 4, 8, 8], [3, 6, 4, 4]], [[3, 5, 8, 8], [3, 7, 4, 4]], shift=0.5),
    maps("at, pooled", {"type": "at"}, [[3, 4, 8, 8], [3, 6, 5, 5]], [[3, 5, 6, 6], [3, 7, 7, 7]]),
    maps("at, power 3", {"type": "at", "power": 3}, [[2, 4, 5, 5]], [[2, 6, 5, 5]], shift=0.5),
    maps("at, dead", {"type": "at"}, [[3, 4, 4, 4]], [[3, 5, 4, 4]], dead=[1]),
]


def run(case, formula, dtype):
    leaves = {}

    def leaf(name, spec):
        leaves[name] = wave(name, **spec).to(dtype).requires_grad_()
        return leaves[name]

    pair = {"labels": torch.tensor(case["labels"])}
    for who in ("student", "teacher"):
        maps = [leaf(f"{who}.maps.{i}", spec) for i, spec in enumerate(case[who]["maps"])]
        pair[who] = {"logits": leaf(f"{who}.logits", case[who]["logits"]), "maps": maps}
    pair["weights"] = {name: leaf(name, spec) for name, spec in case["weights"].items()}
    settings = {name: value for name, value in case["loss"].items() if name != "type"}
    total = (formula or LOSSES[case["loss"]["type"]])(pair, **settings)
    total.backward()
    return total.item(), {name: t.grad for name, t in leaves.items() if t.grad is not None}


def record(case, formula):
    total, gradients = run(case, formula, torch.float64)
    rough, _ = run(case, formula, torch.float32)
    assert math.isfinite(total), case["name"]
    # The peers never ask for a teacher's gradient, and their DKD has none: it divides by the hidden label's 0.
    gradients = {name: g for name, g in gradients.items() if g.isfinite().all() or name != "teacher.logits"}
    assert all(g.isfinite().all() for g in gradients.values()), case["name"]
    print(f"{case['name']:32} {total:.9g}  float32 is off by {abs(rough - total) / abs(total):.1e}")
    # What single precision cannot hold at all counts as 0.
    digits = lambda tensor: [float(f"{value:.8g}") if abs(value) > 1e-38 else 0 for value in tensor.flatten().tolist()]
    # Maps have their channels last in our order of axes.
    ours = lambda name, g: g.permute(0, 2, 3, 1) if ".maps." in name else g
    gradients = {name: digits(ours(name, g)) for name, g in gradients.items()}
    return {**case, "total": total, "float32": str(rough), "gradients": gradients}


if __name__ == "__main__":
    torch.use_deterministic_algorithms(True)
    recorded = {"torch": torch.__version__.split("+")[0], "cases": [record(*case) for case in CASES]}
    path = Path(__file__).with_name("losses.json")
    path.write_text(json.dumps(recorded, separators=(",", ":")).replace('{"name"', '\n{"name"') + "\n")
    print(path.name, path.stat().st_size, "bytes")
