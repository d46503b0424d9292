"""Records twenty SGD steps of two networks for tests/tests/trajectory.rs, into trajectory.json beside this file.

The networks are the CIFAR ResNets of RepDistiller and mdistiller (He et al., 2015, section 4.2), written again over
PyTorch; weights, images and labels are closed forms that the test computes too. Recordings run in float64. Young
networks on eight images are chaotic: at the learning rate of the field, rounding alone carries float32 away by 1 % in
twenty steps, so that only double precision can be compared there; at a hundredth of it, single precision can.

    python3 trajectory.py
"""

import json
import math
from pathlib import Path

import torch
import torch.nn.functional as F

from losses import wave

STEPS, BATCH, CLASSES = 20, 8, 100
MEAN, STD = (0.5, 0.45, 0.4), (0.25, 0.2, 0.3)
NETWORKS = {"resnet20": (20, (16, 16, 32, 64)), "resnet8x4": (8, (32, 64, 128, 256))}
# Side of the images and learning rate.
EXACT, GENTLE = (16, 0.05), (32, 0.0005)


def convolution(name, kernel, from_, to):
    scale = math.sqrt(6 / (kernel * kernel * to))
    return {f"{name}.weight": wave(f"{name}.weight", (to, from_, kernel, kernel), scale)}


def norm(name, channels):
    return {
        f"{name}.weight": wave(f"{name}.weight", (channels,), 0.2, 1.0),
        f"{name}.bias": wave(f"{name}.bias", (channels,), 0.2),
        f"{name}.running_mean": torch.zeros(channels),
        f"{name}.running_var": torch.ones(channels),
    }


def weights(depth, widths):
    state = {**convolution("conv1", 3, 3, widths[0]), **norm("bn1", widths[0])}
    from_ = widths[0]
    for stage, to in enumerate(widths[1:]):
        for block in range((depth - 2) // 6):
            name = f"layer{stage + 1}.{block}"
            state |= {**convolution(f"{name}.conv1", 3, from_, to), **norm(f"{name}.bn1", to)}
            state |= {**convolution(f"{name}.conv2", 3, to, to), **norm(f"{name}.bn2", to)}
            if from_ != to:
                state |= {**convolution(f"{name}.downsample.0", 1, from_, to), **norm(f"{name}.downsample.1", to)}
            from_ = to
    state["fc.weight"] = wave("fc.weight", (CLASSES, from_), 0.1)
    state["fc.bias"] = wave("fc.bias", (CLASSES,), 0.1)
    return state


def forward(state, depth, images):
    def conv_norm(x, conv, bn, stride=1):
        kernel = state[f"{conv}.weight"]
        x = F.conv2d(x, kernel, stride=stride, padding=kernel.shape[2] // 2)
        running = state[f"{bn}.running_mean"], state[f"{bn}.running_var"]
        return F.batch_norm(x, *running, state[f"{bn}.weight"], state[f"{bn}.bias"], training=True)

    mean, std = (torch.tensor(values).to(images.dtype).view(1, 3, 1, 1) for values in (MEAN, STD))
    x = F.relu(conv_norm((images - mean) / std, "conv1", "bn1"))
    for stage in range(3):
        for block in range((depth - 2) // 6):
            name = f"layer{stage + 1}.{block}"
            stride = 2 if stage > 0 and block == 0 else 1
            y = F.relu(conv_norm(x, f"{name}.conv1", f"{name}.bn1", stride))
            y = conv_norm(y, f"{name}.conv2", f"{name}.bn2")
            if f"{name}.downsample.0.weight" in state:
                x = conv_norm(x, f"{name}.downsample.0", f"{name}.downsample.1", stride)
            x = F.relu(x + y)
    return F.linear(x.mean((2, 3)), state["fc.weight"], state["fc.bias"])


def train(depth, widths, side, lr, dtype):
    state = {name: value.to(dtype) for name, value in weights(depth, widths).items()}
    learned = [value.requires_grad_() for name, value in state.items() if "running_" not in name]
    optimizer = torch.optim.SGD(learned, lr=lr, momentum=0.9, weight_decay=5e-4)
    losses = []
    for step in range(STEPS):
        images = wave(f"images {step}", (BATCH, 3, side, side), 0.5, 0.5).to(dtype)
        labels = torch.tensor([(11 * row + 7 * step) % CLASSES for row in range(BATCH)])
        loss = F.cross_entropy(forward(state, depth, images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses, {name: value.detach() for name, value in state.items()}


def summary(tensor):
    """What is kept of a state entry: its mean, its root mean square and its first value."""
    return [tensor.mean().item(), tensor.square().mean().sqrt().item(), tensor.flatten()[0].item()]


def record(name, side, lr):
    losses, state = train(*NETWORKS[name], side, lr, torch.float64)
    rough, _ = train(*NETWORKS[name], side, lr, torch.float32)
    drift = max(abs(a - b) / abs(a) for a, b in zip(losses, rough))
    print(f"{name}, lr {lr}: loss {losses[0]:.4f} to {losses[-1]:.4f}; float32 drifts by {drift:.1e}")
    summaries = {key: summary(value) for key, value in state.items()}
    return {"network": name, "side": side, "lr": lr, "losses": losses, "state": summaries}


if __name__ == "__main__":
    torch.use_deterministic_algorithms(True)
    recorded = {"torch": torch.__version__.split("+")[0], **{
        kind: [record(name, *how) for name in NETWORKS] for kind, how in {"exact": EXACT, "gentle": GENTLE}.items()
    }}
    path = Path(__file__).with_name("trajectory.json")
    text = json.dumps(json.loads(json.dumps(recorded), parse_float=lambda digits: float(f"{float(digits):.12g}")))
    path.write_text(text.replace('{"network"', '\n{"network"') + "\n")
    print(path.name, path.stat().st_size, "bytes")
