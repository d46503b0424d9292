"""Records what Pillow makes of pictures of other sizes, for tests/tests/pictures.rs, into pictures.json beside this file.

Pictures are closed forms of whole numbers that the tests compute too. Resized and cut as torchvision's Resize, CenterCrop
and resized_crop do it with Pillow: bytes, in rows; turned as torchvision's RandomRotation turns pictures, by Pillow's own
rotate. Of photographs, if a folder has them (class folders of JPEG): some pixels of what the field judges by, Resize(256)
and CenterCrop(224).

    python3 pictures.py [--photographs FOLDER]
"""

import argparse
import json
from pathlib import Path

import PIL
from PIL import Image

# Height, width; what the shorter side becomes, and the square's side.
FITS = [(37, 61, 20, 16), (61, 37, 20, 15), (9, 13, 24, 21), (300, 41, 18, 18), (16, 16, 16, 16), (50, 75, 33, 28)]
# Height, width; top, left, height and width of the part; the side that it becomes.
PARTS = [(37, 61, 3, 7, 30, 22, 16), (20, 20, 11, 0, 9, 20, 12), (90, 70, 0, 1, 90, 69, 8), (8, 8, 2, 5, 1, 2, 16)]
# Height, width; degrees against the clock.
TURNS = [
    (16, 16, 20.0), (16, 16, -20.0), (16, 16, 0.3), (17, 17, 7.7), (17, 17, -13.25), (12, 19, 11.0), (19, 12, -19.99),
    (9, 9, 45.0), (32, 32, 17.3), (32, 32, -3.1), (8, 8, 90.0), (7, 11, 180.0), (16, 16, 133.7),
]


def picture(height, width):
    """Ramps that wrap around, and every seventh pixel white."""

    def value(x, y, channel):
        return 255 if (x * 5 + y * 3) % 7 == 0 else (x * 11 + y * 29 + x * y * (channel + 1) + channel * 85) % 256

    data = bytes(value(x, y, channel) for y in range(height) for x in range(width) for channel in range(3))
    return Image.frombytes("RGB", (width, height), data)


def resize(image, size):
    """Along the lines first, as Pillow always did; newer ones choose by size, which moves a value by one at most."""
    once, twice = image.resize(size, Image.BILINEAR), image.resize((size[0], image.height), Image.BILINEAR)
    twice = twice.resize(size, Image.BILINEAR)
    assert max(abs(a - b) for a, b in zip(once.tobytes(), twice.tobytes())) <= 1
    return twice


def fit(image, shorter, crop):
    width, height = image.size
    least = min(width, height)
    size = int(shorter * width / least), int(shorter * height / least)
    left, top = (int(round((side - crop) / 2.0)) for side in size)
    return resize(image, size).crop((left, top, left + crop, top + crop))


def cut(image, top, left, height, width, side):
    return resize(image.crop((left, top, left + width, top + height)), (side, side))


def turned(height, width, degrees):
    """The defaults are torchvision's too: the nearest pixel, black outside, about the centre."""
    return picture(height, width).rotate(degrees)


# Every so many pixels of a photograph, both ways.
STEP = 16


def photograph(path):
    image = fit(Image.open(path).convert("RGB"), 256, 224)
    return [value for y in range(0, 224, STEP) for x in range(0, 224, STEP) for value in image.getpixel((x, y))]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--photographs", type=Path, help="without it, what was recorded of them stays")
    folder = parser.parse_args().photographs
    target = Path(__file__).with_suffix(".json")
    photographs = json.loads(target.read_text())["photographs"] if target.exists() else {}
    if folder:
        files = sorted(folder.glob("*/*.JPEG"))
        photographs = {str(path.relative_to(folder)): photograph(path) for path in files}
    parts = {
        "pillow": PIL.__version__,
        "fits": [{"fit": how, "bytes": list(fit(picture(*how[:2]), *how[2:]).tobytes())} for how in FITS],
        "parts": [{"part": how, "bytes": list(cut(picture(*how[:2]), *how[2:]).tobytes())} for how in PARTS],
        "turns": [{"turn": how, "bytes": list(turned(*how).tobytes())} for how in TURNS],
        "photographs": photographs,
    }
    target.write_text("{\n" + ",\n".join(f"{json.dumps(key)}: {lines(value)}" for key, value in parts.items()) + "\n}\n")


def lines(value):
    """One line an entry, so that a change shows where it is."""
    if isinstance(value, dict):
        return "{\n" + ",\n".join(f"  {json.dumps(key)}: {json.dumps(one)}" for key, one in value.items()) + "\n}"
    if isinstance(value, list):
        return "[\n" + ",\n".join(f"  {json.dumps(one)}" for one in value) + "\n]"
    return json.dumps(value)


if __name__ == "__main__":
    main()
