"""PyTorch's side of `cargo xtask bench`: the same networks, the same work, with channels_last.

Usage: step.py WORK MODEL THREADS DEVICE MODE BATCH SIZE, where WORK is `train`, `inference`, `kd` or `images` (with `-winograd` or
`-mixed` behind it, for PyTorch the same), MODEL of `kd` is TEACHER+STUDENT and of `images` empty, MODE is `eager`, `bf16` (autocast),
`compile` (max-autotune) or `compile-bf16` (both), and images are SIZE x SIZE. Reads from standard input, a line each, how often to do it, does it and answers with a line of JSON; 0 asks what it
needed, and ends.
"""

import json
import os
import resource
import sys
import time
from pathlib import Path

import torch
from torch.nn.functional import cross_entropy, kl_div, log_softmax, softmax

sys.path.insert(0, str(Path(__file__).parents[2] / "tests" / "golden"))
import zoo  # noqa: E402  the networks as the recordings know them

CLASSES, TEMPERATURE = 100, 4.0

# The fastest these networks can be in eager mode: ReLU in place, as the peers write it, and nothing done for
# pre-activation maps that nobody reads.
relu = torch.nn.functional.relu
torch.nn.functional.relu = lambda x, inplace=True: relu(x, inplace=True)
zoo.Wide.quiet = lambda self, norm, x: x
zoo.mobile.together = lambda kept, y: y


def build(model, device, mode):
    net = (zoo.ZOO | zoo.IMAGENET)[model](CLASSES).to(device, memory_format=torch.channels_last)
    # Our networks normalise their images; so do these.
    run = lambda images: net(zoo.normal(images))[0]  # noqa: E731
    return net, torch.compile(run, mode="max-autotune") if "compile" in mode else run


def epoch(batch):
    """The batches of an epoch as mdistiller, RepDistiller and their forks make them: of PIL's pictures, by torchvision."""
    from PIL import Image
    from torchvision import transforms

    pictures = torch.arange(50_000 * 32 * 32 * 3).remainder(251).byte().reshape(-1, 32, 32, 3).numpy()
    change = transforms.Compose(
        [
            transforms.RandomCrop(32, padding=4),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            transforms.Normalize((0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)),
        ]
    )

    class Pictures(torch.utils.data.Dataset):
        def __len__(self):
            return len(pictures)

        def __getitem__(self, row):
            return change(Image.fromarray(pictures[row])), row % CLASSES, row

    batches = torch.utils.data.DataLoader(Pictures(), batch_size=batch, shuffle=True)
    return lambda: [None for _ in batches]


def work(what, model, device, mode, batch, size):
    torch.manual_seed(0)
    if what == "images":
        return epoch(batch)
    images = torch.rand(batch, 3, size, size, device=device).to(memory_format=torch.channels_last)
    labels = torch.randint(0, CLASSES, (batch,), device=device)
    half = lambda: torch.autocast(device, torch.bfloat16, enabled="bf16" in mode)  # noqa: E731

    if what == "inference":
        net, run = build(model, device, mode)
        net.eval()

        def infer():
            with torch.inference_mode(), half():
                run(images)

        return infer

    names = model.split("+")
    student, run = build(names[-1], device, mode)
    student.train()
    teacher, ask = build(names[0], device, mode) if what == "kd" else (None, None)
    if teacher:
        teacher.eval()
    optimizer = torch.optim.SGD(student.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)

    def step():
        optimizer.zero_grad(set_to_none=True)
        with half():
            logits = run(images)
            value = cross_entropy(logits, labels)
            if teacher:
                with torch.no_grad():
                    said = softmax(ask(images) / TEMPERATURE, 1)
                apart = kl_div(log_softmax(logits / TEMPERATURE, 1), said, reduction="none")
                value = value + TEMPERATURE**2 * apart.sum(1).mean()
        value.backward()
        optimizer.step()

    return step


def main(what, model, threads, device, mode="eager", batch=64, size=32):
    torch.set_num_threads(int(threads))
    if device == "cuda":
        # As its users have it where shapes stand still: algorithms of convolutions are tried out.
        torch.backends.cudnn.benchmark = True
        # PyTorch rounds the factors of convolutions unasked; here both sides do as they are told.
        torch.backends.cudnn.allow_tf32 = os.environ.get("SOKD_TF32") == "1"
    do = work(what.removesuffix("-mixed").removesuffix("-winograd"), model, device, mode, int(batch), int(size))
    pages, done = None, 0
    for line in sys.stdin:
        usage = resource.getrusage(resource.RUSAGE_SELF)
        if int(line) == 0:
            new_pages = (usage.ru_minflt - (pages or 0)) / max(done, 1)
            print(json.dumps({"peak_mb": usage.ru_maxrss / 1024, "new_pages": new_pages}), flush=True)
            return
        cpu, wall = [], []
        for _ in range(int(line)):
            before = time.process_time(), time.perf_counter()
            do()
            if device == "cuda":
                torch.cuda.synchronize()
            cpu.append(1e3 * (time.process_time() - before[0]))
            wall.append(1e3 * (time.perf_counter() - before[1]))
        # The first answer warms up.
        if pages is None:
            pages = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        else:
            done += int(line)
        print(json.dumps({"cpu_ms": cpu, "wall_ms": wall}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
