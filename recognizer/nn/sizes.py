"""The sizes of the outputs of a net's layers, which limit how many images it can predict at once."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import keras

LARGEST_BATCH = 2**28  # numbers in a layer's output for one batch: 1 GB


def images_at_once(model: keras.Model, most: int = 512) -> int:
    """Returns how many images (up to `most`) a model can predict at once without running out of memory."""
    return max(1, min(most, LARGEST_BATCH // largest(output_shapes(model))))


def largest(shapes: Iterable[tuple]) -> int:
    """Returns the number of elements for one image in the largest of some output shapes."""
    return max((math.prod(size or 1 for size in shape) for shape in shapes), default=1)


def output_shapes(model: keras.Model) -> Iterator[tuple]:
    """Yields the shapes of all outputs of a model's layers and operations, including nested models."""
    for operation in getattr(model, "operations", model.layers):
        for node in operation._inbound_nodes:  # one node for each call
            yield from (tensor.shape for tensor in node.output_tensors)
        if hasattr(operation, "layers"):
            yield from output_shapes(operation)
