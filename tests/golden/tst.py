"""Records tst.json: TST's operations on bytes, its encoders' formulas and its module, written here once more.

    python3 tst.py

Operations on bytes come from Pillow where torchvision, which the released code calls, does the same as Pillow; the others
from torchvision's formulas, written here in torch. Inputs come from closed forms that both sides compute.
"""

import json
import math
from pathlib import Path

import torch
import torch.nn.functional as F
from PIL import Image, ImageEnhance, ImageFilter, ImageOps

from losses import wave

SIDE = 12


def picture(name):
    """(SIDE, SIDE, 3) bytes, with a dark margin, so that histograms are uneven."""
    pixels = wave(name, [SIDE, SIDE, 3], 0.5).float().add(0.5).mul(255).floor().clamp(0, 255).to(torch.uint8)
    pixels[:2] = pixels[:2] // 8
    return pixels


def pil(pixels):
    return Image.fromarray(pixels.numpy(), "RGB")


def back(image):
    return torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8)


def blend(one, other, ratio):
    return (ratio * one + (1.0 - ratio) * other).clamp(0, 255).to(torch.uint8)


def gray(pixels):
    red, green, blue = pixels.unbind(2)
    return (0.2989 * red + 0.587 * green + 0.114 * blue).to(torch.uint8)


def sharpness(image, ratio):
    """Pillow's blurred image is torchvision's; how the two are mixed differs, so that is written out."""
    blurred = back(image.filter(ImageFilter.SMOOTH)).reshape(SIDE, SIDE, 3)
    return blend(back(image).reshape(SIDE, SIDE, 3), blurred, ratio)


def warped(image, matrix):
    """Pillow's own nearest neighbour; `matrix` in pixels from the centre, as torchvision has it."""
    (a, b, c), (d, e, f) = matrix
    half = SIDE / 2
    corner = (a, b, c + half - a * half - b * half, d, e, f + half - d * half - e * half)
    return back(image.transform(image.size, Image.Transform.AFFINE, corner, Image.Resampling.NEAREST))


def geometry(operation, strength):
    half = SIDE / 2
    sin, cos = math.sin(math.radians(strength)), math.cos(math.radians(strength))
    return {
        "shear-x": ((1, strength, strength * half), (0, 1, 0)),
        "shear-y": ((1, 0, 0), (strength, 1, strength * half)),
        "translate-x": ((1, 0, -strength), (0, 1, 0)),
        "translate-y": ((1, 0, 0), (0, 1, -strength)),
        "rotate": ((cos, -sin, 0), (sin, cos, 0)),
    }[operation]


def exact():
    cases = []
    # Strengths of which no place of the result lies half way between two pixels: such are told apart by the last bit.
    strengths = {
        "brightness": [0.3, -0.9], "color": [0.7, -0.6], "contrast": [0.5, -0.8], "sharpness": [0.9, -0.4],
        "posterize": [8, 6, 4], "solarize": [255.0, 113.0, 0.0], "shear-x": [0.23, -0.3], "shear-y": [0.3, -0.17],
        "translate-x": [3, -5], "translate-y": [5, -1], "rotate": [17.0, -30.0], "equalize": [0], "invert": [0],
    }
    for operation, all in strengths.items():
        for strength in all:
            pixels = picture(operation)
            image, ratio = pil(pixels), 1.0 + strength
            if operation == "brightness":
                out = back(ImageEnhance.Brightness(image).enhance(ratio))
            elif operation == "color":
                out = blend(pixels, gray(pixels).unsqueeze(2), ratio)
            elif operation == "contrast":
                out = blend(pixels, gray(pixels).float().mean(), ratio)
            elif operation == "sharpness":
                out = sharpness(image, ratio)
            elif operation == "posterize":
                out = back(ImageOps.posterize(image, strength))
            elif operation == "solarize":
                out = back(ImageOps.solarize(image, strength))
            elif operation == "equalize":
                out = back(ImageOps.equalize(image))
            elif operation == "invert":
                out = back(ImageOps.invert(image))
            else:
                out = warped(image, geometry(operation, strength))
            cases.append({
                "operation": operation, "strength": strength,
                "from": pixels.flatten().tolist(), "to": out.flatten().tolist(),
            })
    return cases


def affine():
    """Maps of the released encoders, as read from them: A0 and A1 of `A(m) = A0 + m * A1`."""
    tables = {
        "shear-x": ([0.994955, -0.007334, -0.006394, -0.001170, 1.000079, -0.000562],
                    [0.000364, 0.313311, 0.308423, 0.000445, 0.000121, 0.000228]),
        "shear-y": ([0.999802, -0.000208, -0.000088, 0.002916, 0.997319, 0.003065],
                    [-0.000223, 0.001125, 0.000530, 0.311043, 0.001290, 0.307010]),
        "translate-x": ([0.980243, -0.002980, 0.002651, 0.001143, 0.999741, -0.001237],
                        [0.004887, 0.002148, -0.894438, -0.001412, 0.002767, 0.000139]),
        "translate-y": ([0.999349, -0.001544, -0.000796, 0.001140, 0.975619, 0.002616],
                        [0.000001, -0.000018, -0.001333, 0.000435, -0.009702, -0.885141]),
        "rotate": ([0.974661, -0.006522, -0.000478, 0.006223, 0.974439, 0.000420],
                   [-0.015785, -0.479276, 0.000146, 0.479669, -0.015799, 0.001377]),
    }
    # Five values of what the released encoders make of x[c, i, j] = (64 c + 8 i + j) / 192 at strength 0.5.
    known = {
        "shear-x": [88.08173, 0.143271, 0.333823, 0, 0.847244],
        "shear-y": [90.19615, 0.163465, 0.336623, 0, 0.859907],
        "translate-x": [73.98946, 0.131186, 0, 0.984395, 0.834420],
        "translate-y": [69.48514, 0.067855, 0, 0.917330, 0.769701],
        "rotate": [86.54568, 0.137100, 0.088105, 0.248882, 0.827469],
    }
    image = (torch.arange(192, dtype=torch.float64) / 192).reshape(1, 3, 8, 8)
    cases = []
    for operation, (constant, slope) in tables.items():
        level = torch.full((1, 1), 0.5, dtype=torch.float64, requires_grad=True)
        theta = torch.tensor(constant, dtype=torch.float64) + level * torch.tensor(slope, dtype=torch.float64)
        grid = F.affine_grid(theta.reshape(1, 2, 3), image.shape, align_corners=False)
        out = F.grid_sample(image, grid, align_corners=False)
        got = [out.sum(), out[0, 0, 3, 3], out[0, 1, 0, 0], out[0, 2, 7, 7], out[0, 2, 4, 2]]
        for value, expected in zip(got, known[operation]):
            assert abs(value.item() - expected) < 2e-5 * max(1, abs(expected)), (operation, value, expected)
        (out * torch.cos(torch.arange(192, dtype=torch.float64)).reshape(1, 3, 8, 8)).sum().backward()
        cases.append({
            "operation": operation, "constant": constant, "slope": slope, "known": known[operation],
            "gradient": level.grad.item(),
        })
    return cases


def color():
    """The encoder of colours on weights from closed forms, without noise and gate."""
    names = {"feature": [10], "n": [2, 11], "c": [2, 11], "conv": [3, 3, 5, 5]}
    weights = {name: wave(name, shape, 0.5).double() for name, shape in names.items()}
    image = wave("images", [2, 3, 6, 5], 2.0).double()
    image[1, :, :2], image[1, :, :, 4] = 0, 0          # a margin of whole rows and a whole column
    image[0, :, 3, 3] = 0                              # and a black pixel that is none
    level = torch.tensor([[0.3], [-0.8]], dtype=torch.float64, requires_grad=True)
    read = torch.cat([weights["feature"].expand(2, 10), level], 1)
    both = torch.sigmoid(read @ weights["n"].T + read @ weights["c"].T)
    scale, shift = 0.9 * (both[:, :1] - 0.5) + 1, both[:, 1:] - 0.5
    lit = image.sum(1) != 0
    mask = (lit.any(2, keepdim=True) & lit.any(1, keepdim=True)).unsqueeze(1)
    out = F.conv2d((scale[..., None, None] * image + shift[..., None, None]) * mask, weights["conv"], padding=2)
    (out * torch.cos(torch.arange(out.numel(), dtype=torch.float64)).reshape(out.shape)).sum().backward()
    return {
        "scale": scale.flatten().tolist(), "shift": shift.flatten().tolist(),
        "out": out.flatten().tolist(), "gradient": level.grad.flatten().tolist(),
    }


def main():
    recorded = {"side": SIDE, "exact": exact(), "affine": affine(), "color": color()}
    path = Path(__file__).with_name("tst.json")
    path.write_text(json.dumps(recorded) + "\n")
    print(path, len(recorded["exact"]))


if __name__ == "__main__":
    main()
