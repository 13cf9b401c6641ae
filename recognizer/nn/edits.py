"""Detects whether an architecture was edited after its run was started, by its Keras config and its outputs.

A Keras config does not contain the code of call(), so the outputs for a few digits are compared, too: in float32, on
the CPU, with fixed weights. So other hardware, threads, backends and versions change only the rounding.
"""

import json

import keras
import numpy as np

from recognizer.nn import copies
from recognizer.nn.portable import portable

LEAST = 1e-5  # smaller probabilities are mostly rounding
# The largest difference of outputs, relative to 1 + their size, that counts as equal. Threads and backends differ by
# 1e-6 for a small net and by 1e-5 for a deep residual net; an edited activation changes outputs by more than 1e-2.
APART = 3e-4


def record(model: keras.Model, x: np.ndarray) -> dict:
    """Returns a JSON-able dict that identifies an architecture: Keras's version, the model's config, its outputs.

    model: the net as its function made it, in float32; its weights are replaced. x: float32 (n, 28, 28, 1) in 0..1.
    The outputs are log-probabilities, or None if the net draws random numbers when it predicts, or returns NaN.
    """
    copies.set_weights(model, _fixed(model.get_weights()))
    return {"keras": keras.__version__, "config": _config(model), "outputs": _outputs(model, x)}


def outputs_of_own_code(model: keras.Model) -> list | None:
    """Returns the `_outputs` for some noise if a saved net has layers or functions of models.py, else None."""
    config = json.dumps(copies.plain_config(model))
    kinds = {type(layer).__module__.split(".")[0] for layer in model._flatten_layers()}
    if kinds <= {"keras", "recognizer"} and '"class_name": "function"' not in config:
        return None
    return _outputs(model, np.random.default_rng(0).random((4, 28, 28, 1), np.float32))


def _outputs(model, x):
    """Returns a model's log-probabilities as nested lists, or None if they are random or NaN."""
    with keras.device("cpu"):
        first, again = (keras.ops.convert_to_numpy(model(x, training=False)) for _ in range(2))
    repeatable = np.isfinite(first).all() and np.array_equal(first, again)
    return np.log(np.maximum(first, LEAST)).round(6).tolist() if repeatable else None


def difference(then: dict, now: dict) -> str:
    """Returns how two results of `record` differ, as text; "" if they describe the same architecture.

    Configs are compared only if both come from the same version of Keras.
    """
    if then["keras"] == now["keras"] and (texts := [_numbered(part["config"]) for part in (then, now)])[0] != texts[1]:
        names = dict(zip(_names(texts[1]), _names(now["config"]), strict=True))
        return _told(names, *_first(*texts))
    if are_alike(then["outputs"], now["outputs"]):
        return ""
    return "it has the same layers, but they compute other outputs: the call() of one of them was edited"


def variation(one: keras.Model, other: keras.Model) -> str:
    """Returns how the Keras configs of two models differ, except for seeds, as text; "" if they do not."""
    return difference(
        *({"keras": keras.__version__, "config": _config(model), "outputs": None} for model in (one, other))
    )


def are_alike(then: list | None, now: list | None) -> bool:
    """Returns whether two results of `_outputs` agree, or one of them is None."""
    if then is None or now is None:
        return True
    first, second = np.asarray(then, float), np.asarray(now, float)
    if first.shape != second.shape:
        return False
    apart = np.abs(first - second) / (1 + np.abs(first))
    # The median over digits, since single digits may differ if a layer rounds or sorts.
    return bool(np.median(apart.max(axis=1)) <= APART)


def _fixed(weights):
    """Returns weights that replace a model's initial weights, which differ from backend to backend."""
    rng, fixed = np.random.default_rng(0), []
    for weight in weights:
        if weight.dtype.kind == "f" and weight.size:
            drawn = rng.standard_normal(weight.shape)
            if weight.min() == weight.max():  # a bias, a scale, a variance
                weight = weight * (1 + np.abs(drawn) / 10) + np.abs(drawn) / 100
            else:
                drawn = np.abs(drawn) if weight.min() >= 0 else drawn
                weight = drawn * np.sqrt(2 / max(1, np.prod(weight.shape[:-1])))
        fixed.append(np.asarray(weight))
    return fixed


def _config(model):
    """Returns a model's Keras config in Keras's own layers, without seeds and ids, which differ from build to build."""
    return _without(portable(json.loads(json.dumps(copies.plain_config(model)))))


def _without(part):
    if isinstance(part, list):
        return [_without(inner) for inner in part]
    if not isinstance(part, dict):
        return part
    return {key: _without(part[key]) for key in part if key not in ("seed", "shared_object_id", "build_config")}


def _names(config):
    """Returns the names of the layers in a Keras config, in order."""
    return list(dict.fromkeys(own["config"]["name"] for own in _parts(config) if isinstance(own["config"], dict)))


def _parts(config):
    """Yields the objects in a Keras config that have a name."""
    if isinstance(config, list):
        for part in config:
            yield from _parts(part)
    elif isinstance(config, dict):
        inner = config.get("config")
        if isinstance(inner, dict) and isinstance(inner.get("name"), str):
            yield config
        yield from _parts(list(config.values()))


def _numbered(config):
    """Returns a Keras config with its layers renamed to "#0", "#1" ..., since Keras's numbers grow with each build."""
    numbers = {name: f"#{i}" for i, name in enumerate(_names(config))}

    def renamed(part, key=None):
        if isinstance(part, list):
            return [renamed(inner, key) for inner in part]
        if isinstance(part, dict):
            return {key: renamed(value, key) for key, value in part.items()}
        nodes = ("name", "inbound_nodes", "input_layers", "output_layers", "args", "keras_history")
        return numbers.get(part, part) if isinstance(part, str) and key in nodes else part

    return renamed(config)


def _first(then, now, layer=None, key=None):
    """Returns the first difference of two Keras configs: (layer's current name, argument, old value, new value)."""
    if isinstance(then, dict) and isinstance(now, dict) and then.get("class_name") == now.get("class_name"):
        inner = now.get("config")
        layer = inner["name"] if isinstance(inner, dict) and "name" in inner else layer
        pairs = [(name, then.get(name), now.get(name)) for name in now | then]
    elif isinstance(then, list) and isinstance(now, list) and len(then) == len(now) and _objects(now):
        pairs = [(key, *pair) for pair in zip(then, now, strict=True)]
    else:
        return layer, key, then, now
    return next(_first(a, b, layer, name) for name, a, b in pairs if a != b)


def _told(names, layer, key, then, now):
    """Returns a result of `_first` as text. names: {"#0", ...: the layer's name}."""
    if key == "layers" and isinstance(now, dict):
        return f"layer {names[now['config']['name']]!r} is {now['class_name']} now, {then['class_name']} then"
    if key == "layers":
        others = [own for own, was in zip(now, [*then, *[None] * len(now)], strict=False) if own != was]
        begins = f", the first different one {names[others[0]['config']['name']]!r}" if others else ""
        return f"{len(now)} layers now, {len(then)} then{begins}"
    about = f"layer {names[layer]!r}: " if layer in names else ""
    return f"{about}{key} {_shown(now, names)} now, {_shown(then, names)} then"


def _shown(value, names):
    """Returns a value of a Keras config as short text."""
    if isinstance(value, dict):
        return str(value.get("config") if value.get("class_name") == "function" else value.get("class_name"))
    return f"{(names.get(value, value) if isinstance(value, str) else value)!r:.60}"


def _objects(values):
    return any(isinstance(value, (dict, list)) for value in values)
