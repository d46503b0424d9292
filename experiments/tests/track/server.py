"""An MLflow server on this machine's loopback device, for as long as the standard input is open.

It and its workers are a group of their own, which ends by `os.killpg`. Never by the program `kill`: that of Debian 12 (procps 4.0.2)
reads of `kill -TERM -1234`, without a `--`, the first digit only, and `-1` is every process of the machine.
"""

import os
import signal
import subprocess
import sys

server = subprocess.Popen(
    [sys.executable, "-m", "mlflow", "server", *sys.argv[1:]],
    stdin=subprocess.DEVNULL,
    stdout=subprocess.DEVNULL,
    stderr=subprocess.DEVNULL,
    start_new_session=True,
)
group = os.getpgid(server.pid)
# Its own group and nobody else's, or none is signalled.
assert group == server.pid and group > 1 and group != os.getpgrp()
try:
    sys.stdin.read()
finally:
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(group, number)
            server.wait(10)
        except (ProcessLookupError, subprocess.TimeoutExpired):
            pass
