"""Records operations and their gradients for crates/ops/tests/golden.rs, into ops.json beside this file.

Inputs are closed forms that the test computes too (`wave`), rounded to float32 before anything is done with them; PyTorch
then computes in float64. Maps are recorded in PyTorch's own order, (batch, channels, height, width), and kernels as
(out, in / groups, height, width): the test turns them.

    python3 ops.py
"""

import json
import math
from pathlib import Path

import torch
import torch.nn.functional as F

MEAN, STD = [0.5, 0.45, 0.4], [0.25, 0.2, 0.3]


def wave(name, shape, scale=1.0, steps=0):
    """Noise that both languages can draw: the digits of sines, in [-scale, scale), in `steps` a unit if any."""
    phase = sum(ord(letter) * (place + 1) for place, letter in enumerate(name))
    digits = [math.sin(phase + 12.9898 * (i + 1)) * 43758.5453 for i in range(math.prod(shape))]
    values = torch.tensor([scale * (2 * (d - math.floor(d)) - 1) for d in digits], dtype=torch.float64).float()
    if steps:
        values = (values * steps).floor() / steps
    return values.reshape(shape)


def norm(x, weight, bias, residual=None, relu=False, train=True):
    mean, var = torch.full_like(weight, 0.25), torch.full_like(weight, 2.0)
    y = F.batch_norm(x, mean, var, weight, bias, training=train, momentum=0.1, eps=1e-5)
    y = y if residual is None else y + residual
    return F.relu(y) if relu else y, {"mean": mean, "var": var}


def normalize(x):
    shape = (1, 3, 1, 1)
    return (x - torch.tensor(MEAN).double().view(shape)) / torch.tensor(STD).double().view(shape)


def grid_sample(x, grid, nearest, padding, align_corners):
    mode = "nearest" if nearest else "bilinear"
    return F.grid_sample(x, grid, mode=mode, padding_mode=padding, align_corners=align_corners)


OPS = {
    "conv2d": lambda x, kernel, bias=None, **conv: F.conv2d(x, kernel, bias, **conv),
    "batch_norm": norm,
    "relu": lambda x: F.relu(x),
    "abs": lambda x: x.abs(),
    "max_pool2d": lambda x, kernel, stride, padding, ceil: F.max_pool2d(x, kernel, stride, padding, ceil_mode=ceil),
    "avg_pool2d": lambda x, kernel, stride, padding, ceil, include: F.avg_pool2d(
        x, kernel, stride, padding, ceil_mode=ceil, count_include_pad=include
    ),
    "adaptive_avg_pool2d": lambda x, size: F.adaptive_avg_pool2d(x, size),
    "global_avg_pool": lambda x: F.adaptive_avg_pool2d(x, 1).flatten(1),
    "upsample_nearest2d": lambda x, size: F.interpolate(x, size, mode="nearest"),
    "upsample_bilinear2d": lambda x, size, align_corners: F.interpolate(
        x, size, mode="bilinear", align_corners=align_corners
    ),
    "affine_grid": lambda theta, size, align_corners: F.affine_grid(
        theta, [theta.shape[0], 1, *size], align_corners=align_corners
    ),
    "grid_sample": grid_sample,
    "channel_shuffle": lambda x, groups: F.channel_shuffle(x, groups),
    "linear": lambda x, weight, bias=None: F.linear(x, weight, bias),
    "log_softmax": lambda x: F.log_softmax(x, dim=-1),
    "softmax": lambda x: F.softmax(x, dim=-1),
    "soft_cross_entropy": lambda x, targets: F.cross_entropy(x, targets, reduction="none"),
    "normalize": normalize,
}


def conv(x, kernel, bias=False, stride=(1, 1), padding=(0, 0), dilation=(1, 1), groups=1):
    inputs = {"x": {"shape": x}, "kernel": {"shape": kernel}}
    if bias:
        inputs["bias"] = {"shape": kernel[:1]}
    return "conv2d", inputs, {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}


def pooled(op, shape, kernel, stride, padding=(0, 0), ceil=False, steps=0, **more):
    settings = {"kernel": kernel, "stride": stride, "padding": padding, "ceil": ceil, **more}
    return op, {"x": {"shape": shape, "steps": steps}}, settings


def cases():
    yield conv((2, 3, 4, 5), (4, 3, 3, 3), padding=(1, 1))
    # The case in which candle's own gradient fails: stride 2, and sides of different parity.
    yield conv((1, 2, 8, 9), (3, 2, 3, 3), stride=(2, 2), padding=(1, 1))
    yield conv((2, 3, 5, 4), (4, 3, 1, 1), bias=True, stride=(2, 2))
    yield conv((1, 2, 6, 7), (3, 2, 3, 2), stride=(1, 2), padding=(2, 1), dilation=(2, 1))
    yield conv((2, 4, 4, 5), (6, 2, 3, 3), bias=True, padding=(1, 1), groups=2)
    yield conv((2, 4, 5, 4), (4, 1, 3, 3), stride=(2, 1), padding=(1, 1), groups=4)

    channels = {"weight": {"shape": (3,)}, "bias": {"shape": (3,)}}
    yield "batch_norm", {"x": {"shape": (2, 3, 4, 5)}, **channels}, {}
    residual = {"residual": {"shape": (2, 3, 4, 5)}}
    yield "batch_norm", {"x": {"shape": (2, 3, 4, 5)}, **channels, **residual}, {"relu": True}
    yield "batch_norm", {"x": {"shape": (2, 3, 4, 5)}, **channels, **residual}, {"relu": True, "train": False}

    # Half units from -1 to 1: zeros among them, and equals under a window.
    yield "relu", {"x": {"shape": (2, 3, 4, 5), "steps": 2}}, {}
    yield "abs", {"x": {"shape": (2, 3, 4, 5), "steps": 2}}, {}
    yield pooled("max_pool2d", (2, 3, 4, 6), (2, 2), (2, 2), steps=2)
    yield pooled("max_pool2d", (2, 3, 5, 7), (3, 3), (2, 2), (1, 1), steps=2)
    yield pooled("max_pool2d", (1, 2, 6, 5), (3, 2), (2, 2), ceil=True)
    yield pooled("max_pool2d", (1, 2, 5, 6), (3, 2), (1, 3), (1, 0), steps=2)
    yield pooled("avg_pool2d", (2, 3, 4, 6), (2, 2), (2, 2), include=True)
    for include in True, False:
        yield pooled("avg_pool2d", (1, 2, 5, 7), (3, 3), (2, 2), (1, 1), include=include)
        yield pooled("avg_pool2d", (1, 2, 6, 5), (3, 2), (2, 2), (1, 1), ceil=True, include=include)

    for size in (3, 2), (7, 4), (2, 5):
        yield "adaptive_avg_pool2d", {"x": {"shape": (1, 2, 5, 7)}}, {"size": size}
    yield "global_avg_pool", {"x": {"shape": (2, 3, 4, 5)}}, {}
    for size in (8, 10), (7, 9), (2, 3):
        yield "upsample_nearest2d", {"x": {"shape": (1, 2, 4, 5)}}, {"size": size}
    for align_corners in True, False:
        for size in (7, 9), (2, 3), (1, 10):
            settings = {"size": size, "align_corners": align_corners}
            yield "upsample_bilinear2d", {"x": {"shape": (1, 2, 4, 5)}}, settings
        yield "affine_grid", {"theta": {"shape": (2, 2, 3)}}, {"size": (3, 4), "align_corners": align_corners}
        for padding in "zeros", "border", "reflection":
            for nearest in False, True:
                inputs = {"x": {"shape": (2, 2, 4, 5)}, "grid": {"shape": (2, 3, 6, 2), "scale": 2.5}}
                yield "grid_sample", inputs, {"nearest": nearest, "padding": padding, "align_corners": align_corners}

    # Quarters of a unit: samples on pixels, on borders and half way between, where conventions decide.
    for padding in "zeros", "border", "reflection":
        for nearest in False, True:
            inputs = {"x": {"shape": (1, 2, 4, 5)}, "grid": {"shape": (1, 6, 7, 2), "scale": 1.5, "steps": 4}}
            yield "grid_sample", inputs, {"nearest": nearest, "padding": padding, "align_corners": True}

    for groups in 2, 3:
        yield "channel_shuffle", {"x": {"shape": (1, 6, 2, 3)}}, {"groups": groups}
    yield "linear", {"x": {"shape": (3, 5)}, "weight": {"shape": (4, 5)}, "bias": {"shape": (4,)}}, {}
    yield "log_softmax", {"x": {"shape": (3, 7), "scale": 20.0}}, {}
    yield "softmax", {"x": {"shape": (3, 7), "scale": 4.0}}, {}
    # Targets that add up to nothing in particular, some of them below zero.
    yield "soft_cross_entropy", {"x": {"shape": (3, 21), "scale": 20.0}, "targets": {"shape": (3, 21)}}, {}
    yield "normalize", {"x": {"shape": (2, 3, 2, 4)}}, {}


def numbers(tensor):
    return [float(f"{value:.7g}") for value in tensor.detach().flatten().tolist()]


def record(op, inputs, settings):
    leaves = {name: wave(name, **spec).double().requires_grad_() for name, spec in inputs.items()}
    y, kept = OPS[op](**leaves, **settings), {}
    if isinstance(y, tuple):
        y, kept = y
    y.backward(wave("grad", y.shape).double())
    # A grid that rounds has no gradient, which is a gradient of zeros.
    grads = {name: leaf.grad if leaf.grad is not None else torch.zeros_like(leaf) for name, leaf in leaves.items()}
    return {
        "op": op,
        "settings": settings,
        "inputs": {name: {"scale": 1.0, **spec} for name, spec in inputs.items()},
        "y": numbers(y),
        "gradients": {name: numbers(grad) for name, grad in grads.items()},
        "kept": {name: numbers(value) for name, value in kept.items()},
    }


def main():
    recorded = [json.dumps(record(*case), separators=(",", ":")) for case in cases()]
    text = '{"torch":"%s","cases":[\n%s\n]}\n' % (torch.__version__.split("+")[0], ",\n".join(recorded))
    Path(__file__).with_name("ops.json").write_text(text)


if __name__ == "__main__":
    main()
