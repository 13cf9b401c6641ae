"""The setting `members`, which gives the nets of a run different settings."""

import copy
import itertools

from recognizer.config import schema


def member(config: dict, net: int) -> dict:
    """Returns the settings of net number `net` (from 1): the run's settings, overridden by those of the net's member.

    The nets of a member are consecutive: with 4 nets and 2 members, the first two nets have the first member. A member
    with its own `model` drops the run's `model_config`. A member with another `optimizer` keeps the part of
    `optimizer_config` that keras_classes.replace keeps.
    """
    config = copy.deepcopy(config)
    schema.override_all(config, own(config, net).items(), schema.BY_NET)
    return config


def own(config: dict, net: int) -> dict:
    """Returns the entry of a config's `members` for net number `net` (from 1), or {} if there are no members."""
    members = config["members"] or [{}]
    return members[(net - 1) * len(members) // config["nets"]]


def kinds(config: dict) -> list[dict]:
    """Returns the settings of a run's nets, one dict for each group of consecutive nets with equal settings.

    In each, `nets` is the number of nets in the group.
    """
    all_members = [member(config, net) for net in range(1, config["nets"] + 1)]
    return [settings | {"nets": len(list(nets))} for settings, nets in itertools.groupby(all_members)]
