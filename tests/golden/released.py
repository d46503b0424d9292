"""Records released.json: what the encoders of colours that TST's authors released make of a grey image.

    python3 released.py SDAKD_FOR_BASELINE/checkpoints/Augmentation

The folder is in their repository (github.com/shaoshitong/TST, commit f9616a2). It says no licence for these files, so they are
not here: what is recorded is what they say at a strength of 0.5, and the sum of each kernel, which is all that a grey image
shows of it.
"""

import json
import sys
from pathlib import Path

import torch
import torch.nn.functional as F

LEVEL = 0.5
NAMES = ["Brightness", "Color", "Contrast", "Sharpness", "Posterize", "Solarize"]


def record(name, weights):
    read = torch.cat([weights["feature"], torch.tensor([LEVEL], dtype=torch.double)])
    logits = weights["n_regress.weight"] @ read + weights["c_regress.weight"] @ read
    centred = logits.sigmoid() - 0.5
    line = [1 + centred[0] * weights["scale"][0], centred[1]]
    grey = torch.full((1, 3, 8, 8), 0.5, dtype=torch.double)
    out = F.conv2d(line[0] * grey + line[1], weights["conv.weight"], padding=2)
    return {
        "operation": name.lower(),
        "gate": weights["logits"].sigmoid().item(),
        "scale": weights["scale"].item(),
        "logits": logits.tolist(),
        "line": [number.item() for number in line],
        "sums": weights["conv.weight"].sum((2, 3)).tolist(),
        "pixel": out[0, :, 4, 4].tolist(),
    }


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    load = lambda name: {k: v.double() for k, v in torch.load(folder / f"{name}.pth", map_location="cpu").items()}
    recorded = [record(name, load(name)) for name in NAMES]
    path = Path(__file__).with_suffix(".json")
    path.write_text(json.dumps({"color": recorded}, indent=1) + "\n")
