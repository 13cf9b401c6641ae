"""The nets of a run that differ in some settings: `members`."""

import copy
import itertools

from recognizer.config import schema


def member(config, net):
    """Returns the settings that net `net` (from 1) of a run is trained by: the run's, as its one of `members` has them.

    Nets of a kind follow one another: of 4 nets and 2 members, the first two nets are of the first kind. A member with
    a `model` of its own takes none of the run's `model_config`, and one with another `optimizer` what
    keras_classes.replace keeps of `optimizer_config`.
    """
    config = copy.deepcopy(config)
    schema.override_all(config, own(config, net).items(), schema.BY_NET)
    return config


def own(config, net):
    """Returns the one of a config's `members` that sets net `net` (from 1) apart; without members {}."""
    members = config["members"] or [{}]
    return members[(net - 1) * len(members) // config["nets"]]


def kinds(config):
    """Returns the different settings of a run's nets, in the nets' order; `nets` in each is how many have them."""
    all_members = [member(config, net) for net in range(1, config["nets"] + 1)]
    return [settings | {"nets": len(list(nets))} for settings, nets in itertools.groupby(all_members)]
