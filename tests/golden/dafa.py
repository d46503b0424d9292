"""Records feature operations and their gradients for crates/dafa/tests/operations.rs, into dafa.json beside this file.

Operations on (batch, channels, height, width), in float64, on the closed forms of losses.py. What an operation draws (a
box's middle, an order, which channels are kept) is given, so that two libraries can agree on it.

    python3 dafa.py
"""

import json
import math
from pathlib import Path

import torch
import torch.nn.functional as F

from losses import wave


def affine(x, rows):
    theta = torch.tensor(rows, dtype=x.dtype).expand(x.shape[0], 2, 3)
    grid = F.affine_grid(theta, list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def shift(v, settings, side):
    return v * side if settings.get("units") == "released" else 2 * v


def cells(v, side, centre, rounding):
    middle = int(centre * side)
    if rounding == "truncate":
        half = int(v * side) // 2
        return max(middle - half, 0), min(middle + half, side)
    size = max(math.floor(v * side + 0.5), 1)
    return max(middle - size // 2, 0), min(middle - size // 2 + size, side)


def cutout(x, v, settings):
    mask = torch.ones_like(x)
    (top, bottom), (left, right) = (
        cells(v, side, centre, settings.get("rounding")) for side, centre in zip(x.shape[2:], settings["centre"])
    )
    mask[:, :, top:bottom, left:right] = 0
    return x * mask


def drop(x, v, settings):
    kept = torch.tensor(settings["kept"], dtype=x.dtype).view(1, -1, 1, 1)
    return x * kept / (1 - v if settings.get("rescale") else 1)


def rotate(x, v, _):
    sin, cos = math.sin(math.radians(v)), math.cos(math.radians(v))
    return affine(x, [[cos, sin, 0], [-sin, cos, 0]])


# Each with its range.
OPERATIONS = {
    "shear-x": (-0.3, 0.3, lambda x, v, _: affine(x, [[1, v, 0], [0, 1, 0]])),
    "shear-y": (-0.3, 0.3, lambda x, v, _: affine(x, [[1, 0, 0], [v, 1, 0]])),
    "translate-x": (-0.45, 0.45, lambda x, v, s: affine(x, [[1, 0, shift(v, s, x.shape[2])], [0, 1, 0]])),
    "translate-y": (-0.45, 0.45, lambda x, v, s: affine(x, [[1, 0, 0], [0, 1, shift(v, s, x.shape[3])]])),
    "rotate": (-30.0, 30.0, rotate),
    "cutout": (0.0, 0.2, cutout),
    "channel-shuffle": (0.0, 1.0, lambda x, _, s: x[:, s["order"]]),
    "channel-drop": (0.0, 0.5, drop),
}

# Batch, channels, height, width: no two alike, odd and even sides.
SHAPES = [(2, 3, 5, 6), (1, 4, 8, 7)]


def cases():
    for shape in SHAPES:
        for name in ("shear-x", "shear-y", "translate-x", "translate-y", "rotate"):
            for level in (0.0, 0.125, 0.5, 0.75, 1.0):
                yield name, {}, {}, shape, level
        for name in ("translate-x", "translate-y"):
            for level in (0.4375, 0.5625):
                yield name, {"units": "released"}, {}, shape, level
        for rounding in ("nearest", "truncate"):
            for centre in ([0.0, 0.999], [0.5, 0.25], [0.9, 0.0]):
                for level in (0.25, 1.0):
                    yield "cutout", {"rounding": rounding}, {"centre": centre}, shape, level
        order = [(3 * at + 2) % shape[1] for at in range(shape[1])] if shape[1] % 3 else [2, 0, 1]
        yield "channel-shuffle", {}, {"order": order}, shape, 0.5
        for rescale in (False, True):
            yield "channel-drop", {"rescale": rescale}, {"kept": [at % 2 for at in range(shape[1])]}, shape, 0.75


def record(name, settings, given, shape, level):
    low, high, operation = OPERATIONS[name]
    x = wave("map", shape).double().requires_grad_()
    y = operation(x, low + level * (high - low), settings | given)
    (y * wave("weights", shape).double()).sum().backward()
    digits = lambda t: [float(f"{value:.8g}") for value in t.permute(0, 2, 3, 1).flatten().tolist()]
    case = {"operation": {"type": name, **settings}, "given": given, "shape": shape, "level": level}
    return {**case, "result": digits(y.detach()), "gradient": digits(x.grad)}


if __name__ == "__main__":
    recorded = {"torch": torch.__version__.split("+")[0], "cases": [record(*case) for case in cases()]}
    path = Path(__file__).with_name("dafa.json")
    path.write_text(json.dumps(recorded, separators=(",", ":")).replace('{"operation"', '\n{"operation"') + "\n")
    print(path.name, path.stat().st_size, "bytes,", len(recorded["cases"]), "cases")
