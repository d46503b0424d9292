"""Records the networks of the zoo as PyTorch builds and runs them, for tests/tests/zoo.rs, into zoo.json beside this
file.

The networks are written here from the facts of the field's code, not copied from it. Of every network: its layers by
name and shape, parameters, entries of the state dict, the shapes of its maps. Of a few, filled by a closed form that
the tests compute too: logits and maps in evaluation, then one step of SGD (momentum 0.9, weight decay 5e-4,
learning rate 0.05) on the cross-entropy, and what became of every weight; all in float64, and how far float32 carries
PyTorch's outputs from that. Of the published CIFAR-10 networks, if a folder has their files: logits on images of a closed form.

    python3 zoo.py [--teachers FOLDER]
"""

import argparse
import json
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

import mobile
from losses import wave

torch.set_num_threads(2)


def fill(net):
    """Kernels keep the variance of their input; normalisations are near, but not at, 1 and 0."""
    with torch.no_grad():
        for name, value in net.state_dict().items():
            if name.endswith("num_batches_tracked"):
                continue
            scale, shift = 0.125, 0.0
            if value.dim() > 1:
                scale = ((6 if value.dim() == 4 else 3) / value[0].numel()) ** 0.5
            elif name.endswith("running_var") or name.endswith("weight"):
                shift = 1.0
            value.copy_(wave(name, value.shape, scale, shift))


def images(batch, size):
    """(batch, 3, size, size) in [0, 1]; the noise runs through channels last."""
    return wave("images", (batch, size, size, 3), 0.5, 0.5).permute(0, 3, 1, 2).contiguous()


def conv(a, b, kernel=3, stride=1, bias=False):
    return nn.Conv2d(a, b, kernel, stride, kernel // 2, bias=bias)


class Pad(nn.Module):
    """Option A: every other pixel, zeros around the channels."""

    def __init__(self, more):
        super().__init__()
        self.side = more // 2

    def forward(self, x):
        return F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.side, self.side))


class Block(nn.Module):
    """Basic (two convolutions) or bottleneck (three), by the list of shapes."""

    def __init__(self, shapes, shortcut, name):
        super().__init__()
        for number, (a, b, kernel, stride) in enumerate(shapes, 1):
            self.add_module(f"conv{number}", conv(a, b, kernel, stride))
            self.add_module(f"bn{number}", nn.BatchNorm2d(b))
        self.count, self.name = len(shapes), name
        if shortcut is not None:
            self.add_module(name, shortcut)

    def forward(self, x):
        y = x
        for number in range(1, self.count + 1):
            y = getattr(self, f"bn{number}")(getattr(self, f"conv{number}")(y))
            y = F.relu(y) if number < self.count else y
        return y + (getattr(self, self.name)(x) if hasattr(self, self.name) else x)


class Residual(nn.Module):
    """`kind`: how blocks look and what the shortcut and the classifier are called. `stem`: the first convolution's size
    and stride; behind one of 7 × 7, a pool that the first stage begins with.
    """

    def __init__(self, widths, blocks, kind, classes, stem=(3, 1)):
        super().__init__()
        self.conv1, self.bn1 = conv(3, widths[0], *stem), nn.BatchNorm2d(widths[0])
        self.stages, self.pool = len(blocks), stem[0] == 7
        for stage, (a, b, count) in enumerate(zip(widths, widths[1:], blocks), 1):
            layers = [self.block(a if i == 0 else b, b, 2 if i == 0 and stage > 1 else 1, kind, self.pool) for i in range(count)]
            self.add_module(f"layer{stage}", nn.Sequential(*layers))
        self.last = "fc" if kind == "cifar" or self.pool else "linear"
        self.add_module(self.last, nn.Linear(widths[-1], classes))

    @staticmethod
    def block(a, b, stride, kind, imagenet):
        shapes = [(a, b, 3, stride), (b, b, 3, 1)]
        if kind == "bottleneck":
            shapes = [(a, b // 4, 1, 1), (b // 4, b // 4, 3, stride), (b // 4, b, 1, 1)]
        name, shortcut = ("downsample" if kind == "cifar" or imagenet else "shortcut"), None
        if stride != 1 or a != b:
            shortcut = Pad(b - a) if kind == "pad" else nn.Sequential(conv(a, b, 1, stride), nn.BatchNorm2d(b))
        return Block(shapes, shortcut, name)

    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x)))
        maps, preacts = [x], []
        x = F.max_pool2d(x, 3, 2, 1) if self.pool else x
        for stage in range(1, self.stages + 1):
            for block in getattr(self, f"layer{stage}"):
                preact = block(x)
                x = F.relu(preact)
            maps.append(x)
            preacts.append(preact)
        return getattr(self, self.last)(x.mean((2, 3))), maps, preacts


class WideBlock(nn.Module):
    def __init__(self, a, b, stride):
        super().__init__()
        self.bn1, self.conv1 = nn.BatchNorm2d(a), conv(a, b, 3, stride)
        self.bn2, self.conv2 = nn.BatchNorm2d(b), conv(b, b)
        if a != b:
            self.convShortcut = conv(a, b, 1, stride)

    def forward(self, x):
        active = F.relu(self.bn1(x))
        y = self.conv2(F.relu(self.bn2(self.conv1(active))))
        return y + (self.convShortcut(active) if hasattr(self, "convShortcut") else x)


class WideStage(nn.Module):
    def __init__(self, layers):
        super().__init__()
        self.layer = nn.Sequential(*layers)


class Wide(nn.Module):
    def __init__(self, depth, widen, classes):
        super().__init__()
        widths, count = [16, 16 * widen, 32 * widen, 64 * widen], (depth - 4) // 6
        self.conv1 = conv(3, 16)
        for stage, (a, b) in enumerate(zip(widths, widths[1:]), 1):
            layers = [WideBlock(a if i == 0 else b, b, 2 if i == 0 and stage > 1 else 1) for i in range(count)]
            self.add_module(f"block{stage}", WideStage(layers))
        self.bn1, self.fc = nn.BatchNorm2d(widths[3]), nn.Linear(widths[3], classes)

    def quiet(self, norm, x):
        """A normalisation that is only looked through: batch statistics in training, no lesson."""
        mean, var = (None, None) if self.training else (norm.running_mean, norm.running_var)
        return F.batch_norm(x, mean, var, norm.weight, norm.bias, self.training, 0.0, norm.eps)

    def forward(self, x):
        maps = [self.conv1(x)]
        for stage in (self.block1, self.block2, self.block3):
            maps.append(stage.layer(maps[-1]))
        norms = [self.block2.layer[0].bn1, self.block3.layer[0].bn1, self.bn1]
        preacts = [self.quiet(norm, map) for norm, map in zip(norms, maps[1:])]
        return self.fc(F.relu(self.bn1(maps[-1])).mean((2, 3))), maps, preacts


class Vgg(nn.Module):
    WIDTHS = [64, 128, 256, 512, 512]

    def __init__(self, counts, classes):
        super().__init__()
        before = 3
        for index, (to, count) in enumerate(zip(self.WIDTHS, counts)):
            layers = []
            for at in range(count):
                layers += [conv(before, to, bias=True), nn.BatchNorm2d(to), nn.ReLU()]
                before = to
            self.add_module(f"block{index}", nn.Sequential(*layers[:-1]))
        self.classifier = nn.Linear(512, classes)

    def forward(self, x):
        size, maps, preacts = x.shape[2], [], []
        for index in range(5):
            if index in (1, 2, 3) or (index == 4 and size == 64):
                x = F.max_pool2d(x, 2)
            preact = getattr(self, f"block{index}")(x)
            x = F.relu(preact)
            maps.append(x)
            preacts.append(preact)
        return self.classifier(x.mean((2, 3))), maps, preacts[1:]


THIN, WIDE = [16, 16, 32, 64], [32, 64, 128, 256]


def cifar(depth, widths, kind="cifar"):
    return lambda classes: Residual(widths, [(depth - 2) // 6] * 3, kind, classes)


def deep(blocks, kind, width=64, stem=(3, 1)):
    times = 4 if kind == "bottleneck" else 1
    return lambda classes: Residual([width] + [width * m * times for m in (1, 2, 4, 8)], blocks, kind, classes, stem)


ZOO = {
    **{f"resnet{depth}": cifar(depth, THIN) for depth in (8, 14, 20, 32, 44, 56, 110)},
    **{f"resnet{depth}x4": cifar(depth, WIDE) for depth in (8, 32)},
    **{
        f"wrn_{depth}_{widen}": (lambda depth, widen: lambda classes: Wide(depth, widen, classes))(depth, widen)
        for depth in (16, 40)
        for widen in (1, 2)
    },
    **{
        f"vgg{depth}": (lambda counts: lambda classes: Vgg(counts, classes))(counts)
        for depth, counts in [
            (8, [1, 1, 1, 1, 1]),
            (11, [1, 1, 2, 2, 2]),
            (13, [2, 2, 2, 2, 2]),
            (16, [2, 2, 3, 3, 3]),
            (19, [2, 2, 4, 4, 4]),
        ]
    },
    "ResNet18": deep([2, 2, 2, 2], "basic"),
    "ResNet34": deep([3, 4, 6, 3], "basic"),
    "ResNet50": deep([3, 4, 6, 3], "bottleneck"),
    **{f"resnet{depth}_a": cifar(depth, THIN, "pad") for depth in (20, 32, 44, 56, 110)},
    "MobileNetV2": mobile.MobileNetV2,
    "ShuffleV1": mobile.ShuffleV1,
    "ShuffleV2": mobile.ShuffleV2,
}

# Of 1,000 classes, on images of 224 × 224.
IMAGENET = {
    "imagenet_resnet18": deep([2, 2, 2, 2], "basic", stem=(7, 2)),
    "imagenet_resnet34": deep([3, 4, 6, 3], "basic", stem=(7, 2)),
    "imagenet_resnet50": deep([3, 4, 6, 3], "bottleneck", stem=(7, 2)),
    "imagenet_resnet101": deep([3, 4, 23, 3], "bottleneck", stem=(7, 2)),
    "imagenet_mobilenetv1": mobile.MobileNetV1,
}

# Filled and run: with how many classes, on images of which size. Small ones, for tests that take seconds.
RUN = {
    "resnet20": (ZOO["resnet20"], 10, 32),
    "resnet8x4": (ZOO["resnet8x4"], 7, 16),
    "wrn_16_1": (ZOO["wrn_16_1"], 7, 16),
    "wrn_16_2": (ZOO["wrn_16_2"], 10, 32),
    "vgg8": (ZOO["vgg8"], 10, 32),
    "vgg13 at 64": (ZOO["vgg13"], 5, 64),
    "ResNet18 of width 8": (deep([2, 2, 2, 2], "basic", 8), 7, 32),
    "ResNet50 of width 8": (deep([3, 4, 6, 3], "bottleneck", 8), 7, 16),
    "imagenet_resnet18 of width 8": (deep([2, 2, 2, 2], "basic", 8, (7, 2)), 7, 64),
    "imagenet_resnet50 of width 8": (deep([3, 4, 6, 3], "bottleneck", 8, (7, 2)), 7, 64),
    "imagenet_mobilenetv1 of width 0.25": (lambda classes: mobile.MobileNetV1(classes, 4), 7, 64),
    "resnet20_a": (ZOO["resnet20_a"], 10, 32),
    "MobileNetV2": (ZOO["MobileNetV2"], 10, 32),
    "ShuffleV1": (ZOO["ShuffleV1"], 7, 32),
    "ShuffleV2": (ZOO["ShuffleV2"], 10, 32),
}

MEAN, STD = torch.tensor([0.5, 0.45, 0.4]), torch.tensor([0.25, 0.2, 0.3])


def normal(x, mean=MEAN, std=STD):
    mean, std = (values.to(x.dtype).view(1, 3, 1, 1) for values in (mean, std))
    return (x - mean) / std


def layers(net):
    """One line a layer: its name, its kind, its sizes. The kinds say which entries of the state dict it has."""
    lines, entries = [], []
    for name, module in net.named_modules():
        if isinstance(module, nn.Conv2d):
            lines.append(f"{name} {'conv-bias' if module.bias is not None else 'conv'} {list(module.weight.shape)}")
            entries += [f"{name}.weight"] + ([f"{name}.bias"] if module.bias is not None else [])
        elif isinstance(module, nn.BatchNorm2d):
            lines.append(f"{name} norm [{module.num_features}]")
            parts = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
            entries += [f"{name}.{part}" for part in parts]
        elif isinstance(module, nn.Linear):
            lines.append(f"{name} linear {list(module.weight.shape)}")
            entries += [f"{name}.weight", f"{name}.bias"]
    assert sorted(entries) == sorted(net.state_dict()), "a kind of layer that the lines do not say"
    return lines


def facts(net, size):
    with torch.no_grad():
        _, maps, _ = net(torch.zeros(1, 3, size, size))
    return {
        "parameters": sum(weight.numel() for weight in net.parameters()),
        "entries": len(net.state_dict()),
        "maps": [[map.shape[1], map.shape[2]] for map in maps],
        "layers": layers(net),
    }


def numbers(tensor):
    return [float(f"{value:.9g}") for value in tensor.detach().flatten().tolist()]


def summary(name, tensor):
    """Length, and the projection on noise: no change of a tensor escapes both."""
    flat = tensor.detach().double().flatten()
    probe = wave(f"probe {name}", flat.shape).double()
    return [float(f"{value:.9g}") for value in (flat.norm().item(), (flat @ probe).item())]


def channels_last(map):
    return map.permute(0, 2, 3, 1)


def shown(logits, maps, preacts):
    return {
        "logits": numbers(logits),
        "maps": [summary(f"map {i}", channels_last(map)) for i, map in enumerate(maps)],
        "preacts": [summary(f"preact {i}", channels_last(map)) for i, map in enumerate(preacts)],
    }


def run(build, classes, size, dtype):
    net = build(classes)
    fill(net)
    net, x = net.to(dtype).eval(), normal(images(3, size).to(dtype))
    out = {"classes": classes, "size": size, "eval": shown(*net(x))}
    net.train()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
    logits, maps, preacts = net(x)
    loss = F.cross_entropy(logits, torch.tensor([2, 0, 4]))
    loss.backward()
    optimizer.step()
    out["train"] = {**shown(logits, maps, preacts), "loss": numbers(loss)}
    state = {name: value for name, value in net.state_dict().items() if not name.endswith("num_batches_tracked")}
    out["gradients"] = {name: summary(name, weight.grad) for name, weight in net.named_parameters()}
    out["after"] = {name: summary(name, value) for name, value in state.items()}
    return out


def off(exact, other):
    """How far single precision carries PyTorch itself: the largest difference, by the tensor's length."""
    if isinstance(exact, dict):
        return max(off(value, other[name]) for name, value in exact.items())
    if exact and isinstance(exact[0], list):
        return max(off(*pair) for pair in zip(exact, other))
    length = exact[0] if len(exact) == 2 else max(map(abs, exact))
    return max(abs(a - b) for a, b in zip(exact, other)) / max(length, 1e-3)


def run_both(*how):
    exact, single = (run(*how, dtype) for dtype in (torch.float64, torch.float32))
    drift = {part: off(exact[part], single[part]) for part in ("eval", "train")}
    return {**exact, "float32": {part: float(f"{value:.2g}") for part, value in drift.items()}}


# The published networks: their files, and the pixels that they expect.
TEACHERS = {
    "resnet20-12fca82f.th": ("resnet20_a", [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
    "resnet56-4bfd9763.th": ("resnet56_a", [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
    "intel-distiller-resnet20-cifar10-dense.pth.tar": ("resnet20", [0.5, 0.5, 0.5], [0.5, 0.5, 0.5]),
}


def teacher(path, name, mean, std):
    net = ZOO[name](10).eval()
    state = torch.load(path, map_location="cpu", weights_only=False)["state_dict"]
    state = {key.removeprefix("module."): value for key, value in state.items()}
    missing, unexpected = net.load_state_dict(state, strict=False)
    assert not unexpected and all(key.endswith("num_batches_tracked") for key in missing)
    with torch.no_grad():
        logits, _, _ = net(normal(images(3, 32), torch.tensor(mean), torch.tensor(std)))
    return {"model": name, "mean": mean, "std": std, "logits": numbers(logits)}


def main():
    here = Path(__file__)
    parser = argparse.ArgumentParser()
    parser.add_argument("--teachers", type=Path, help="without it, what was recorded of them stays")
    teachers = parser.parse_args().teachers
    target = here.with_suffix(".json")
    known = json.loads(target.read_text())["teachers"] if target.exists() else {}
    found = {file: teacher(teachers / file, *facts) for file, facts in TEACHERS.items()} if teachers else {}
    out = {
        "torch": torch.__version__,
        "zoo": {name: facts(build(100), 32) for name, build in ZOO.items()},
        "imagenet": {name: facts(build(1000), 224) for name, build in IMAGENET.items()},
        "run": {name: run_both(*how) for name, how in RUN.items()},
        "teachers": {**known, **found},
    }
    lines = [f'"{key}": ' + (json.dumps(value) if isinstance(value, str) else block(value)) for key, value in out.items()]
    target.write_text("{\n" + ",\n".join(lines) + "\n}\n")


def block(table):
    """One line an entry, so that a change shows where it is."""
    return "{\n" + ",\n".join(f"  {json.dumps(key)}: {json.dumps(value)}" for key, value in table.items()) + "\n}"


if __name__ == "__main__":
    main()
