"""Loads exports into the programs that they are for, and records how far their scores are from ours, for
tests/tests/export.rs, into export.json beside this file. The test leaves the exports, and runs this script itself where
SOKD_PYTHON names a Python with torch, torchvision, timm, safetensors, onnx and onnxruntime.

Each export is loaded by the Python that stands in its own README. Where weights are loaded, every one must be, to the bit,
what the test had. mdistiller's classes are no package: without a checkout of it, the networks of zoo.py stand for them,
written from the facts of its code; which of the two it was is recorded.

    python3 export.py FOLDER [--mdistiller CHECKOUT] [--record]
"""

import argparse
import hashlib
import json
import os
import re
import sys
from pathlib import Path

import onnx
import torch
from safetensors.torch import load_file

import zoo

# Pixels as sokd_tests::data has them.
NORMAL = zoo.normal


def python(folder):
    """The code in an export's README, run in its folder."""
    code = re.search(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.S).group(1)
    return code


def run(code, folder, names):
    before = os.getcwd()
    os.chdir(folder)
    try:
        exec(code, names)
    finally:
        os.chdir(before)
    return names


def ours(name, classes):
    """A network of zoo.py, which answers scores, maps and what they were before a ReLU."""
    return {**zoo.ZOO, **zoo.IMAGENET}[name](classes)


class Stand:
    """What an import of mdistiller finds where there is none."""

    def __getitem__(self, name):
        imagenet = {"ResNet18": "imagenet_resnet18", "ResNet34": "imagenet_resnet34", "ResNet50": "imagenet_resnet50"}
        imagenet["MobileNetV1"] = "imagenet_mobilenetv1"
        if self.imagenet:
            return lambda pretrained, num_classes=1000: ours(imagenet[name], num_classes)
        return (lambda num_classes: ours(name, num_classes), None)

    def __init__(self, imagenet):
        self.imagenet = imagenet


def stand_in():
    import types

    models = types.ModuleType("mdistiller.models")
    models.cifar_model_dict, models.imagenet_model_dict = Stand(False), Stand(True)
    sys.modules["mdistiller"] = types.ModuleType("mdistiller")
    sys.modules["mdistiller.models"] = models


def same(net, weights, renamed):
    """Whether all weights arrived to the bit."""
    state = {name: value for name, value in net.state_dict().items()}
    if renamed:
        # Under other names, the same tensors: compared as a heap of bytes.
        heap = lambda table: sorted(value.contiguous().numpy().tobytes() for value in table.values())
        return heap(state) == heap(weights)
    return state.keys() == weights.keys() and all(torch.equal(state[name], weights[name]) for name in weights)


def scores(network, form, folder, shown, weights):
    """What a program makes of the images, by an export."""
    images, code = shown["images"], python(folder)
    if form.startswith("onnx"):
        onnx.checker.check_model(str(folder / "model.onnx"), full_check=True)
        session = run(code, folder, {})["session"]
        seen = images if form == "onnx" else NORMAL(images)
        ask = lambda some: torch.from_numpy(session.run(["logits"], {"images": some.numpy()})[0])
        # The batch is free: one by one says the same.
        alone = torch.cat([ask(image[None].contiguous()) for image in seen])
        all_ = ask(seen.contiguous())
        assert (alone - all_).abs().max() <= 1e-5 * all_.abs().max(), "a batch says something else"
        return all_
    names = {}
    if form == "safetensors":
        names["net"] = ours(network, shown["logits"].shape[1]).eval()
    net = run(code, folder, names)["net"]
    assert same(net, weights, form == "timm" and "mobilenet" in network), "weights differ"
    if form == "timm":
        import timm

        config = timm.data.resolve_model_data_config(net)
        assert torch.allclose(torch.tensor(config["mean"]), zoo.MEAN), config
        assert torch.allclose(torch.tensor(config["std"]), zoo.STD), config
        assert config["input_size"][1:] == tuple(images.shape[2:]), config
    with torch.no_grad():
        out = net(NORMAL(images))
    # mdistiller's classes answer scores and features.
    return out[0] if isinstance(out, tuple) else out


def check(folder):
    shown, weights = load_file(folder / "shown.safetensors"), load_file(folder / "weights.safetensors")
    found = {}
    for export in sorted(path for path in folder.iterdir() if path.is_dir()):
        if export.name == "safetensors" and not has(folder.name):
            found[export.name] = record(export, 0.0)
            continue
        theirs = scores(folder.name, export.name, export, shown, weights)
        off = (theirs - shown["logits"]).abs().max() / shown["logits"].abs().max()
        found[export.name] = record(export, off.item())
    return found


def has(network):
    return network in zoo.ZOO or network in zoo.IMAGENET


def record(export, off):
    (file,) = export.glob("model.*")
    # Layers multiply their weights before they are written, on other processors in another order.
    own = "layers" in export.parent.name and export.name.startswith("onnx")
    return {"sha256": None if own else hashlib.sha256(file.read_bytes()).hexdigest(), "off": off}


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
