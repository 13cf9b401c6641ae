"""Copies of a net: `plain` in Keras's own layers and float32, as it is saved; `fast` in those of layers.py, to predict.

A copy is made from the net's Keras config, with classes and dtype policies changed in it, and has the net's weights.
"""

import keras

from recognizer.nn import flip_classes, layers
from recognizer.nn.precision import POLICIES

HALF = {"bfloat16", "float16"}
KNOWN = {*POLICIES.values(), *HALF}  # the policies that a copy changes; a layer in float64 or integers stays as it is


def plain(model):
    """Returns a copy of a Sequential or functional model in Keras's own layers and float32, with its weights.

    Raises ValueError if a layer of the copy still computes in half precision.
    """
    copy = _copy(model, layers.PLAIN, "float32", {})
    for layer in copy._flatten_layers():
        if layer.compute_dtype in HALF:
            raise ValueError(f"layer {layer.name!r} computes in {layer.compute_dtype} whatever dtype it is given")
    return copy


def fast(model, precision="float32", dtypes=None):
    """Returns a copy of a plain model in the layers of layers.py, with its weights.

    precision: that of its layers, a key of POLICIES. dtypes: the dtype policies of the layers that have another one,
    from `explicit_dtypes`; None: the output layer in float32, for nets saved before these were recorded.
    """
    if dtypes is None:
        dtypes = {flip_classes.core(model).layers[-1].name: "float32"}
    return _copy(model, layers.FAST, POLICIES[precision], dtypes if precision != "float32" else {})


def plain_config(model):
    """Returns the Keras config of the copy that `plain` makes, and builds nothing."""
    return _changed(model, layers.PLAIN, "float32", {})


def explicit_dtypes(model, precision):
    """Returns {path: dtype policy} of a model's layers whose policy is not the one that `precision` gives.

    A path is the names of the layers around a layer and its own, joined by "/". A saved net is float32 throughout, so
    these must be recorded beside it.
    """
    policy, found = POLICIES[precision], _layers(keras.saving.serialize_keras_object(model))
    return {path: _policy(config) for path, config in found if _policy(config) in KNOWN - {_usual(config, policy)}}


def set_weights(model, weights):
    """Sets a model's weights, and what its layers derive from them."""
    model.set_weights(weights)
    finalize(model)


def finalize(model):
    """Makes layers recompute what they derive from their weights only once, such as Normalization's mean.

    Returns whether there are such layers: a function compiled with the model holds what they derived before.
    """
    found = [layer for layer in model._flatten_layers() if hasattr(layer, "finalize_state")]
    for layer in found:
        layer.finalize_state()
    return bool(found)


def _copy(model, classes, policy, dtypes):
    """Returns a copy of a model, with its weights, made from its `_changed` config."""
    config = _changed(model, classes, policy, dtypes)
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)  # for the layers that a layer makes by itself
    try:
        copy = keras.saving.deserialize_keras_object(config)
    finally:
        keras.config.set_dtype_policy(before)
    set_weights(copy, model.get_weights())
    return copy


def _changed(model, classes, policy, dtypes):
    """Returns a model's Keras config with other classes, {class: the one in its place}, and other dtype policies.

    policy: that of all layers but those in `dtypes`, {path: policy}.
    """
    written = {tuple(_written(kind).values()): instead for kind, instead in classes.items()}
    whole = keras.saving.serialize_keras_object(model)
    whole.pop("compile_config", None)  # the copy needs no optimizer
    for path, config in _layers(whole):
        instead = written.get((config.get("module"), config.get("class_name")))
        if instead is not None:
            config |= _written(instead)
            config["registered_name"] = keras.saving.get_registered_name(instead) if instead in layers.PLAIN else None
        if _policy(config) in KNOWN:
            config["config"]["dtype"] = dtypes.get(path, _usual(config, policy))
    return whole


def _written(kind):
    """Returns how a Keras config names a class of Keras's layers or of layers.py."""
    return {"module": "keras.layers" if kind in layers.FAST else kind.__module__, "class_name": kind.__name__}


def _usual(config, policy):
    """Returns the dtype policy that a layer has in a net of `policy`: an input is float32 in all nets."""
    return "float32" if config.get("class_name") == "InputLayer" else policy


def _policy(config):
    """Returns the name of a layer's dtype policy from its Keras config; None if it has none."""
    policy = config["config"].get("dtype")
    return policy.get("config", {}).get("name") if isinstance(policy, dict) else policy


def _layers(config, path=()):
    """Yields (path, config) of each layer in a Keras config, and of those inside layers and models."""
    if isinstance(config, (list, tuple)):
        for part in config:
            yield from _layers(part, path)
    elif isinstance(config, dict):
        inner = config.get("config")
        layer = isinstance(inner, dict) and (
            inner.keys() & {"trainable", "layers"} or config.get("class_name") == "InputLayer"
        )
        if layer and "name" in inner:
            # Paths begin inside the model, and inside the net that flip_classes.aggregated wraps.
            path = (flip_classes.CORE,) if inner["name"] == flip_classes.CORE else (*path, inner["name"])
            yield "/".join(path[1:]), config
        yield from _layers(list(config.values()), path)
