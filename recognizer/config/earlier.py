"""Settings of earlier versions: their names, and values that this version refuses."""

from collections.abc import Iterable, Iterator
from typing import Any


def renamed(settings: Iterable[tuple[str, Any]]) -> Iterator[tuple[str, Any]]:
    """Yields the (key, value) pairs of settings with this version's names, also inside `members`.

    In earlier versions `joint_flips` was a part of `augmentation`.
    """
    for key, value in settings:
        if key == "members" and isinstance(value, list):
            value = [dict(renamed(own.items())) if isinstance(own, dict) else own for own in value]
        elif key == "augmentation" and isinstance(value, dict) and "joint_flips" in value:
            yield "joint_flips", value["joint_flips"]
            value = {inner: value[inner] for inner in value if inner != "joint_flips"}
        yield "joint_flips" if key == "augmentation.joint_flips" else key, value


def weights_kept(config: dict) -> str:
    """Returns which weights a run of any version keeps, the setting `weights`.

    In earlier versions optimizer_config.use_ema could contradict it, and decided.
    """
    optimizer = config["optimizer_config"]
    averages = optimizer.get("use_ema") if isinstance(optimizer, dict) else None
    if config["weights"] == "last" and averages is True:
        return "averaged"
    return "last" if config["weights"] == "averaged" and averages is False else config["weights"]
