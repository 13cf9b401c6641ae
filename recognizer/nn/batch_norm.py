import keras
import numpy as np


def all_layers(model):
    """All layers of a model, those of models within it, too."""
    for layer in model.layers:
        yield layer
        if hasattr(layer, "layers"):
            yield from all_layers(layer)


def update_bn(model, batches):
    """Sets batch normalisation's moving statistics to their means over `batches` of inputs, float32 (b, 28, 28, 1).

    As torch.optim.swa_utils.update_bn: what a net has seen in training, augmented, is not what it is to predict.
    """
    normalizations = [layer for layer in all_layers(model) if isinstance(layer, keras.layers.BatchNormalization)]
    momenta = [layer.momentum for layer in normalizations]
    statistics = [weight for layer in normalizations for weight in layer.non_trainable_weights]
    overflows = any(layer.compute_dtype == "float16" for layer in model._flatten_layers())
    seen = 0
    for batch in batches:
        for layer in normalizations:
            layer.momentum = seen / (seen + 1)
        before = [keras.ops.convert_to_numpy(weight) for weight in statistics] if overflows else []
        model(batch, training=True)
        if overflows and not all(np.isfinite(keras.ops.convert_to_numpy(weight)).all() for weight in statistics):
            for weight, value in zip(statistics, before, strict=True):  # as if the batch had not been
                weight.assign(value)
        else:
            seen += 1
    for layer, momentum in zip(normalizations, momenta, strict=True):
        layer.momentum = momentum
