"""The recipes and their architectures are the published ones."""

import random

import numpy as np
import pytest

from recognizer.base.errors import UserError
from recognizer.config.overrides import resolve

PARAMETERS = {
    "grenholm": (814_970, 814_778),
    "codeastar": (203_933, 203_933),
    "vgg-rmsprop": (594_922, 594_922),
    "linear": (7_850, 7_850),
    "vgg": (594_922, 594_922),
    "vgg-dropout": (594_922, 594_922),
    "vgg-bn-dropout": (597_738, 596_330),
    "deotte": (327_242, 326_410),
    "quick": (213_898, 213_290),
    "residual": (1_095_178, 1_093_450),
}
# recipe: (architecture, optimizer, batch, steps, epochs, validation split)
PUBLISHED = {
    "grenholm": ("grenholm", "adam", 16, 500, 20, 0.1),
    "codeastar": ("codeastar", "rmsprop", 64, 640, 30, 0.08),
    "vgg-rmsprop": ("vgg-rmsprop", "rmsprop", 256, "full", 20, 0.2),
    "linear": ("linear", "sgd", 64, None, 11, 0),
    "linear-phases": ("linear", "sgd", 64, None, 11, 0),
    "linear-augmented": ("linear", "sgd", 64, None, 11, 0),
    "vgg": ("vgg", "sgd", 64, None, 11, 0),
    "vgg-phases": ("vgg", "sgd", 64, None, 11, 0),
    "vgg-augmented": ("vgg", "sgd", 64, None, 11, 0),
    "vgg-dropout": ("vgg-dropout", "sgd", 64, None, 11, 0),
    "vgg-dropout-phases": ("vgg-dropout", "sgd", 64, None, 11, 0),
    "vgg-bn-dropout": ("vgg-bn-dropout", "sgd", 64, None, 16, 0),
    "vgg-bn-dropout-phases": ("vgg-bn-dropout", "sgd", 64, None, 16, 0),
    "deotte": ("deotte", "adam", 64, "full", 45, 0.1),
}


@pytest.mark.parametrize("name", PARAMETERS)
def test_an_architecture_has_its_published_number_of_parameters(name):
    from recognizer.nn import building

    model = building.build(name)
    trainable = sum(int(np.prod(weight.shape)) for weight in model.trainable_weights)
    assert (model.count_params(), trainable) == PARAMETERS[name]


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_recipe_is_the_published_one(name):
    c = resolve(name)
    keys = ("model", "optimizer", "batch_size", "steps_per_epoch", "epochs", "validation_split")
    assert tuple(c[key] for key in keys) == PUBLISHED[name]


def test_initial_weights_follow_from_the_seed_and_leave_global_randomness_alone():
    from recognizer.nn import building

    random.seed(5)
    before = random.getstate(), np.random.get_state()[1].tolist()
    first, again, other = (building.build("codeastar", seed).get_weights() for seed in (1, 1, 2))
    assert (random.getstate(), np.random.get_state()[1].tolist()) == before
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not np.array_equal(first[0], other[0])


def test_an_architecture_of_the_wrong_form_or_with_a_wrong_argument_is_refused():
    import keras

    from recognizer.nn import building

    with pytest.raises(UserError, match="takes no argument 'drop'; it takes: dropout"):
        building.build("deotte", drop=0.1)
    building.ARCHITECTURES["wrong"] = lambda: keras.Sequential([keras.Input((28, 28, 1)), keras.layers.Flatten()])
    try:
        with pytest.raises(UserError, match=r"\(None, 784\)"):
            building.build("wrong")
    finally:
        del building.ARCHITECTURES["wrong"]


def test_an_epoch_takes_the_next_part_of_endless_passes():
    from augment import Augmentation
    from recognizer.training import batches

    rows = np.arange(100, 150)
    config = resolve("grenholm", [("batch_size", 10), ("steps_per_epoch", 7)]) | {"seed": 3}
    order = np.concatenate([batches.epoch_plan(config, 1, epoch, rows, Augmentation())[0] for epoch in range(5)])
    assert len(order) == 350
    for start in range(0, 350, 50):
        assert sorted(order[start : start + 50]) == list(rows)
    assert not np.array_equal(order[:50], order[50:100])
    whole = resolve("linear") | {"seed": 3}
    assert batches.images_per_epoch(whole, 1000) == 1000
    assert (batches.steps_per_epoch(whole, 1000), batches.steps_per_epoch(resolve("deotte"), 1000)) == (16, 15)
