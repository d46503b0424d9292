"""Records how PyTorch's optimisers, schedules, clipping and averaging behave, for crates/nn/tests/optim.rs, into
optim.json beside this file.

Three weights, a convolution's kernel among them, walk some steps under gradients that are recorded with what comes
out; the bias has no gradient in the first two steps, as a weight that a phase does not reach. Everything runs in
float32, as training does.

    python3 optim.py
"""

import json
from pathlib import Path

import torch
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

SHAPES = {"conv.weight": (2, 3, 2, 1), "fc.bias": (3,), "fc.weight": (3, 2)}
STEPS = 7
LR = [0.1, 0.1, 0.1, 0.05, 0.05, 0.01, 0.01]

OPTIMISERS = [
    ("sgd", {"momentum": 0.0, "weight_decay": 0.0}),
    ("sgd", {"momentum": 0.0, "weight_decay": 0.1, "dampening": 0.5}),
    ("sgd", {"momentum": 0.9, "weight_decay": 5e-4}),
    ("sgd", {"momentum": 0.9, "weight_decay": 0.1, "nesterov": True}),
    ("sgd", {"momentum": 0.8, "weight_decay": 0.1, "dampening": 0.3}),
    ("adam", {"betas": [0.9, 0.999], "eps": 1e-8, "weight_decay": 0.0}),
    ("adam", {"betas": [0.5, 0.9], "eps": 1e-3, "weight_decay": 0.1}),
    ("adamw", {"betas": [0.9, 0.999], "eps": 1e-8, "weight_decay": 0.01}),
    ("adamw", {"betas": [0.5, 0.9], "eps": 1e-3, "weight_decay": 0.3}),
]
CLASSES = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW}


def numbers(tensor):
    return [float(f"{value:.9g}") for value in tensor.flatten().tolist()]  # nine digits say a float32 exactly


def table(tensors):
    return {name: numbers(tensor) for name, tensor in tensors.items()}


def draw(generator):
    return {name: torch.randn(shape, generator=generator) for name, shape in SHAPES.items()}


def start(weights):
    return {name: weight.clone().requires_grad_() for name, weight in weights.items()}


def walk(kind, settings, weights, grads):
    moving = start(weights)
    optimiser = CLASSES[kind](moving.values(), lr=LR[0], **settings)
    after = []
    for lr, given in zip(LR, grads, strict=True):
        optimiser.param_groups[0]["lr"] = lr
        for name, weight in moving.items():
            weight.grad = given[name].clone() if name in given else None
        optimiser.step()
        after.append(table({name: weight.detach() for name, weight in moving.items()}))
    kept = {}
    for name, weight in moving.items():
        for kind_of_state, value in optimiser.state[weight].items():
            if torch.is_tensor(value) and value.dim() > 0:
                kept[f"{kind_of_state}.{name}"] = numbers(value)
    return {"type": kind, "settings": settings, "after": after, "state": kept}


def rates(scheduler, base, epochs, **settings):
    optimiser = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=base)
    schedule = scheduler(optimiser, **settings)
    seen = []
    for _ in range(epochs):
        seen.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        schedule.step()
    return seen


def clipped(weights, given, largest):
    moving = start(weights)
    for name, weight in moving.items():
        weight.grad = given[name].clone()
    norm = torch.nn.utils.clip_grad_norm_(moving.values(), largest)
    return {"max": largest, "norm": float(norm), "grads": table({n: w.grad for n, w in moving.items()})}


def averaged(weights, walks, decay):
    model = torch.nn.ParameterDict({name.replace(".", "_"): w.clone() for name, w in weights.items()})
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(decay))
    average.update_parameters(model)  # the first call copies
    for after in walks:
        for name in SHAPES:
            model[name.replace(".", "_")].data = torch.tensor(after[name]).reshape(SHAPES[name])
        average.update_parameters(model)
    return {name: numbers(average.module[name.replace(".", "_")].detach()) for name in SHAPES}


def main():
    generator = torch.Generator().manual_seed(0)
    weights = draw(generator)
    grads = [draw(generator) for _ in range(STEPS)]
    for early in grads[:2]:
        del early["fc.bias"]
    cases = [walk(kind, settings, weights, grads) for kind, settings in OPTIMISERS]
    recorded = {
        "torch": torch.__version__,
        "shapes": SHAPES,
        "lr": LR,
        "weights": table(weights),
        "grads": [table(given) for given in grads],
        "optimisers": cases,
        "multi-step": rates(torch.optim.lr_scheduler.MultiStepLR, 0.05, 12, milestones=[4, 7, 10], gamma=0.1),
        "cosine": rates(torch.optim.lr_scheduler.CosineAnnealingLR, 0.05, 12, T_max=12, eta_min=1e-3),
        "clip": [clipped(weights, grads[2], largest) for largest in (1.0, 100.0)],
        "ema": {"decay": 0.9, "average": averaged(weights, cases[2]["after"], 0.9)},
    }
    path = Path(__file__).with_suffix(".json")
    lines = (f"{json.dumps(key)}: {json.dumps(value)}" for key, value in recorded.items())
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()
