import numpy as np


def grad_cam(model):
    """Returns a function of a digit uint8 (28, 28) and a label: which parts speak for it, float32 (28, 28), 0 to 1.

    By the last feature maps of 5x5 or more that all of the net's results come from: Selvaraju et al., "Grad-CAM: visual
    explanations from deep networks" (2017), each pixel weighted by its own gradient, since where a stroke is matters
    here (Draelos and Carin, "HiResCAM", 2020). A net that has no such maps looks nowhere.
    """
    import keras

    from recognizer.nn.flip_classes import core

    model = core(model)
    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    if hasattr(copy.layers[-1], "activation"):
        copy.layers[-1].activation = keras.activations.linear  # logits: probabilities of 1 have no gradient
    body, head = None, None
    for layer in reversed(copy.layers):
        features, normalised = layer.output, isinstance(layer, keras.layers.BatchNormalization)
        if len(features.shape) < 4 or min(features.shape[1:3]) < 5 or normalised:
            continue  # what is normalised is not 0 where nothing is
        try:
            body, head = keras.Model(copy.inputs[0], features), keras.Model(features, copy.outputs[0])
        except ValueError:  # one of a residual block's branches
            continue
        break
    if head is None:
        return lambda image, label: np.zeros((28, 28), np.float32)
    centres = _centres(body)

    def heat(image, label):
        features = body(image[None, ..., None] / np.float32(255), training=False)
        gradient = _gradient(lambda x: head(x, training=False)[0, label], features)
        found = np.maximum((np.asarray(features) * np.asarray(gradient))[0].sum(axis=-1), 0)
        for _ in range(2):  # rows, then columns
            found = np.stack([np.interp(np.arange(28), centres, [0, *line, 0]) for line in found.T])
        return (found / max(found.max(), 1e-9)).astype(np.float32)

    return heat


def _centres(body):
    """Where on an image the rows (and columns) of a net's feature maps lie, and the next ones beyond either end.

    The middle of what each is made from, by its gradient.
    """
    import keras

    x = keras.ops.convert_to_tensor(np.random.default_rng(0).random((32, 28, 28, 1), np.float32))
    middles = []
    for k in range(body.output.shape[1]):
        felt = np.abs(_gradient(lambda x, k=k: keras.ops.sum(body(x, training=False)[:, k, k]), x)).sum(axis=(0, 2, 3))
        felt -= felt.min()  # a net that standardises each image by itself feels every pixel a little
        middles.append(felt @ np.arange(28) / max(felt.sum(), 1e-9))
    apart = 28 / len(middles)
    return np.maximum.accumulate([middles[0] - apart, *middles, middles[-1] + apart])


def _gradient(function, x):
    """The gradient of a function of a tensor that gives a number, by the backend in use."""
    import keras

    if keras.backend.backend() == "jax":
        import jax

        return jax.grad(function)(x)
    import tensorflow as tf

    with tf.GradientTape() as tape:
        tape.watch(x)
        y = function(x)
    return tape.gradient(y, x)
