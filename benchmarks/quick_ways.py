"""One training of `quick`, or of what it is measured against, in a process of its own: prints seconds and accuracy.

    python benchmarks/quick_ways.py ours 0 --data mnist
    python benchmarks/quick_ways.py "PyTorch float32" 0 --data mnist

The seconds are from arrays in memory to trained weights, with everything that is compiled on the way, but without
imports and without the accuracy on the test set.
"""

import argparse
import json
import os
import sys
import time

import numpy as np
import shared  # noqa: F401 (puts the repository on the path)

from recognizer.base import environment
from recognizer.config.overrides import resolve
from recognizer.data import sources
from recognizer.data.arrays import Digits


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("way", choices=("ours", "PyTorch float32", "PyTorch bfloat16"))
    p.add_argument("seed", type=int)
    p.add_argument("--data", default="auto")
    arguments = p.parse_args()
    digits = sources.load(arguments.data)
    test = digits.test
    if test is None or test.y is None:
        p.error(f"{digits.train.origin} has no labelled test set")
    if arguments.way == "ours":
        seconds, predict = ours(digits.train, arguments.seed)
    else:
        seconds, predict = pytorch(digits.train, arguments.seed, arguments.way.split()[1])
    print(json.dumps({"seconds": seconds, "accuracy": float(np.mean(predict(test.x) == test.y))}), flush=True)
    sys.stdout.flush()
    os._exit(0)  # without the messages that TensorFlow prints at exit


def ours(images, seed):
    config = resolve("quick") | {"seed": seed, "augment_engine": "batch", "validation_split": 0}
    environment.choose_threads(config)
    environment.import_keras()
    from recognizer.nn.precision import native_precision
    from recognizer.training import callbacks, inference
    from recognizer.training.trainer import Trainer

    config["precision"] = native_precision()
    start = time.perf_counter()
    trainer = Trainer(config, Digits(images, None, ""))
    trainer.begin(1)
    used = [callbacks.Epochs(trainer.batches), callbacks.Schedule(config, trainer.batches.steps)]
    data, epochs = trainer.batches.data, config["epochs"]
    trainer.model.fit(data, epochs=epochs, callbacks=used, shuffle=False, verbose=0)
    seconds = time.perf_counter() - start
    predictor = inference.Predictor(trainer.plain())
    return seconds, lambda x: predictor.predict(x).argmax(1)


def pytorch(images, seed, precision):
    """tuomaso/train_mnist_fast's final notebook: its net, one epoch, batches of 256, one-cycle Adam."""
    import torch
    import torch._dynamo  # what the first optimizer would import
    from torch import nn
    from torch.nn import functional

    torch.manual_seed(seed)
    autocast = torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16")

    def scaled(images):
        return ((torch.from_numpy(images)[:, None].float() / 255 - 0.1307) / 0.3081).contiguous(
            memory_format=torch.channels_last
        )

    x, y = images.x, images.y
    start = time.perf_counter()
    net = nn.Sequential(
        nn.Conv2d(1, 24, 5), nn.MaxPool2d(2), nn.ReLU(), nn.Conv2d(24, 32, 3), nn.MaxPool2d(2), nn.ReLU(),
        nn.Flatten(), nn.Linear(800, 256), nn.ReLU(), nn.Linear(256, 10),
    ).to(memory_format=torch.channels_last)  # fmt: skip
    order = torch.randperm(len(x)).numpy()
    pixels, labels = scaled(x[order]), torch.from_numpy(y[order].astype("int64"))
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01, betas=(0.7, 0.9), fused=True)
    steps = -(-len(x) // 256)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.01, total_steps=steps, cycle_momentum=False)
    for step in range(steps):
        chosen = slice(256 * step, 256 * (step + 1))
        with autocast:
            logits = net(pixels[chosen])
        loss = functional.cross_entropy(logits.float(), labels[chosen])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        schedule.step()
    seconds = time.perf_counter() - start

    def predict(images):
        with torch.inference_mode():
            return torch.cat([net(part).argmax(1) for part in scaled(images).split(1000)]).numpy()

    return seconds, predict


if __name__ == "__main__":
    main()
