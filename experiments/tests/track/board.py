"""What TensorBoard's own server shows of some runs, as JSON. It listens on the loopback device and ends with this script."""

import json
import re
import subprocess
import sys
import time
import urllib.parse
import urllib.request

server = subprocess.Popen(
    [sys.executable, "-m", "tensorboard.main", "--logdir", sys.argv[1], "--host", "127.0.0.1", "--port", "0"]
    + sys.argv[2:],
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
    text=True,
)
opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
try:
    for line in server.stdout:
        address = re.search(r"http://127\.0\.0\.1:\d+/", line)
        if address:
            break
    else:
        sys.exit("TensorBoard said no address")

    def ask(path, body=None):
        request = urllib.request.Request(address[0] + "data/plugin/" + path)
        if body is not None:
            request.data = json.dumps(body).encode()
            request.add_header("Content-Type", "application/json")
        return json.load(opener.open(request, timeout=60))

    found = {"scalars": {}, "texts": {}, "images": {}}
    for _ in range(100):
        tags = ask("scalars/tags")
        if tags:
            break
        time.sleep(0.2)
    for run, names in tags.items():
        found["scalars"][run] = {
            tag: ask("scalars/scalars?" + urllib.parse.urlencode({"run": run, "tag": tag})) for tag in names
        }
    found["texts"] = ask("text/tags")
    for run in found["texts"]:
        found["texts"][run] = ask("text/text?" + urllib.parse.urlencode({"run": run, "tag": "recipe"}))
    found["images"] = ask("images/tags")
    found["experiment"] = ask("hparams/experiment", {"experimentName": ""})
    ask_all = {"experimentName": "", "allowedStatuses": [f"STATUS_{name}" for name in ["UNKNOWN", "SUCCESS", "FAILURE", "RUNNING"]]}
    ask_all |= {"colParams": [], "startIndex": 0, "sliceSize": 100}
    found["sessions"] = ask("hparams/session_groups", ask_all)
    json.dump(found, sys.stdout)
finally:
    server.terminate()
    server.wait(20)
