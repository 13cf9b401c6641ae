"""One PyTorch way of training or predicting, timed in turn by bench.py. Needs `pip install torch==2.13.0`.

    python benchmarks/torch_ways.py train "bfloat16 compile" deotte 64 --data mnist

Written as a PyTorch user would for speed: channels_last, autocast, a fused optimizer, the whole batch augmented at once
by affine_grid and grid_sample.
"""

import argparse
import math

import shared  # noqa: F401 (puts the repository on the path)
import torch
from clock import Clock
from torch import nn
from torch.nn import functional

from recognizer.config.overrides import resolve
from recognizer.data import sources

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("what", choices=("train", "predict"))
    p.add_argument("way", help='float32, bfloat16, "float32 compile" or "bfloat16 compile"')
    p.add_argument("recipe", choices=NETS)
    p.add_argument("batch_size", type=int)
    p.add_argument("--data", default="auto")
    p.add_argument("--rows", type=int)
    p.add_argument("--window", type=float, default=3)
    arguments = p.parse_args()
    images = sources.load(arguments.data).train
    x = torch.tensor(images.x[: arguments.rows].copy())[:, None].to(DEVICE)
    y = torch.tensor(images.y[: arguments.rows].astype("int64")).to(DEVICE)
    model = NETS[arguments.recipe]().to(DEVICE, memory_format=torch.channels_last)
    run = torch.compile(model) if "compile" in arguments.way else model
    autocast = torch.autocast(DEVICE, torch.bfloat16, enabled="bfloat16" in arguments.way)
    {"train": train, "predict": predict}[arguments.what](
        model, run, autocast, x, y, arguments.recipe, arguments.batch_size, Clock(arguments.window)
    )


def train(model, run, autocast, x, y, recipe, batch_size, clock):
    config = resolve(recipe)
    make = {
        "adam": lambda p: torch.optim.Adam(p, fused=True),
        "rmsprop": lambda p: torch.optim.RMSprop(p, lr=1e-3, alpha=0.9, foreach=True),
        "sgd": lambda p: torch.optim.SGD(p, lr=0.01, fused=True),
    }
    optimizer = make[config["optimizer"]](model.parameters())
    while True:
        order = torch.randperm(len(x), device=DEVICE)
        for start in range(0, len(x) - batch_size + 1, batch_size):
            chosen = order[start : start + batch_size]
            images = augmented(x[chosen].float() / 255).contiguous(memory_format=torch.channels_last)
            with autocast:
                logits = run(images)
            loss = functional.cross_entropy(logits.float(), y[chosen])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            if DEVICE == "cuda" and start % (32 * batch_size) == 0:
                torch.cuda.synchronize()
            clock(batch_size)


def augmented(images, rotation=10, zoom=0.1, shift=0.1):
    """Rotation, zoom and shift of a batch, edges repeated, as ImageDataGenerator does with SHIFT_10."""
    n = len(images)
    u = 2 * torch.rand(5, n, device=images.device) - 1
    angle = u[0] * math.radians(rotation)
    cos, sin = torch.cos(angle), torch.sin(angle)
    zx, zy = 1 + zoom * u[1], 1 + zoom * u[2]
    rows = (cos * zx, -sin * zy, 2 * shift * u[3], sin * zx, cos * zy, 2 * shift * u[4])
    grid = functional.affine_grid(torch.stack(rows, 1).view(n, 2, 3), list(images.shape), align_corners=False)
    return functional.grid_sample(images, grid, padding_mode="border", align_corners=False)


def predict(model, run, autocast, x, y, recipe, batch_size, clock):
    model.eval()
    clock.before = 1
    while True:
        with torch.inference_mode(), autocast:
            for start in range(0, len(x), batch_size):
                images = (x[start : start + batch_size].float() / 255).contiguous(memory_format=torch.channels_last)
                torch.softmax(run(images).float(), 1)
        if DEVICE == "cuda":
            torch.cuda.synchronize()
        clock(len(x))


def conv(inputs, outputs, size, **arguments):
    return [nn.Conv2d(inputs, outputs, size, **arguments), nn.ReLU(inplace=True)]


def norm(channels):
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)


def grenholm():
    return nn.Sequential(
        *conv(1, 16, 3), norm(16), *conv(16, 16, 3), norm(16), nn.MaxPool2d(2), nn.Dropout(0.25),
        *conv(16, 32, 3), norm(32), *conv(32, 32, 3), norm(32), nn.MaxPool2d(2), nn.Dropout(0.25),
        nn.Flatten(), nn.Linear(512, 512), nn.ReLU(), nn.Dropout(0.25),
        nn.Linear(512, 1024), nn.ReLU(), nn.Dropout(0.5), nn.Linear(1024, 10),
    )  # fmt: skip


def codeastar():
    return nn.Sequential(
        *conv(1, 30, 5), nn.MaxPool2d(2), *conv(30, 15, 3), nn.Dropout(0.2), nn.Flatten(),
        nn.Linear(1500, 128), nn.ReLU(), nn.Linear(128, 50), nn.ReLU(), nn.Linear(50, 10),
    )  # fmt: skip


def deotte():
    parts, inputs = [], 1
    for filters in (32, 64):
        for size, arguments in ((3, {}), (3, {}), (5, dict(stride=2, padding=2))):
            parts += [*conv(inputs, filters, size, **arguments), norm(filters)]
            inputs = filters
        parts.append(nn.Dropout(0.4))
    parts += [*conv(64, 128, 4), norm(128), nn.Flatten(), nn.Dropout(0.4), nn.Linear(128, 10)]
    return nn.Sequential(*parts)


def vgg_bn_dropout():
    return nn.Sequential(
        *conv(1, 32, 3), norm(32), *conv(32, 32, 3), norm(32), nn.MaxPool2d(2),
        *conv(32, 64, 3), norm(64), *conv(64, 64, 3), norm(64), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(1024, 512), nn.ReLU(), nn.BatchNorm1d(512, eps=1e-3, momentum=0.01),
        nn.Dropout(0.5), nn.Linear(512, 10),
    )  # fmt: skip


NETS = {"grenholm": grenholm, "codeastar": codeastar, "deotte": deotte, "vgg-bn-dropout": vgg_bn_dropout}

if __name__ == "__main__":
    main()
