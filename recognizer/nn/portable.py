"""Makes saved nets portable between Keras 3.12 and later versions.

Keras writes every argument of a layer into the file, and an older version refuses arguments that it does not know. So
arguments newer than Keras 3.12 are left out if they have their default values, both when a net is saved and when a
file that Keras wrote is read.
"""

import json
import zipfile
from pathlib import Path
from typing import Any

Json = Any  # dict, list, str, number, bool or None
# Arguments of layers and initialisers that Keras 3.12.0 does not have, with their defaults.
NEWER = {
    "input_axes": None,  # 3.15: GlorotUniform and the other initialisers that scale by the fan
    "output_axes": None,
    "sliding_window": None,  # 3.15: attention
    "use_gate": False,  # 3.14: attention
    "quantization_config": None,  # 3.13: Dense, EinsumDense, Embedding
    "renorm": False,  # 3.14: BatchNormalization
    "renorm_clipping": None,
    "renorm_momentum": 0.99,
}


def portable(config: Json) -> Json:
    """Returns a Keras config as Keras 3.12 would have written it, if 3.12 has all its classes and arguments."""
    if isinstance(config, list):
        return [portable(part) for part in config]
    if not isinstance(config, dict):
        return config
    config = {key: portable(value) for key, value in config.items()}
    own = config.get("config")
    if str(config.get("module", "")).split(".")[0] == "keras" and isinstance(own, dict):
        config["config"] = {key: value for key, value in own.items() if not (key in NEWER and value == NEWER[key])}
        axis = own.get("axis")
        if config.get("class_name") == "Flip" and isinstance(axis, list) and len(axis) == 1:
            config["config"]["axis"] = axis[0]  # Keras < 3.14 on TensorFlow does not take a list
    return config


def make_portable(path: Path | str) -> None:
    """Rewrites a .keras file so that Keras 3.12 and later can read it, if they have its layers."""
    with zipfile.ZipFile(path) as archive:
        members = [(member, archive.read(member)) for member in archive.infolist()]
    with zipfile.ZipFile(path, "w") as archive:
        for member, content in members:
            if member.filename == "config.json":
                content = json.dumps(portable(json.loads(content))).encode()
            archive.writestr(member, content)
