"""Runs what a submission to HyperQueue says in a cluster of HyperQueue's own: its package for Python has the server and the
worker, and not the program `hq` that the script asks."""

import shlex
import sys

from hyperqueue import Job, LocalCluster
from hyperqueue.ffi.protocol import ResourceRequest

script = open(sys.argv[1]).read().replace("\\\n", " ")
submissions = [shlex.split(line) for line in script.splitlines() if line.startswith("hq submit")]
with LocalCluster() as cluster:
    cluster.start_worker()
    client = cluster.client()
    for words in submissions:
        words = words[: words.index("||")] if "||" in words else words
        program = words[words.index("--") + 1 :]
        array = [word.split("=")[1] for word in words if word.startswith("--array=")]
        first, last = map(int, (array or ["0-0"])[0].split("-"))
        assert first == 0, "tasks of this package are numbered from 0"
        job = Job()
        for _ in range(last + 1):
            job.program(program, resources=ResourceRequest(cpus=1))
        client.wait_for_jobs([client.submit(job)])
