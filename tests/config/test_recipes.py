"""The recipes and their architectures are the published ones."""

import numpy as np
import pytest

from recognizer.config.overrides import resolve

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


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_recipe_is_the_published_one(name):
    c = resolve(name)
    keys = ("model", "optimizer", "batch_size", "steps_per_epoch", "epochs", "validation_split")
    assert tuple(c[key] for key in keys) == PUBLISHED[name]


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


@pytest.mark.parametrize("steps", [None, "full"])
@pytest.mark.parametrize(
    ("n", "most", "least", "expected"),  # the last: {steps_per_epoch: (steps, images)} in batches of 64
    [
        (1000, None, 1, {None: (16, 1000), "full": (15, 960)}),
        (1000, 5000, 1, {None: (16, 1000), "full": (15, 960)}),
        (60_000, 5000, 1, {None: (79, 5000), "full": (78, 4992)}),
        (60_000, 60_000, 1, {None: (938, 60_000), "full": (937, 59_968)}),
        (60_000, 10, 1, {None: (1, 10), "full": (1, 64)}),
        (100, 5000, 30, {None: (30, 1920), "full": (30, 1920)}),
        (60_000, 100, 30, {None: (30, 1920), "full": (30, 1920)}),
    ],
    ids=str,
)
def test_an_epoch_has_at_most_so_many_rows(n, most, least, steps, expected):
    from augment import Augmentation
    from recognizer.training import batches

    limits = [("max_rows_per_epoch", most), ("min_steps_per_epoch", least), ("steps_per_epoch", steps)]
    config = resolve("linear", limits) | {"seed": 3}
    assert (batches.steps_per_epoch(config, n), batches.images_per_epoch(config, n)) == expected[steps]
    order = [batches.epoch_plan(config, 1, epoch, np.arange(n), Augmentation())[0] for epoch in range(3)]
    assert [len(rows) for rows in order] == [expected[steps][1]] * 3
    seen = np.bincount(np.concatenate(order), minlength=n)  # the next epoch goes on with the others
    assert seen.max() - seen.min() <= 1


@pytest.mark.parametrize(
    ("arguments", "parameters"),
    [
        ({"filters": [24], "padding": "same", "dense": 256}, 1_207_674),
        ({"filters": [24, 48, 64], "padding": "same", "dense": 256}, 371_306),
        ({}, 184_586),
        ({"dense": 0}, 62_346),
        ({"kernels": [3, 3]}, 197_482),
        ({"strides": True}, 312_682),
        ({"kernels": [3, 3], "strides": True, "bn": True, "dense_bn": True}, 327_242),
    ],
)
def test_the_nets_of_the_study_of_architectures_have_the_sources_parameters(arguments, parameters):
    from recognizer.nn import building

    assert building.build("stages", arguments=arguments).count_params() == parameters
