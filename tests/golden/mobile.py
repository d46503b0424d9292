"""The networks for small devices among those that zoo.py records: MobileNetV1, MobileNetV2, ShuffleNet and
ShuffleNetV2, written from the facts of the field's code, not copied from it.

Each gives logits, maps (the stem's first) and the stages' maps before their last ReLU, as all networks of zoo.py do.
"""

import torch
import torch.nn.functional as F
from torch import nn


def conv(a, b, kernel=1, stride=1, groups=1):
    return nn.Conv2d(a, b, kernel, stride, kernel // 2, groups=groups, bias=False)


def layers(module, *convs):
    """conv1, bn1, conv2, bn2, ..."""
    for number, one in enumerate(convs, 1):
        module.add_module(f"conv{number}", one)
        module.add_module(f"bn{number}", nn.BatchNorm2d(one.out_channels))


def normed(module, number, x):
    return getattr(module, f"bn{number}")(getattr(module, f"conv{number}")(x))


def shuffle(x, groups):
    return x.unflatten(1, (groups, -1)).transpose(1, 2).flatten(1, 2)


class MobileNetV1(nn.Module):
    """A stem and thirteen pairs of a depthwise convolution and one of single pixels; `thin`: how many times thinner."""

    # Channels and stride of each pair; behind which of them a stage ends.
    PAIRS = [(64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2)] + [(512, 1)] * 5 + [(1024, 2), (1024, 1)]
    SHOWN = (3, 5, 11, 13)

    def __init__(self, classes, thin=1):
        super().__init__()
        before = 32 // thin
        parts = [nn.Sequential(conv(3, before, 3, 2), nn.BatchNorm2d(before), nn.ReLU())]
        for to, stride in self.PAIRS:
            to, one = to // thin, []
            for part in (conv(before, before, 3, stride, before), conv(before, to)):
                one += [part, nn.BatchNorm2d(part.out_channels), nn.ReLU()]
            parts.append(nn.Sequential(*one))
            before = to
        self.model, self.fc = nn.Sequential(*parts), nn.Linear(before, classes)

    def forward(self, x):
        x = self.model[0](x)
        maps, preacts = [x], []
        for number, part in list(enumerate(self.model))[1:]:
            preact = part[:-1](x)
            x = F.relu(preact)
            if number in self.SHOWN:
                maps.append(x)
                preacts.append(preact)
        return self.fc(x.mean((2, 3))), maps, preacts


class Inverted(nn.Module):
    """Wide in the middle, and nothing behind the last normalisation."""

    def __init__(self, a, b, stride, expand):
        super().__init__()
        self.residual, inner = stride == 1 and a == b, a * expand
        parts = []
        for one in (conv(a, inner), conv(inner, inner, 3, stride, inner), conv(inner, b)):
            parts += [one, nn.BatchNorm2d(one.out_channels), nn.ReLU()]
        self.conv = nn.Sequential(*parts[:-1])

    def forward(self, x):
        return x + self.conv(x) if self.residual else self.conv(x)


class MobileNetV2(nn.Module):
    """Half as wide as published; 2 × 2 pixels are left of 32 × 32."""

    # Expansion, channels, blocks, stride of the first.
    GROUPS = [(1, 8, 1, 1), (6, 12, 2, 1), (6, 16, 3, 2), (6, 32, 4, 2), (6, 48, 3, 1), (6, 80, 3, 2), (6, 160, 1, 1)]
    SHOWN = (1, 2, 4, 6)

    def __init__(self, classes):
        super().__init__()
        self.conv1 = nn.Sequential(conv(3, 16, 3, 2), nn.BatchNorm2d(16), nn.ReLU())
        before, groups = 16, []
        for expand, to, count, stride in self.GROUPS:
            blocks = [Inverted(to if i else before, to, 1 if i else stride, expand) for i in range(count)]
            groups.append(nn.Sequential(*blocks))
            before = to
        self.blocks = nn.Sequential(*groups)
        self.conv2 = nn.Sequential(conv(before, 1280), nn.BatchNorm2d(1280), nn.ReLU())
        self.classifier = nn.Sequential(nn.Linear(1280, classes))

    def forward(self, x):
        maps = [self.conv1(x)]
        x = maps[0]
        for index, blocks in enumerate(self.blocks):
            x = blocks(x)
            if index in self.SHOWN:
                maps.append(x)
        return self.classifier(self.conv2(x).mean((2, 3))), maps, maps[1:]


class Dealt(nn.Module):
    """ShuffleNet's: grouped, dealt out, depthwise, grouped."""

    def __init__(self, a, b, first, groups):
        super().__init__()
        own = b - a if first else b
        inner = own // 4
        self.first, self.groups = first, 1 if a == 24 else groups
        stride = 2 if first else 1
        layers(self, conv(a, inner, groups=self.groups), conv(inner, inner, 3, stride, inner), conv(inner, own, groups=groups))

    def forward(self, x):
        y = shuffle(F.relu(normed(self, 1, x)), self.groups)
        y = normed(self, 3, F.relu(normed(self, 2, y)))
        return torch.cat([y, F.avg_pool2d(x, 3, 2, 1)], 1) if self.first else y + x


class Down(nn.Module):
    """ShuffleNetV2's first block of a stage: both hands work."""

    def __init__(self, a, b):
        super().__init__()
        half = b // 2
        layers(self, conv(a, a, 3, 2, a), conv(a, half), conv(a, half), conv(half, half, 3, 2, half), conv(half, half))

    def forward(self, x):
        left = normed(self, 2, normed(self, 1, x))
        right = normed(self, 5, normed(self, 4, F.relu(normed(self, 3, x))))
        preact = torch.cat([left, right], 1)
        return shuffle(F.relu(preact), 2), preact


def together(kept, y):
    """What a block would show before its ReLU, not dealt out."""
    return torch.cat([kept, y], 1)


class Halves(nn.Module):
    """Its other blocks: one hand keeps what it has."""

    def __init__(self, channels):
        super().__init__()
        half = channels // 2
        layers(self, conv(half, half), conv(half, half, 3, 1, half), conv(half, half))

    def forward(self, x):
        kept, y = x.chunk(2, 1)
        y = normed(self, 3, normed(self, 2, F.relu(normed(self, 1, y))))
        return shuffle(torch.cat([kept, F.relu(y)], 1), 2), together(kept, y)


class ShuffleV1(nn.Module):
    WIDTHS = [24, 240, 480, 960]

    def __init__(self, classes):
        super().__init__()
        layers(self, conv(3, 24))
        for stage, (a, b, count) in enumerate(zip(self.WIDTHS, self.WIDTHS[1:], (4, 8, 4)), 1):
            blocks = [Dealt(b if i else a, b, i == 0, 3) for i in range(count)]
            self.add_module(f"layer{stage}", nn.Sequential(*blocks))
        self.linear = nn.Linear(960, classes)

    def forward(self, x):
        x = F.relu(normed(self, 1, x))
        maps, preacts = [x], []
        for stage in (self.layer1, self.layer2, self.layer3):
            for block in stage:
                preact = block(x)
                x = F.relu(preact)
            maps.append(x)
            preacts.append(preact)
        return self.linear(x.mean((2, 3))), maps, preacts


class ShuffleV2(nn.Module):
    WIDTHS = [24, 116, 232, 464]

    def __init__(self, classes):
        super().__init__()
        layers(self, conv(3, 24), conv(464, 1024))
        for stage, (a, b, count) in enumerate(zip(self.WIDTHS, self.WIDTHS[1:], (3, 7, 3)), 1):
            self.add_module(f"layer{stage}", nn.Sequential(Down(a, b), *(Halves(b) for _ in range(count))))
        self.linear = nn.Linear(1024, classes)

    def forward(self, x):
        x = F.relu(normed(self, 1, x))
        maps, preacts = [x], []
        for stage in (self.layer1, self.layer2, self.layer3):
            for block in stage:
                x, preact = block(x)
            maps.append(x)
            preacts.append(preact)
        x = F.relu(normed(self, 2, x))
        return self.linear(x.mean((2, 3))), maps, preacts
