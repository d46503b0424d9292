"""Loads exports into the programs that they are for, and records how far their scores are from ours, for
tests/tests/export.rs, into export.json beside this file. The test leaves the exports, and runs this script itself where
SOKD_PYTHON names a Python with torch, torchvision, timm, safetensors, onnx and onnxruntime.

Each export is loaded by the Python that stands in its own README. Where weights are loaded, every one must be, to the bit,
what the test had. mdistiller's classes are no package: without a checkout of it, the networks of zoo.py stand for them,
written from the facts of its code. What is recorded was loaded by the real ones.

    python3 export.py FOLDER [--mdistiller CHECKOUT] [--record]
"""

import argparse
import hashlib
import json
import os
import re
import sys
import types
from pathlib import Path

import onnx
import timm
import torch
from safetensors.torch import load_file

import zoo

# By their names in mdistiller's table of networks for ImageNet.
IMAGENET = {
    "ResNet18": "imagenet_resnet18",
    "ResNet34": "imagenet_resnet34",
    "ResNet50": "imagenet_resnet50",
    "ResNet101": "imagenet_resnet101",
    "MobileNetV1": "imagenet_mobilenetv1",
}
OURS = {**zoo.ZOO, **zoo.IMAGENET}


def run(folder, names):
    """The code in an export's README, run in its folder."""
    code = re.search(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.S).group(1)
    before = os.getcwd()
    os.chdir(folder)
    try:
        exec(code, names)
    finally:
        os.chdir(before)
    return names


class Cifar:
    """What an import of mdistiller finds where there is none."""

    def __getitem__(self, name):
        return lambda num_classes: OURS[name](num_classes), None


class Imagenet:
    """The same of its networks for ImageNet."""

    def __getitem__(self, name):
        return lambda pretrained, num_classes=1000: OURS[IMAGENET[name]](num_classes)


def stand_in():
    models = types.ModuleType("mdistiller.models")
    models.cifar_model_dict, models.imagenet_model_dict = Cifar(), Imagenet()
    sys.modules["mdistiller"] = types.ModuleType("mdistiller")
    sys.modules["mdistiller.models"] = models


def same(state, weights, renamed=False):
    """Whether all weights are there to the bit."""
    if renamed:
        # Under other names: compared as a heap.
        heap = lambda table: sorted(value.contiguous().numpy().tobytes() for value in table.values())
        return heap(state) == heap(weights)
    return state.keys() == weights.keys() and all(torch.equal(state[name], weights[name]) for name in weights)


def onnx_scores(folder, images):
    onnx.checker.check_model(str(folder / "model.onnx"), full_check=True)
    session = run(folder, {})["session"]
    ask = lambda some: torch.from_numpy(session.run(["logits"], {"images": some.contiguous().numpy()})[0])
    said = ask(images)
    # The batch is free: one by one says the same.
    alone = torch.cat([ask(image[None]) for image in images])
    assert (alone - said).abs().max() <= 1e-5 * said.abs().max(), "a batch says something else"
    return said


def timm_reads(net, size):
    config = timm.data.resolve_model_data_config(net)
    assert torch.allclose(torch.tensor(config["mean"]), zoo.MEAN), config
    assert torch.allclose(torch.tensor(config["std"]), zoo.STD), config
    assert tuple(config["input_size"]) == (3, *size), config


def scores(network, form, folder, shown, weights):
    """What a program makes of the images, by an export; nothing, where no program has such a network."""
    images = shown["images"]
    if form == "onnx":
        return onnx_scores(folder, images)
    if form == "onnx-outside":
        return onnx_scores(folder, zoo.normal(images))
    names = {}
    if form == "safetensors":
        if network not in OURS:
            assert same(load_file(folder / "model.safetensors"), weights), "weights differ"
            return None
        names["net"] = OURS[network](shown["logits"].shape[1]).eval()
    net = run(folder, names)["net"]
    assert same(net.state_dict(), weights, form == "timm" and "mobilenet" in network), "weights differ"
    if form == "timm":
        timm_reads(net, images.shape[2:])
    with torch.no_grad():
        said = net(zoo.normal(images))
    # mdistiller's classes answer scores and features.
    return said[0] if isinstance(said, tuple) else said


def check(folder):
    shown, weights = load_file(folder / "shown.safetensors"), load_file(folder / "weights.safetensors")
    found = {}
    for export in sorted(path for path in folder.iterdir() if path.is_dir()):
        said, ours = scores(folder.name, export.name, export, shown, weights), shown["logits"]
        off = 0.0 if said is None else ((said - ours).abs().max() / ours.abs().max()).item()
        (file,) = export.glob("model.*")
        # Layers multiply their weights before they are written, on other processors in another order.
        own = "layers" in folder.name and export.name.startswith("onnx")
        digest = None if own else hashlib.sha256(file.read_bytes()).hexdigest()
        found[export.name] = {"sha256": digest, "off": off}
    return found


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--mdistiller", type=Path, help="a checkout, whose classes are the real ones")
    parser.add_argument("--record", action="store_true", help="into export.json, beside this file")
    arguments = parser.parse_args()
    torch.set_num_threads(2)
    if arguments.mdistiller:
        sys.path.insert(0, str(arguments.mdistiller))
    else:
        stand_in()
    folders = sorted(path for path in arguments.folder.iterdir() if path.is_dir())
    found = {folder.name: check(folder) for folder in folders}
    text = zoo.block(found)
    if arguments.record:
        Path(__file__).with_suffix(".json").write_text(text + "\n")
    else:
        print(text)


if __name__ == "__main__":
    main()
