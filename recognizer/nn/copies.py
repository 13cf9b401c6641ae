"""Copies of a net: `plain` has Keras's own layers in float32 and is saved; `fast` has those of layers.py and predicts.

A copy is built from the net's Keras config with other classes and dtype policies, and gets the net's weights.
"""

import keras
import numpy as np

from recognizer.nn import flip_classes, layers
from recognizer.nn.precision import POLICIES

HALF = {"bfloat16", "float16"}
KNOWN = {*POLICIES.values(), *HALF}  # the policies that a copy changes; float64 and integer layers stay as they are


def plain(model: keras.Model) -> keras.Model:
    """Returns a copy of a Sequential or functional model that has Keras's own layers in float32, and the same weights.

    Raises ValueError if a layer of the copy still computes in half precision.
    """
    copy = _copy(model, layers.PLAIN, "float32", {})
    for layer in copy._flatten_layers():
        if layer.compute_dtype in HALF:
            raise ValueError(f"layer {layer.name!r} computes in {layer.compute_dtype} whatever dtype it is given")
    return copy


def fast(model: keras.Model, precision: str = "float32", dtypes: dict[str, str] | None = None) -> keras.Model:
    """Returns a copy of a plain model that has the layers of layers.py, and the same weights.

    precision: the precision of the layers, a key of POLICIES. dtypes: the layers with another dtype policy, from
    `explicit_dtypes`; None: only the output layer is float32, for nets that were saved before dtypes were recorded.
    """
    if dtypes is None:
        dtypes = {flip_classes.core(model).layers[-1].name: "float32"}
    return _copy(model, layers.FAST, POLICIES[precision], dtypes if precision != "float32" else {})


def plain_config(model: keras.Model) -> dict:
    """Returns the Keras config of the copy that `plain` makes, without building it."""
    return _changed(model, layers.PLAIN, "float32", {})


def explicit_dtypes(model: keras.Model, precision: str) -> dict[str, str]:
    """Returns {path: dtype policy} of the layers whose dtype policy differs from that of `precision`.

    A path is a layer's name after the names of the layers that contain it, joined by "/". A saved net is float32
    throughout, so these policies must be recorded separately.
    """
    policy, found = POLICIES[precision], _layers(keras.saving.serialize_keras_object(model))
    return {path: _policy(config) for path, config in found if _policy(config) in KNOWN - {_usual(config, policy)}}


def set_weights(model: keras.Model, weights: list[np.ndarray]) -> None:
    """Sets a model's weights, and the values that its layers derive from them."""
    model.set_weights(weights)
    finalize(model)


def finalize(model: keras.Model) -> bool:
    """Makes layers recompute values that they cache, such as the mean that Normalization derives from its weights.

    Returns whether there are such layers. A compiled function of the model still holds the old values.
    """
    found = [layer for layer in model._flatten_layers() if hasattr(layer, "finalize_state")]
    for layer in found:
        layer.finalize_state()
    return bool(found)


def _copy(model, classes, policy, dtypes):
    """Returns a copy of a model, built from its `_changed` config, with the same weights."""
    config = _changed(model, classes, policy, dtypes)
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)  # for layers that a layer creates itself
    try:
        copy = keras.saving.deserialize_keras_object(config)
    finally:
        keras.config.set_dtype_policy(before)
    set_weights(copy, model.get_weights())
    return copy


def _changed(model, classes, policy, dtypes):
    """Returns a model's Keras config with other classes and other dtype policies.

    classes: {class: its replacement}. policy: the dtype policy of all layers except those in `dtypes`, {path: policy}.
    """
    written = {tuple(_written(kind).values()): instead for kind, instead in classes.items()}
    whole = keras.saving.serialize_keras_object(model)
    for path, config in _layers(whole):
        config.pop("compile_config", None)  # the copy needs no optimizer
        instead = written.get((config.get("module"), config.get("class_name")))
        if instead is not None:
            config |= _written(instead)
            config["registered_name"] = keras.saving.get_registered_name(instead) if instead in layers.PLAIN else None
        if _policy(config) in KNOWN:
            config["config"]["dtype"] = dtypes.get(path, _usual(config, policy))
    return whole


def _written(kind):
    """Returns the entries by which a Keras config names a layer class of Keras or of layers.py."""
    return {"module": "keras.layers" if kind in layers.FAST else kind.__module__, "class_name": kind.__name__}


def _usual(config, policy):
    """Returns the dtype policy of a layer in a net of `policy`: InputLayer is always float32."""
    return "float32" if config.get("class_name") == "InputLayer" else policy


def _policy(config):
    """Returns the name of a layer's dtype policy from its Keras config; None if it has none."""
    policy = config["config"].get("dtype")
    return policy.get("config", {}).get("name") if isinstance(policy, dict) else policy


def _layers(config, path=()):
    """Yields (path, config) of each layer in a Keras config, including nested layers."""
    if isinstance(config, (list, tuple)):
        for part in config:
            yield from _layers(part, path)
    elif isinstance(config, dict):
        inner = config.get("config")
        layer = isinstance(inner, dict) and (
            inner.keys() & {"trainable", "layers"} or config.get("class_name") == "InputLayer"
        )
        if layer and "name" in inner:
            # A path omits the model's own name. In a model of flip_classes.aggregated it begins inside the wrapped net.
            path = (flip_classes.CORE,) if inner["name"] == flip_classes.CORE else (*path, inner["name"])
            yield "/".join(path[1:]), config
        yield from _layers(list(config.values()), path)
