"""Settings under the names that earlier versions gave them."""


def renamed(settings):
    """Yields (key, value) pairs of settings, those of nets in `members` included, under the names of this version.

    `joint_flips` was a part of `augmentation`.
    """
    for key, value in settings:
        if key == "members" and isinstance(value, list):
            value = [dict(renamed(own.items())) if isinstance(own, dict) else own for own in value]
        elif key == "augmentation" and isinstance(value, dict) and "joint_flips" in value:
            yield "joint_flips", value["joint_flips"]
            value = {inner: value[inner] for inner in value if inner != "joint_flips"}
        yield "joint_flips" if key == "augmentation.joint_flips" else key, value
