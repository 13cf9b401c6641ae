"""Saves nets, and safely reads nets of unknown origin: no code in a file runs, and no file can exhaust the memory.

A .keras file is a zip of metadata.json, config.json (the layers with their arguments) and model.weights.h5. Keras's
safe mode refuses pickled code. This module also refuses layers that are neither Keras's own nor registered by
models.py, and layers with far more weights than the file holds.
"""

from __future__ import annotations

import contextlib
import copy
import io
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from recognizer.base.errors import refused
from recognizer.base.files import whole_file
from recognizer.base.reasons import REGISTER, reason
from recognizer.data.limits import FILE_BYTES
from recognizer.nn import portable, sizes

if TYPE_CHECKING:
    import keras
    import numpy as np

MEMBERS = {"metadata.json", "config.json", "model.weights.h5"}
# Keras layers that can run foreign code or read other files, and what to write instead.
DENIED = {
    "Lambda": "use keras.ops, Rescaling or a registered layer",
    **dict.fromkeys(
        ("TFSMLayer", "TorchModuleWrapper", "JaxLayer", "FlaxLayer"),
        "it runs a program from outside the net: use layers of Keras",
    ),
    **dict.fromkeys(
        ("Hashing", "HashedCrossing", "StringLookup", "IntegerLookup", "TextVectorization"),
        "it is for text and categories, and may read other files: leave it out",
    ),
}
LARGEST_CONFIG = 2**22  # bytes; the config of a net of a hundred layers has 200,000
LARGEST_OUTPUT = 2**25  # numbers in a layer's output for one image: 128 MB
UNSAVED = 2**22  # weights (16 MB) that a net may have beyond those in its file, since a layer need not save them all


def save(model: keras.Model, path: Path) -> None:
    """Saves a model as a .keras file by an atomic write."""
    with whole_file(path) as temporary:
        try:
            model.save(temporary)
            portable.make_portable(temporary)
        except (RuntimeError, ValueError) as error:  # raised by HDF5 if the disk is full
            raise OSError(reason(error)) from error


def read_net(path: Path, parameters: int | None = None) -> keras.Model:
    """Returns the uncompiled keras.Model of a .keras file, from float32 (n, 28, 28, 1) to (n, 10).

    parameters: int, the number of parameters that it must have; None: any number. Raises UserError if the file is
    damaged, unsafe or not such a net.
    """
    import models  # noqa: F401 (registers its layers)

    with refused(f"{path} cannot be used as a net"):
        return read(path, parameters)


def read(path: Path, parameters: int | None = None) -> keras.Model:
    """Like read_net, but raises any kind of exception."""
    import keras

    config, numbers = _checked(path)
    check_classes(config)
    needed = _checked_parameters(config, numbers)
    if parameters is not None and needed != parameters:
        raise ValueError(f"it has {needed:,} parameters, the run's net {parameters:,}: it is another net")
    with whole_tracebacks():
        model = keras.saving.deserialize_keras_object(config, safe_mode=True)
        model.load_weights(path)
        return model


def read_weights(path: Path) -> dict[str, np.ndarray]:
    """Returns the weights of a .keras file as {name in the file: array}. Raises UserError like read_net."""
    import h5py

    with refused(f"{path} cannot be used as a net"):
        _checked(path)
        with zipfile.ZipFile(path) as archive, h5py.File(io.BytesIO(archive.read("model.weights.h5"))) as file:
            return {dataset.name: dataset[()] for dataset in _datasets(file)}


@contextlib.contextmanager
def whole_tracebacks() -> Iterator[None]:
    """Turns off Keras's traceback filtering within the block, since `reasons` finds the layer in the full traceback."""
    import keras

    filtered = keras.config.is_traceback_filtering_enabled()
    keras.config.disable_traceback_filtering()
    try:
        yield
    finally:
        if filtered:
            keras.config.enable_traceback_filtering()


def check_classes(config: dict) -> None:
    """Raises ValueError for the first object in a Keras config that is neither Keras's own nor registered here."""
    todo = [config]
    while todo:
        part = todo.pop()
        if isinstance(part, list):
            todo += part
        elif isinstance(part, dict):
            todo += part.values()
            if part.get("class_name") is not None or part.get("module") is not None:
                _check_class(part)


def _check_class(part):
    """Raises ValueError if an object in a Keras config, judged by its class_name and module, is not safe to load."""
    import keras

    name, module, registered = (part.get(key) for key in ("class_name", "module", "registered_name"))
    if name == "__lambda__":
        raise ValueError(f"it contains a lambda: write a function under {REGISTER}")
    if name == "function":  # its config is its name
        name = registered = str(part.get("config"))
    own = module is None or str(module).split(".")[0] == "keras"
    known = registered is not None and keras.saving.get_registered_object(registered)
    if "<locals>" in getattr(known, "__qualname__", ""):  # not registered in a process that did not call the function
        raise ValueError(f"{name} is defined inside a function: define it at the top level of models.py")
    if (instead := DENIED.get(str(name).split(".")[-1])) and not known:
        raise ValueError(f"{str(name)[:60]} cannot be saved safely: {instead}")
    if module == "models" and not known:
        told = f"{str(name)[:60]} is not registered"
        raise ValueError(f"{told}: write {REGISTER} above it in models.py, and keep its name")
    if not (own or known):
        told = f"it contains {str(module)[:60]}.{str(name)[:60]}"
        raise ValueError(f"{told}, neither a safe layer of Keras's own nor in models.py under {REGISTER}")


def _checked_parameters(config, numbers):
    """Returns the number of parameters of the net that a Keras config describes.

    numbers: int, the weights in its file. Raises ValueError if it does not classify digits, or is far too large.
    """
    import keras

    # The variables get no values, so even a layer with a billion weights needs no memory here.
    with keras.StatelessScope(initialize_variables=False):
        try:
            model = keras.saving.deserialize_keras_object(copy.deepcopy(config), safe_mode=True)  # Keras changes it
            needed = model.count_params()
            shapes = list(sizes.output_shapes(model))
            ends = model.input_shape, model.output_shape
        finally:
            keras.backend.clear_session()  # else Keras would initialise the variables later
    if ends != ((None, 28, 28, 1), (None, 10)):
        raise ValueError(f"it maps {ends[0]} to {ends[1]}, where (None, 28, 28, 1) to (None, 10) is needed")
    # An axis of unknown size, other than the batch axis, could become arbitrarily large.
    if any(None in shape[1:] for shape in shapes) or sizes.largest(shapes) > LARGEST_OUTPUT:
        raise ValueError("a layer's output is far larger than a digit needs")
    if needed > numbers + UNSAVED:
        raise ValueError(f"its layers have {needed:,} parameters, but it holds only {numbers:,} weights")
    return needed


def _checked(path):
    """Returns (Keras config, number of weights) of a .keras file.

    Raises ValueError if the file is far too large, has parts that `save` never writes, or lacks some that it writes.
    """
    import h5py

    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        if {member.filename for member in members} != MEMBERS or len(members) != len(MEMBERS):
            names = ", ".join(repr(member.filename[:60]) for member in members[:5])
            raise ValueError(f"it holds {names or 'nothing'}, where {', '.join(sorted(MEMBERS))} belong")
        if sum(member.file_size for member in members) > FILE_BYTES:
            raise ValueError(f"it unpacks to more than {FILE_BYTES >> 20} MB")
        if archive.getinfo("config.json").file_size > LARGEST_CONFIG:
            raise ValueError("its config.json is far too large")
        config = portable.portable(json.loads(archive.read("config.json"))) | {"compile_config": None}
        with h5py.File(io.BytesIO(archive.read("model.weights.h5"))) as file:
            return config, sum(dataset.size for dataset in _datasets(file) if dataset.dtype.kind in "fiub")


def _datasets(file):
    """Yields the datasets of an HDF5 file. Raises ValueError if one is chunked, virtual, empty or in another file."""
    import h5py

    groups, visited = [file], 0
    while groups:
        group, visited = groups.pop(), visited + 1
        if visited > 10_000:
            raise ValueError("its weights are nested without end")
        for name in group:
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                raise ValueError(f"its weights link elsewhere, at {name!r}")
            member = group[name]
            if isinstance(member, h5py.Group):
                groups.append(member)
            elif member.chunks is not None or member.external or member.is_virtual or _is_empty(member):
                raise ValueError(f"its weights are packed or lie elsewhere, at {name!r}")
            else:
                yield member


def _is_empty(dataset):
    """Returns whether the file stores fewer bytes than a dataset's shape needs: reading it could exhaust the memory."""
    return dataset.id.get_storage_size() < dataset.size * dataset.dtype.itemsize
