"""PyTorch's side of `cargo xtask bench`: the same network, the same step, eager mode with channels_last.

Usage: step.py MODEL THREADS. Reads a number of steps a line from standard input, runs them and answers with a line of
JSON; 0 asks for the peak memory and ends.
"""

import json
import resource
import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[2] / "tests" / "golden"))
import zoo  # noqa: E402  the networks as the recordings know them

BATCH, CLASSES = 64, 100

# The fastest these networks can be in eager mode: ReLU in place, as the peers write it, and nothing done for
# pre-activation maps that nobody reads.
relu = torch.nn.functional.relu
torch.nn.functional.relu = lambda x, inplace=True: relu(x, inplace=True)
zoo.Wide.quiet = lambda self, norm, x: x
zoo.mobile.together = lambda kept, y: y


def main(model, threads):
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    net = zoo.ZOO[model](CLASSES).to(memory_format=torch.channels_last).train()
    images = torch.rand(BATCH, 3, 32, 32).to(memory_format=torch.channels_last)
    labels = torch.randint(0, CLASSES, (BATCH,))
    loss = torch.nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)

    def step():
        optimizer.zero_grad(set_to_none=True)
        # Our networks normalise their images; so does this step.
        value = loss(net(zoo.normal(images))[0], labels)
        value.backward()
        optimizer.step()

    for line in sys.stdin:
        if int(line) == 0:
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            print(json.dumps({"peak_mb": peak}), flush=True)
            return
        cpu, wall = [], []
        for _ in range(int(line)):
            before = time.process_time(), time.perf_counter()
            step()
            cpu.append(1e3 * (time.process_time() - before[0]))
            wall.append(1e3 * (time.perf_counter() - before[1]))
        print(json.dumps({"cpu_ms": cpu, "wall_ms": wall}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
