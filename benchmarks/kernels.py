"""Where a training step of ours spends its time, kernel by kernel: TensorFlow's profiler over 30 steps, as JSON.

python benchmarks/kernels.py deotte 64
"""

import collections
import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import shared  # noqa: F401 (puts the repository on the path)

from recognizer.base import environment
from recognizer.config.overrides import resolve

RUNTIME = ("FunctionRun", "TraceContext", "ExecutorState", "ExecutorDoneCallback")


def main(recipe, batch_size, steps=30):
    config = resolve(recipe, [("batch_size", int(batch_size))]) | {"seed": 0}
    environment.choose_threads(config)
    environment.import_keras()
    import tensorflow as tf

    from recognizer.nn import building
    from recognizer.nn.precision import native_precision
    from recognizer.training.trainer import new_model

    config["precision"] = native_precision()
    config["model_config"] = building.all_arguments(config["model"], config["model_config"], lambda: (0.13, 0.31))
    model = new_model(config, 1, steps)
    x = tf.random.uniform((int(batch_size), 28, 28, 1))
    y = tf.one_hot(np.arange(int(batch_size)) % 10, 10)

    @tf.function
    def step():
        model.epoch.done.assign(0)  # each step as the first of an epoch
        return model.train_step((x, y))

    for _ in range(5):
        step()
    start = time.perf_counter()
    for _ in range(steps):
        step()
    seconds = (time.perf_counter() - start) / steps
    print(json.dumps({"milliseconds": seconds * 1e3, "kernels": kernels(step, steps)}))


def kernels(step, steps):
    """Returns {kernel: milliseconds a step} of the 12 kernels that take longest, from a profile of `steps` steps."""
    import tensorflow as tf
    from tensorflow.tsl.profiler.protobuf import xplane_pb2

    with tempfile.TemporaryDirectory() as folder:
        tf.profiler.experimental.start(folder, tf.profiler.experimental.ProfilerOptions(2, 0, 0))
        for _ in range(steps):
            step()
        tf.profiler.experimental.stop()
        space = xplane_pb2.XSpace()
        space.ParseFromString(next(Path(folder).rglob("*.xplane.pb")).read_bytes())
    found = collections.Counter()
    for plane in space.planes:
        for event in (event for line in plane.lines for event in line.events):
            name = plane.event_metadata[event.metadata_id].name
            kind, _, kernel = name.partition(":")  # "layer/name:Kernel"; the others are of the runtime itself
            if kernel and ":" not in kernel and "__" not in kernel and kind not in RUNTIME:
                found[kernel] += event.duration_ps / 1e9 / steps
    return dict(found.most_common(12))


if __name__ == "__main__":
    main(*sys.argv[1:])
