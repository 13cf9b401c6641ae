"""A saved net of unknown origin does no harm; a sound one is read with its weights."""

import io
import json
import subprocess
import sys
import zipfile

import h5py
import keras
import numpy as np
import pytest

from recognizer.base.errors import UserError
from recognizer.nn import building, copies, flip_classes, saved_net

resource = pytest.importorskip("resource")  # limits of Unix


@keras.saving.register_keras_serializable("strange")
class Strange(keras.layers.Layer):
    def call(self, x):
        return x


def net_of(*middle):
    return keras.Sequential(
        [keras.Input((28, 28, 1)), *middle, keras.layers.Flatten(), keras.layers.Dense(10, "softmax")]
    )


def padded(size):
    """A net that pads its images by an operation, not by a layer."""
    inputs = keras.Input((28, 28, 1))
    wide = keras.ops.pad(inputs, ((0, 0), (size, size), (size, size), (0, 0)))
    return keras.Model(inputs, keras.layers.Dense(10)(keras.ops.mean(wide, axis=(1, 2))))


def twice(size):
    """A net that enlarges its images by a layer, and again by the same one."""
    inputs, larger = keras.Input((28, 28, 1)), keras.layers.UpSampling2D(size)
    outputs = keras.layers.GlobalAveragePooling2D()(larger(larger(inputs)))
    return keras.Model(inputs, keras.layers.Dense(10)(outputs))


def change_config(path, change):
    """Saves a net of two layers at `path` with `change` made to its config.json's text."""
    net_of().save(path)
    rewrite(path, "config.json", lambda content: change(content.decode()).encode())


def rewrite(path, name, change):
    with zipfile.ZipFile(path) as archive:
        members = {member: archive.read(member) for member in archive.namelist()}
    members[name] = change(members.get(name, b""))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for member, content in members.items():
            archive.writestr(member, content)


def external_link(content):
    file = io.BytesIO(content)
    with h5py.File(file, "a") as h5:
        group = h5["layers/dense/vars"]
        del group["0"]
        group["0"] = h5py.ExternalLink("/etc/passwd", "/")
    return file.getvalue()


def packed(content):
    file = io.BytesIO(content)
    with h5py.File(file, "a") as h5:
        group = h5["layers/dense/vars"]
        del group["0"]
        group.create_dataset("0", (784_000, 10_000), "f4", compression="gzip", chunks=(1000, 1000))
    return file.getvalue()


def never_written(content):
    file = io.BytesIO(content)
    with h5py.File(file, "a") as h5:
        del h5["layers/dense/vars"]["0"]
        h5["layers/dense/vars"].create_dataset("0", (784, 2**24), "f4")
    return file.getvalue()


def in_a_circle(content):
    file = io.BytesIO(content)
    with h5py.File(file, "a") as h5:
        h5["layers/again"] = h5["layers"]
    return file.getvalue()


def another(module, name):
    return '"keras.layers", "class_name": "Flatten"', f'"{module}", "class_name": "{name}"'


CRAFTED = {
    "lambda": (lambda path: net_of(keras.layers.Lambda(lambda x: x)).save(path), "Lambda"),
    "another module": (
        lambda path: change_config(path, lambda text: text.replace(*another("os", "system"))),
        "os.system",
    ),
    "a name that is not registered here": (
        lambda path: change_config(path, lambda text: text.replace(*another("evil", "Evil"))),
        "evil.Evil",
    ),
    "a saved model of TensorFlow's": (
        lambda path: change_config(path, lambda text: text.replace('"Flatten"', '"TFSMLayer"')),
        "TFSMLayer",
    ),
    "a denied class by a longer name": (
        lambda path: change_config(path, lambda text: text.replace(*another("keras", "layers.Lambda"))),
        "layers.Lambda",
    ),
    "an operation of a hundred million pixels": (lambda path: padded(5000).save(path), "far larger than a digit"),
    "a layer that is large when it is called again": (lambda path: twice(40).save(path), "far larger than a digit"),
    "a net within for pictures of any size": (
        lambda path: net_of(
            keras.Sequential(
                [keras.Input((None, None, 1)), keras.layers.UpSampling2D(100), keras.layers.GlobalAveragePooling2D()]
            )
        ).save(path),
        "far larger than a digit",
    ),
    "a member outside": (
        lambda path: (net_of().save(path), rewrite(path, "../evil.py", lambda _: b"print(1)")),
        "'../evil.py'",
    ),
    "a bomb": (lambda path: (net_of().save(path), rewrite(path, "metadata.json", lambda _: bytes(2**29))), "512 MB"),
    "a large config": (
        lambda path: change_config(path, lambda text: text + " " * 2**23),
        "config.json is far too large",
    ),
    "a layer of 78 thousand million weights": (
        lambda path: change_config(path, lambda text: text.replace('"units": 10', '"units": 100000000')),
        "100000000",
    ),
    "a picture of a hundred million pixels": (
        lambda path: net_of(
            keras.layers.ZeroPadding2D(5000), keras.layers.GlobalAveragePooling2D(), keras.layers.Reshape((1, 1, 1))
        ).save(path),
        "far larger than a digit",
    ),
    "weights of another net": (
        lambda path: (
            net_of(keras.layers.Conv2D(2, 3)).save(path),
            rewrite(path, "config.json", lambda _: own_config()),
        ),
        r"the weights of <Dense name=\w+>: .*\(784, 10\), Received: value.shape=\(1352, 10\)",
    ),
    "weights that lie elsewhere": (
        lambda path: (net_of().save(path), rewrite(path, "model.weights.h5", external_link)),
        "link elsewhere",
    ),
    "weights that unpack to 31 GB": (
        lambda path: (net_of().save(path), rewrite(path, "model.weights.h5", packed)),
        "packed",
    ),
    "weights that were never written": (
        lambda path: (net_of().save(path), rewrite(path, "model.weights.h5", never_written)),
        "packed or lie elsewhere",
    ),
    "weights that hold themselves": (
        lambda path: (net_of().save(path), rewrite(path, "model.weights.h5", in_a_circle)),
        "nested without end",
    ),
    "a large picture in a net within": (
        lambda path: net_of(
            keras.Sequential([keras.layers.ZeroPadding2D(5000), keras.layers.GlobalAveragePooling2D()]),
            keras.layers.Reshape((1, 1, 1)),
        ).save(path),
        "far larger than a digit",
    ),
    "another form": (
        lambda path: keras.Sequential([keras.Input((8,)), keras.layers.Dense(10)]).save(path),
        r"\(None, 8\)",
    ),
    "no zip": (lambda path: path.write_bytes(b"\x80\x04cos\nsystem\n"), "zip"),
    "no JSON": (lambda path: change_config(path, lambda text: text[:-9]), ""),
    "endless brackets": (lambda path: change_config(path, lambda text: "[" * 10**5), ""),
}


def several_outputs():
    """A net one of whose layers gives a list."""
    inputs = keras.Input((28, 28, 1))
    _, state, _ = keras.layers.LSTM(8, return_state=True)(keras.layers.Reshape((28, 28))(inputs))
    return keras.Model(inputs, keras.layers.Dense(10)(state))


def own_config():
    return json.dumps(keras.saving.serialize_keras_object(net_of())).encode()


@pytest.mark.parametrize("crafted", CRAFTED)
def test_a_crafted_net_is_refused_in_one_line(crafted, tmp_path):
    make, told = CRAFTED[crafted]
    path = tmp_path / "net-01.keras"
    make(path)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(UserError, match=told) as error:
        saved_net.read_net(path)
    assert "net-01.keras cannot be used as a net" in str(error.value)
    assert "\n" not in str(error.value)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 600 * 1024  # KiB


def test_a_sound_net_is_read_with_its_weights_and_a_layer_registered_here_is_known(tmp_path):
    for model in (net_of(), net_of(Strange())):
        model.save(tmp_path / "net.keras")
        read = saved_net.read_net(tmp_path / "net.keras", 7850)
        for weight, expected in zip(read.get_weights(), model.get_weights(), strict=True):
            np.testing.assert_array_equal(weight, expected)
    several = several_outputs()
    several.save(tmp_path / "net.keras")
    assert saved_net.read_net(tmp_path / "net.keras").count_params() == several.count_params()
    net_of().save(tmp_path / "net.keras")
    with pytest.raises(UserError, match="has 7,850 parameters, the run's net 814,970: it is another net"):
        saved_net.read_net(tmp_path / "net.keras", 814_970)


def test_a_saved_net_needs_nothing_but_keras(tmp_path):
    for name, flips in (("deotte", []), ("residual", ["horizontal_and_vertical"])):
        net = building.build(name, precision="bfloat16", joint_flips=flips)
        saved_net.save(flip_classes.aggregated(copies.plain(net), flips), tmp_path / f"{name}.keras")
    code = (
        "import keras, numpy as np\n"
        "for name in ('deotte', 'residual'):\n"
        "    net = keras.saving.load_model(f'{name}.keras', safe_mode=True)\n"
        "    print({w.dtype for w in net.weights}, net.predict(np.zeros((2, 28, 28, 1)), verbose=0).shape)"
    )
    process = subprocess.run(
        [sys.executable, "-I", "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert process.stdout.splitlines() == ["{'float32'} (2, 10)"] * 2, process.stderr
