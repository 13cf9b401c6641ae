"""How large the outputs of a net's layers are, which decides how many images it can predict at once."""

import math

LARGEST_BATCH = 2**28  # numbers that a layer gives for the images that are predicted at once: 1 GB


def images_at_once(model, most=512):
    """Returns how many images, at most `most`, a model can predict at once without its layers taking all memory."""
    return max(1, min(most, LARGEST_BATCH // largest(output_shapes(model))))


def largest(shapes):
    """Returns how many numbers the largest of some shapes has for an image."""
    return max((math.prod(size or 1 for size in shape) for shape in shapes), default=1)


def output_shapes(model):
    """Yields the shapes of all outputs of a model's layers and operations, and of those of models inside it."""
    for operation in getattr(model, "operations", model.layers):
        for node in operation._inbound_nodes:  # one for each time that it is called
            yield from (tensor.shape for tensor in node.output_tensors)
        if hasattr(operation, "layers"):
            yield from output_shapes(operation)
