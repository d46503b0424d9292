"""Writes checkpoints as trainers of the field leave them, small ones, into weights/ beside this file, and what they hold
into weights.json, for tests/tests/weights.rs.

Every number is a closed form of its name, so that the test computes what it should read.

    python3 weights.py
"""

import argparse
import json
import sys
from collections import OrderedDict
from pathlib import Path

import numpy as np
import torch
from torch import nn

from losses import wave

HERE = Path(__file__).parent / "weights"


class Net(nn.Module):
    """A class that no reader elsewhere knows; pickled whole, it goes into files by name."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(2, 3, 3, bias=False)
        self.layer1 = nn.Sequential(nn.BatchNorm2d(3), nn.ReLU(), nn.Linear(3, 2))
        self.note = {"made by": "a trainer"}


def filled():
    net = Net()
    with torch.no_grad():
        for name, value in net.state_dict().items():
            if value.dim():
                value.copy_(wave(name, value.shape))
    return net


def state(prefix=""):
    return OrderedDict((prefix + name, value) for name, value in filled().state_dict().items())


def holds(tensors):
    return {name: list(value.shape) for name, value in tensors.items()}


PLAIN = holds(state())
# What is saved, how, and what a reader must find: under which key, by which names, beside which foreign classes.
FILES = {}


def file(name, saved, tensors=PLAIN, path="", key=None, foreign=(), error=None, **how):
    torch.save(saved, HERE / name, **how)
    FILES.setdefault(name, []).append(
        {"key": key, "path": path, "tensors": tensors, "foreign": sorted(foreign), "error": error}
    )


def also(name, **facts):
    FILES[name].append({"key": None, "path": "", "tensors": PLAIN, "foreign": [], "error": None, **facts})


LEGACY = {"_use_new_zipfile_serialization": False}


def main():
    HERE.mkdir(exist_ok=True)
    sys.modules["trainer"] = sys.modules["__main__"]
    Net.__module__ = "trainer"
    net = filled()

    file("bare.pth", state())
    file("bare-legacy.pth", state(), **LEGACY)
    for protocol in (3, 4, 5):
        file(f"protocol-{protocol}.pth", {"state_dict": state()}, path="state_dict", pickle_protocol=protocol)

    # As ImageNet scripts and their descendants save: a wrapper, an optimiser, a score, and the command line.
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    sum(weight.sum() for weight in net.parameters()).backward()
    optimizer.step()
    with torch.no_grad():
        for name, value in net.named_parameters():
            value.copy_(wave(name, value.shape))
    script = {
        "epoch": 240,
        "opt": argparse.Namespace(model="resnet8x4", lr=0.05),
        "best_acc": torch.tensor(73.33),
        "accuracy": np.float64(73.33),
        "history": np.arange(3),
        "model": state("module."),
        "optimizer": optimizer.state_dict(),
    }
    classes = ["argparse.Namespace", "numpy.dtype"]
    numpy = "numpy._core.multiarray" if np.__version__ >= "2" else "numpy.core.multiarray"
    classes += [f"{numpy}.scalar", f"{numpy}._reconstruct", "_codecs.encode"]
    file("script.pth", script, path="model", foreign=classes)
    file("script-legacy.pth", script, path="model", foreign=classes, **LEGACY)

    # A GPU's tensors, read without one.
    tag = torch.serialization.location_tag
    torch.serialization.location_tag = lambda storage: "cuda:0"
    file("gpu.pth", {"net": state(), "acc": 91.5}, path="net")
    file("gpu-legacy.th", {"state_dict": state("module."), "best_prec1": 91.5}, path="state_dict", **LEGACY)
    torch.serialization.location_tag = tag

    # One storage, many views: parts, transposes, kernels that lie channels last.
    long = wave("a", (24,))
    views = {
        "a": long,
        "part": long[5:11],
        "rows": long.view(4, 6),
        "turned": long.view(4, 6).t(),
        "every.other": long[::2],
        "last": wave("last", (2, 3, 2, 2)).contiguous(memory_format=torch.channels_last),
        "again": long.expand(2, 24),
    }
    file("views.pth", views, tensors=holds(views))
    file("views-legacy.pth", views, tensors=holds(views), **LEGACY)

    kinds = {
        "f64": wave("f64", (5,)).double(),
        "f32": wave("f32", (5,)),
        "f16": wave("f16", (5,)).half(),
        "bf16": wave("bf16", (5,)).bfloat16(),
        "i64": torch.arange(-2, 3),
        "i32": torch.arange(-2, 3, dtype=torch.int32),
        "i16": torch.arange(-2, 3, dtype=torch.int16),
        "i8": torch.arange(-2, 3, dtype=torch.int8),
        "u8": torch.arange(5, dtype=torch.uint8),
        "flag": torch.tensor([True, False, True, True, False]),
        "zero": torch.tensor(0),
        "empty": torch.zeros(0, 3),
    }
    file("kinds.pth", kinds, tensors=holds(kinds))
    file("kinds-legacy.pth", kinds, tensors=holds(kinds), **LEGACY)
    strange = {"weight": wave("weight", (3,)), "phase": torch.zeros(3, dtype=torch.complex64)}
    file("strange.pth", strange, error="phase: a tensor of a type other than")

    # Trainers that keep more than one network.
    both = state("module.student.") | state("module.teacher.")
    file("distiller.pth", {"epoch": 1, "model": both}, path="model", tensors=holds(state("student.") | state("teacher.")))
    also("distiller.pth", key="model.module.student", path="model.module.student")
    also("distiller.pth", key="model.nothing", error="no tensors under model.nothing")
    file("averaged.pth", {"state_dict": state(), "state_dict_ema": state()}, error="state_dict_ema (8)")
    also("averaged.pth", key="state_dict_ema", path="state_dict_ema")
    file("swa.pth", torch.optim.swa_utils.AveragedModel(filled()).state_dict())
    file("list.pth", [{"state_dict": state("module._orig_mod.")}, 3], path="0.state_dict")

    # Parameters instead of tensors, one with an attribute; a module pickled whole.
    tensors = {name: value for name, value in net.state_dict(keep_vars=True).items()}
    tensors["conv1.weight"].mask = "none"
    file("parameters.pth", tensors)
    del tensors["conv1.weight"].mask
    modules = ["conv.Conv2d", "batchnorm.BatchNorm2d", "linear.Linear", "activation.ReLU", "container.Sequential"]
    modules = [f"torch.nn.modules.{name}" for name in modules]
    file("whole.pth", {"epoch": 3, "net": net}, path="net", foreign=["trainer.Net", *modules])
    # The legacy format names classes of modules outside the pickle, and would add PyTorch's source.
    torch.serialization.get_source_lines_and_file = lambda _: ("", "", "")
    file("whole-legacy.pth", net, **LEGACY)
    file("nothing.pth", {"epoch": 3, "scores": [1.0, 2.0]}, error="it holds no tensors")

    table = ",\n".join(f"  {json.dumps(name)}: {json.dumps(facts)}" for name, facts in FILES.items())
    Path(__file__).with_suffix(".json").write_text("{\n" + table + "\n}\n")


if __name__ == "__main__":
    main()
