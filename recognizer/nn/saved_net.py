"""Reads a saved net that may be a stranger's: nothing in it is run, and it costs no more memory than its own size.

A .keras file is a zip of metadata.json, config.json (the layers, by class and arguments) and model.weights.h5. Keras's
safe mode refuses pickled code; beyond that, the file may hold Keras's own layers only (or those that models.py has
registered), and weights for exactly the variables that they have.
"""

import contextlib
import copy
import io
import json
import math
import zipfile

from recognizer.base.errors import refused
from recognizer.base.files import whole_file
from recognizer.base.reasons import REGISTER, reason
from recognizer.data.limits import FILE_BYTES
from recognizer.nn import portable

MEMBERS = {"metadata.json", "config.json", "model.weights.h5"}


# Layers of Keras's that run what they are given or read other files, and need no place in a net of digits.
DENIED = {"Lambda", "TFSMLayer", "TorchModuleWrapper", "JaxLayer", "FlaxLayer", "Hashing", "HashedCrossing"}


DENIED |= {"StringLookup", "IntegerLookup", "TextVectorization"}


LARGEST_CONFIG = 2**22  # bytes; that of a net of a hundred layers has 200,000


# Numbers that a layer gives for an image, and for the images that are predicted at once: 128 MB and 1 GB.
LARGEST_OUTPUT, LARGEST_BATCH = 2**25, 2**28


UNSAVED = 2**22  # weights, 16 MB, that a net may have beyond those in its file: a layer may write fewer than it has


def read_net(path, parameters=None):
    """Returns the keras.Model of a .keras file, not compiled, from float32 (n, 28, 28, 1) to (n, 10).

    parameters: how many it is to have, None for any. Raises UserError for what is damaged, harmful or of another form.
    """
    with refused(f"{path} is no net that can be used"):
        return read(path, parameters)


def read(path, parameters=None):
    """Like read_net, but raises any kind of exception."""
    import keras

    config, numbers = _checked(path)
    check_classes(config)
    # Without values: a layer of a thousand million weights costs nothing here.
    with keras.StatelessScope(initialize_variables=False):
        try:
            model = keras.saving.deserialize_keras_object(copy.deepcopy(config), safe_mode=True)  # which changes it
            needed = model.count_params()
            shapes = list(_shapes(model))
            ends = model.input_shape, model.output_shape
        finally:
            keras.backend.clear_session()  # which would give them values later
    if ends != ((None, 28, 28, 1), (None, 10)):
        raise ValueError(f"it maps {ends[0]} to {ends[1]}, where (None, 28, 28, 1) to (None, 10) is needed")
    # Unknown but for the number of images, a size may turn out to be any.
    if any(None in shape[1:] for shape in shapes) or _largest(shapes) > LARGEST_OUTPUT:
        raise ValueError("a layer's output is far larger than a digit needs")
    if needed > numbers + UNSAVED:
        raise ValueError(f"its layers have {needed:,} parameters, its weights {numbers:,}")
    if parameters is not None and needed != parameters:
        raise ValueError(f"it has {needed:,} parameters, the run's net {parameters:,}: it is another net")
    with whole_tracebacks():
        model = keras.saving.deserialize_keras_object(config, safe_mode=True)
        model.load_weights(path)
        return model


@contextlib.contextmanager
def whole_tracebacks():
    """Keras's errors keep their whole traceback meanwhile, in which `reasons` finds the layer."""
    import keras

    filtered = keras.config.is_traceback_filtering_enabled()
    keras.config.disable_traceback_filtering()
    try:
        yield
    finally:
        if filtered:
            keras.config.enable_traceback_filtering()


def images_at_once(model, most=512):
    """Returns how many images, at most `most`, a model can predict at once without its layers taking all memory."""
    return max(1, min(most, LARGEST_BATCH // _largest(_shapes(model))))


def _largest(shapes):
    """How many numbers the largest of some shapes has for an image."""
    return max((math.prod(size or 1 for size in shape) for shape in shapes), default=1)


def _shapes(model):
    """The shapes of all that the layers and operations of a model give, those of models within it, too."""
    for operation in getattr(model, "operations", model.layers):
        for node in operation._inbound_nodes:  # one for each time that it is called
            yield from (tensor.shape for tensor in node.output_tensors)
        if hasattr(operation, "layers"):
            yield from _shapes(operation)


def read_weights(path):
    """Returns the weights of a .keras file as a dict of arrays, by their names in it."""
    import h5py

    arrays = {}
    with refused(f"{path} is no net that can be used"):
        _checked(path)
        with zipfile.ZipFile(path) as archive, h5py.File(io.BytesIO(archive.read("model.weights.h5"))) as file:
            file.visititems(lambda name, o: arrays.update({name: o[()]}) if isinstance(o, h5py.Dataset) else None)
    return arrays


def _checked(path):
    """Returns (config, how many weights) of a .keras file; ValueError for what these scripts would not have written."""
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
        numbers = 0
        with h5py.File(io.BytesIO(archive.read("model.weights.h5"))) as file:
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
                    elif member.dtype.kind in "fiub":  # Keras counts them all
                        numbers += member.size
    return config, numbers


def _is_empty(dataset):
    """Whether an HDF5 data set has a shape and no numbers: it would cost memory that the file does not have."""
    return dataset.id.get_storage_size() < dataset.size * dataset.dtype.itemsize


def check_classes(config):
    """ValueError at the first object of a Keras config that is neither Keras's own nor registered in this process."""
    import keras

    todo = [config]
    while todo:
        part = todo.pop()
        if isinstance(part, list):
            todo += part
        elif isinstance(part, dict):
            todo += part.values()
            name, module, registered = (part.get(key) for key in ("class_name", "module", "registered_name"))
            if name is None and module is None:
                continue
            if name == "__lambda__":
                raise ValueError(f"it contains a lambda: write a function under {REGISTER}")
            if name == "function":  # its config is its name
                name = registered = str(part.get("config"))
            own = module is None or str(module).split(".")[0] == "keras"
            known = registered is not None and keras.saving.get_registered_object(registered)
            if "<locals>" in getattr(known, "__qualname__", ""):  # unknown in a process that did not call the function
                raise ValueError(f"{name} is defined inside a function: define it at the top level of models.py")
            if not (own or known) or str(name).split(".")[-1] in DENIED:
                raise ValueError(
                    f"it contains {str(module)[:60]}.{str(name)[:60]}, which is neither one of Keras's own layers that "
                    f"are safe to load nor in models.py under {REGISTER}"
                )


def save(model, path):
    """Saves a model as a .keras file, whole or not at all."""
    with whole_file(path) as temporary:
        try:
            model.save(temporary)
            portable.make_portable(temporary)
        except (RuntimeError, ValueError) as error:  # what HDF5 says of a full disk
            raise OSError(reason(error)) from error
