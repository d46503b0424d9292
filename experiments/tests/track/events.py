"""What TensorBoard itself finds in a run's directory, as JSON."""

import json
import math
import sys

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData


def value(wrapped):
    return getattr(wrapped, wrapped.WhichOneof("kind"))


def session(run, tag):
    content = run.summary_metadata[tag].plugin_data.content
    return HParamsPluginData.FromString(content)


run = EventAccumulator(sys.argv[1], size_guidance={"scalars": 0, "tensors": 0, "images": 0})
run.Reload()
tags = run.Tags()
found = {"scalars": {}, "texts": {}, "images": {}}
for tag in tags["scalars"]:
    points = [(point.step, point.value) for point in run.Scalars(tag)]
    found["scalars"][tag] = [[step, None if math.isnan(value) else value] for step, value in points]
for tag in tags["tensors"]:
    plugin = run.summary_metadata[tag].plugin_data.plugin_name
    if plugin == "text":
        texts = [event.tensor_proto.string_val[0].decode() for event in run.Tensors(tag)]
        found["texts"][tag] = texts
for tag in tags["images"]:
    found["images"][tag] = [
        [image.width, image.height, image.encoded_image_string[:8].hex()] for image in run.Images(tag)
    ]
start = session(run, "_hparams_/session_start_info").session_start_info
found["settings"] = {name: value(wrapped) for name, wrapped in start.hparams.items()}
if "_hparams_/session_end_info" in run.summary_metadata:
    found["ended"] = session(run, "_hparams_/session_end_info").session_end_info.status
json.dump(found, sys.stdout, allow_nan=False)
