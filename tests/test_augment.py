"""The batch form of augmentation does to real digits what ImageDataGenerator does."""

import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import scipy.ndimage
from conftest import ROOT, assert_one_line_error, script
from PIL import Image

from augment import Augmentation, draw, draw_elastic, smoothing
from recognizer.base.errors import UserError
from recognizer.config.overrides import resolve
from recognizer.training.batches import TrainingBatches, augmented_images

RANGES = {
    "rotation": dict(rotation_range=30),
    "shifts": dict(width_shift_range=0.3, height_shift_range=0.1),
    "shifts by pixels": dict(width_shift_range=[1, 2, 5], height_shift_range=3),
    "shear": dict(shear_range=30),
    "zoom": dict(zoom_range=0.5),
    "zoom range": dict(zoom_range=[0.5, 1.0]),
    "flips": dict(horizontal_flip=True, vertical_flip=True),
    "vgg-rmsprop": dict(rotation_range=15, zoom_range=1),
    "all": dict(
        rotation_range=20,
        width_shift_range=0.2,
        height_shift_range=0.1,
        shear_range=20,
        zoom_range=0.4,
        horizontal_flip=True,
        vertical_flip=True,
    ),
}


def transformed(augmentation, engine, x, parameters, fields=None):
    """Images float32 (n, 28, 28, 1) as an engine, "batch" or "keras", transforms them."""
    engine = augmentation.engine(engine)
    return np.asarray(engine.transform(x, engine.pack(parameters), fields))


def by_both(augmentation, x, parameters, fields=None):
    return [transformed(augmentation, engine, x, parameters, fields) for engine in ("batch", "keras")]


@pytest.mark.parametrize("fill_mode", ["nearest", "constant", "reflect", "wrap"])
@pytest.mark.parametrize("ranges", RANGES)
def test_batch_form_agrees_with_image_data_generator_on_every_pixel(ranges, fill_mode, digits):
    x = digits.train.x[:300, ..., None] / np.float32(255)
    augmentation = Augmentation(fill_mode=fill_mode, cval=0.3, **RANGES[ranges])
    parameters = draw(augmentation, np.random.default_rng(0), len(x))
    batch, each = by_both(augmentation, x, parameters)
    assert np.abs(each - x).mean() > 0.01  # something was done
    assert np.abs(batch - each).max() < 1e-4


def test_drawn_parameters_are_distributed_as_image_data_generators(digits):
    augmentation = Augmentation(**RANGES["all"] | RANGES["shifts by pixels"])
    ours = draw(augmentation, np.random.default_rng(0), 4000)
    state = np.random.get_state()
    np.random.seed(0)
    generator = augmentation.engine("keras").generator
    theirs = [generator.get_random_transform((28, 28, 1)) for _ in range(4000)]
    np.random.set_state(state)
    for key in ("theta", "tx", "ty", "shear", "zx", "zy", "flip_horizontal", "flip_vertical"):
        reference = np.array([float(drawn[key]) for drawn in theirs])
        quantiles = np.linspace(0, 1, 11)
        spread = np.ptp(reference)
        np.testing.assert_allclose(ours[key].mean(), reference.mean(), atol=0.05 * spread)
        if key not in ("tx", "ty", "flip_horizontal", "flip_vertical"):
            np.testing.assert_allclose(
                np.quantile(ours[key], quantiles), np.quantile(reference, quantiles), atol=0.05 * spread
            )
        else:
            assert set(np.round(ours[key], 6)) == set(np.round(reference, 6))


NORMALISED = [
    *RANGES.values(),
    dict(rotation_range=0.5, shear_range=0.25),
    dict(zoom_range=0),
    dict(zoom_range=1),
    dict(zoom_range=(0.8, 1.1)),
    dict(zoom_range=[2, 1]),
    dict(width_shift_range=0, height_shift_range=0.0),
    dict(width_shift_range=1, height_shift_range=1.0),
    dict(width_shift_range=4.5, height_shift_range=[0.1, 0.25]),
    dict(width_shift_range=(-2, 3), height_shift_range=[0]),
    dict(brightness_range=[0.2, 0.6]),
    dict(brightness_range=(1, 2)),
    dict(channel_shift_range=0.3),
    dict(horizontal_flip=True),
]


@pytest.mark.parametrize("ranges", NORMALISED, ids=str)
def test_parameters_are_drawn_from_the_ranges_that_image_data_generator_makes_of_its_arguments(ranges):
    import tensorflow as tf

    drawn = draw(Augmentation(**ranges), np.random.default_rng(3), 50)
    g, u = tf.keras.preprocessing.image.ImageDataGenerator(**ranges), np.random.default_rng(3).random((50, 12)).T
    low, high = g.zoom_range
    dark, bright = g.brightness_range or (1, 1)
    expected = {
        "theta": (2 * u[0] - 1) * g.rotation_range,
        "shear": (2 * u[5] - 1) * g.shear_range,
        "zx": low + (high - low) * u[6],
        "zy": low + (high - low) * u[7],
        "flip_horizontal": (u[8] < 0.5) * float(g.horizontal_flip),
        "flip_vertical": (u[9] < 0.5) * float(g.vertical_flip),
        "channel_shift_intensity": (2 * u[10] - 1) * g.channel_shift_range,
        "brightness": dark + (bright - dark) * u[11],
    }
    for key, values in expected.items():
        np.testing.assert_array_equal(drawn[key], values, err_msg=key)
    # Shifts as ImageDataGenerator draws them: a list and a whole number give values, another number a range.
    state = np.random.get_state()
    theirs = [g.get_random_transform((28, 28, 1), seed) for seed in range(500)]
    np.random.set_state(state)
    for key, value in (("tx", g.height_shift_range), ("ty", g.width_shift_range)):
        reference, ours = (np.array([t[key] for t in theirs], float), drawn[key])
        if np.ndim(value) or isinstance(value, int):
            assert set(np.round(ours, 6)) <= set(np.round(reference, 6))
        else:
            assert np.abs(ours).max() <= value * (28 if value < 1 else 1)


def test_image_data_generator_is_made_only_where_it_is_used(monkeypatch, digits):
    import tensorflow as tf

    made = []
    original = tf.keras.preprocessing.image.ImageDataGenerator
    monkeypatch.setattr(
        tf.keras.preprocessing.image, "ImageDataGenerator", lambda **kwargs: made.append(kwargs) or original(**kwargs)
    )
    for engine, several in (("batch", False), ("keras", True)):
        config = resolve("deotte", [("steps_per_epoch", 2)]) | {"seed": 0, "augment_engine": engine}
        augmentation = Augmentation(**config["augmentation"])
        augmentation.engine(engine)
        batches = TrainingBatches(config, 1, digits.train, np.arange(200))
        assert len(list(batches.data)) == 2
        assert bool(made) == several


def test_an_images_parameters_do_not_depend_on_how_many_are_drawn():
    augmentation = Augmentation(**RANGES["all"], erasing_range=[3, 9], mixup_alpha=0.2)
    few, many = (draw(augmentation, np.random.default_rng(1), n) for n in (5, 50))
    for key in few:
        np.testing.assert_array_equal(few[key], many[key][:5])


def test_elastic_distortion_is_simards_smoothed_noise(digits):
    gaussian = scipy.ndimage.gaussian_filter1d(np.eye(28), 4, axis=0, mode="constant")
    np.testing.assert_allclose(smoothing(28, 4) @ smoothing(28, 4).T, gaussian @ gaussian.T, atol=1e-6)
    augmentation = Augmentation(elastic_alpha=34, elastic_sigma=4)
    x = digits.train.x[:20, ..., None] / np.float32(255)
    fields = draw_elastic(augmentation, np.random.default_rng(0), 2000)
    noise = np.random.default_rng(1).uniform(-1, 1, (2000, 28, 28))
    simards = 34 * scipy.ndimage.gaussian_filter(noise, 4, mode="constant", axes=(1, 2))
    for axis in (0, 1):
        assert abs(fields[..., axis].mean()) < 0.03
        for here, there in (((0, 0), (0, 0)), ((14, 14), (14, 14)), ((14, 14), (14, 18)), ((3, 7), (9, 7))):
            ours = np.mean(fields[:, *here, axis] * fields[:, *there, axis])
            assert ours == pytest.approx(np.mean(simards[:, *here] * simards[:, *there]), rel=0.15)
        steps = (np.abs(np.diff(field, axis=1)).mean() for field in (fields[..., axis], simards))
        assert next(steps) == pytest.approx(next(steps), rel=0.02)
    assert abs(np.corrcoef(fields[:, 14, 14, 0], fields[:, 14, 14, 1])[0, 1]) < 0.1
    fields = fields[:20]
    parameters = draw(augmentation, np.random.default_rng(0), len(x))
    batch, each = by_both(augmentation, x, parameters, fields)
    np.testing.assert_allclose(batch, each, atol=1e-4)
    assert np.abs(batch - x).mean() > 0.01


def test_a_rectangle_of_each_image_is_blackened_and_the_rest_is_left(digits):
    augmentation = Augmentation(erasing_range=[3, 9])
    x = np.full((400, 28, 28, 1), 0.7, np.float32)
    parameters = draw(augmentation, np.random.default_rng(0), len(x))
    batch, each = by_both(augmentation, x, parameters)
    np.testing.assert_array_equal(batch, each)
    assert set(np.unique(batch)) == {0, np.float32(0.7)}
    black = batch[..., 0] == 0
    sides = np.stack([black.any(2).sum(1), black.any(1).sum(1)])
    assert (sides[0] * sides[1] == black.sum((1, 2))).all()  # one rectangle
    assert (sides.min(), sides.max()) == (3, 9)
    assert sides.mean() == pytest.approx(6, abs=0.15)
    assert black.any((0, 1))[1:-1].all()  # it may be anywhere
    assert black.any((0, 2))[1:-1].all()
    # Erasing comes last, so that a rotation does not turn the rectangle.
    augmentation = Augmentation(erasing_range=[3, 9], rotation_range=30)
    x = digits.train.x[:100, ..., None] / np.float32(255)
    parameters = draw(augmentation, np.random.default_rng(0), len(x))
    batch, each = by_both(augmentation, x, parameters)
    np.testing.assert_allclose(batch, each, atol=1e-4)
    whole = parameters | {"erase_height": np.zeros(100)}
    assert np.mean(transformed(augmentation, "batch", x, whole) == batch) > 0.9
    top, left, rows, columns = (
        parameters[key][0] for key in ("erase_top", "erase_left", "erase_height", "erase_width")
    )
    assert not batch[0, round(top) : round(top + rows), round(left) : round(left + columns)].any()


def test_mixup_gives_each_digit_and_its_label_a_share_of_another(digits):
    config = resolve("grenholm", [("batch_size", 100), ("steps_per_epoch", 3)]) | {"seed": 0}

    def batches(engine, **settings):
        own = {"augment_engine": engine, "augmentation": settings}
        batches = TrainingBatches(config | own, 1, digits.train, np.arange(len(digits.train.x)))
        return [[np.asarray(part) for part in batch] for batch in batches.data]

    digits_alone = batches("batch")
    for engine in ("batch", "keras"):
        shares = []
        for (images, labels), (mixed, mixed_labels) in zip(digits_alone, batches(engine, mixup_alpha=0.4), strict=True):
            other, other_labels = np.roll(images, 1, axis=0), np.roll(labels, 1, axis=0)
            differ = (labels != other_labels).any(1)
            share = mixed_labels[labels == 1][differ]
            shares.extend(share)
            np.testing.assert_allclose(mixed_labels[other_labels == 1][differ], 1 - share, atol=1e-6)
            w = share[:, None, None, None]
            np.testing.assert_allclose(mixed[differ], w * images[differ] + (1 - w) * other[differ], atol=1e-5)
        assert np.mean(shares) == pytest.approx(0.5, abs=0.06)
        assert np.var(shares) == pytest.approx(1 / (4 * (2 * 0.4 + 1)), abs=0.03)  # that of Beta(.4, .4)


def test_digits_are_mixed_for_training_and_pictures_and_never_for_scoring(digits):
    x = digits.train.x[:50]
    mixup = Augmentation(mixup_alpha=0.4)
    np.testing.assert_allclose(augmented_images(mixup, x, seed=0), x, atol=1e-3)
    mixed = augmented_images(mixup, x, seed=0, mixed=True)
    assert 0.05 < np.abs(mixed - x).mean() / x.mean() < 1
    # Each pixel is between those of the image and of the image before.
    before = np.roll(x, 1, axis=0)
    assert (mixed <= np.maximum(x, before) + 1e-3).all()
    assert (mixed >= np.minimum(x, before) - 1e-3).all()


@pytest.mark.parametrize(
    "setting", ["zca_whitening", "featurewise_center", "featurewise_std_normalization", "samplewise_center"]
)
def test_what_standardizes_training_images_alone_is_refused(setting, tmp_path, monkeypatch):
    import train

    monkeypatch.chdir(tmp_path)
    told = rf"augmentation\.{setting} changes training images.*use standardized\(\) in the net"
    with pytest.raises(UserError, match=told) as error:
        train.main(["--data", "digits", "--set", f"augmentation.{setting}=true"])
    assert len(str(error.value)) < 300
    assert "\n" not in str(error.value)
    assert not (tmp_path / "runs").exists()


def test_both_augmentation_engines_train_on_the_same_batches(digits):
    config = resolve("single", [("batch_size", 32)]) | {"seed": 1}
    made = [
        TrainingBatches(config | {"augment_engine": engine}, 1, digits.train, np.arange(80))
        for engine in ("batch", "keras")
    ]
    for epoch in (0, 1):
        for each in made:
            each.set_epoch(epoch)
        batches = [list(each.data) for each in made]
        assert [len(b) for b in batches] == [30, 30]  # the recipe's least 30 steps
        for (x, y), (keras_x, keras_y) in zip(*batches, strict=True):
            np.testing.assert_allclose(x, keras_x, atol=1e-4)
            np.testing.assert_array_equal(y, keras_y)


def test_only_what_changes_images_is_called_augmentation():
    assert not Augmentation().transforms
    assert not Augmentation(mixup_alpha=0.2).transforms  # which takes two images
    own = dict(elastic_alpha=1), dict(erasing_range=[3, 9]), dict(brightness_range=[1, 2])
    for settings in [*RANGES.values(), *own]:
        assert Augmentation(**settings).transforms, settings


def test_what_only_the_class_can_do_is_refused_by_the_batch_form_and_done_by_the_class(digits, tmp_path):
    x = digits.train.x[:50, ..., None] / np.float32(255)
    augmentation = Augmentation(brightness_range=[0.2, 0.6])
    parameters = draw(augmentation, np.random.default_rng(0), len(x))
    with pytest.raises(UserError, match=r"brightness_range needs ImageDataGenerator.*--augment-engine keras"):
        transformed(augmentation, "batch", x, parameters)
    darker = x * np.float32(parameters["brightness"])[:, None, None, None]
    np.testing.assert_allclose(transformed(augmentation, "keras", x, parameters), darker, atol=1e-6)
    augmentation = Augmentation(brightness_range=[1.5, 2])
    parameters = draw(augmentation, np.random.default_rng(0), len(x))
    assert transformed(augmentation, "keras", x, parameters).max() == 1
    with pytest.raises(UserError, match=r"interpolation_order needs ImageDataGenerator"):
        Augmentation(rotation_range=10, interpolation_order=0).engine("batch")
    Augmentation(rotation_range=10, interpolation_order=1).engine("batch")  # the order that this engine has
    process = script("train.py", "--data", "digits", "--set", "augmentation.brightness_range=[0.5,1]", cwd=tmp_path)
    assert_one_line_error(process, "brightness_range", "--augment-engine keras")


def test_a_change_of_augment_py_shows_in_the_picture_of_augmented_digits(tmp_path):
    scripts = tmp_path / "copy"
    scripts.mkdir()
    for name in ("augment.py", "models.py", "recipes.py"):
        shutil.copy(ROOT / name, scripts)
    shutil.copytree(ROOT / "recognizer", scripts / "recognizer")
    text = (scripts / "augment.py").read_text()
    change = "\n    images = ops.ones_like(images)"  # all ink
    before, after = text.split("    images = _sampled(images, y, x, fill_mode, cval)")
    (scripts / "augment.py").write_text(f"{before}{change}{after}")
    command = [sys.executable, "-m", "recognizer", "plot", "augmented", "--data", "digits"]
    subprocess.run(command, cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(scripts)}, check=True, timeout=300)
    with Image.open(tmp_path / "augmented.png") as picture:
        gray = np.asarray(picture.convert("L"))
    assert np.mean(gray < 50) > 0.4


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (dict(rotatoin_range=10), "did you mean 'rotation_range'"),
        (dict(fill_mode="mirror"), "must be 'nearest' or 'constant' or 'reflect' or 'wrap', not 'mirror'"),
        (dict(fill_mode=["nearest"]), "not ['nearest']"),
        (
            dict(zoom_range=[1, 2, 3]),
            "zoom_range must be a number from 0 to 1, or [low, high] from 0.1 to 10, not [1, 2, 3]",
        ),
        (dict(zoom_range="wide"), "zoom_range must be a number from 0 to 1, or [low, high] from 0.1 to 10, not 'wide'"),
        (dict(zoom_range=None), "zoom_range must be"),
        (dict(zoom_range=[0.5, "1"]), "zoom_range must be"),
        *[
            (dict(zoom_range=wrong), f"a number from 0 to 1, or [low, high] from 0.1 to 10, not {wrong}")
            for wrong in (-0.1, 1.5, 10, [0, 1], [0.9, 0], [-1, 1], [1, 15], [0.01, 1])
        ],
        *[
            (dict(brightness_range=wrong), f"brightness_range must be null, or [low, high] from 0.1 to 10, not {wrong}")
            for wrong in ([0, 5], [-1, 1], [0.5, 128])
        ],
        (dict(brightness_range=0.5), "brightness_range must be null, or [low, high] from 0.1 to 10, not 0.5"),
        (dict(brightness_range=[0.5]), "brightness_range must be null, or [low, high] from 0.1 to 10, not [0.5]"),
        (dict(brightness_range=["a", "b"]), "or [low, high] from 0.1 to 10, not ['a', 'b']"),
        (dict(rotation_range="ten"), "rotation_range must be a number of 0 or more, not 'ten'"),
        (dict(rotation_range=[-10, 10]), "rotation_range must be a number of 0 or more, not [-10, 10]"),
        (dict(channel_shift_range=[0, 1]), "channel_shift_range must be a number of 0 or more"),
        (dict(horizontal_flip=0.5), "horizontal_flip must be true or false, not 0.5"),
        (dict(width_shift_range=-3), "width_shift_range must be a number of 0 or more, or a list of numbers, not -3"),
        (dict(height_shift_range=["far"]), "or a list of numbers, not ['far']"),
        (dict(fill_mode="constant", cval="white"), "cval must be a number, not 'white'"),
        (dict(elastic_alpha=-1), "augmentation.elastic_alpha must be a number of 0 or more, not -1"),
        (dict(rotation_range=10**400), "rotation_range must be a number of 0 or more, not 1000"),
        (dict(zoom_range=[1, 10**400]), "or [low, high] from 0.1 to 10, not [1, 1000"),
        (dict(elastic_alpha=1, elastic_sigma=0), "elastic_sigma must be above 0"),
        (dict(width_shift_range=[]), "or a list of numbers, not []"),
        (dict(interpolation_order=7), "interpolation_order must be a whole number of 0 or more and below 6, not 7"),
        (dict(brightnes_range=[0.5, 1]), "did you mean 'brightness_range'"),
        (dict(erasing_range=5), "erasing_range must be 0, or [low, high] pixels, from 1 on, not 5"),
        (dict(erasing_range=[5, 3]), "from 1 on, not [5, 3]"),
        (dict(erasing_range=[0.1, 0.3]), "from 1 on, not [0.1, 0.3]"),
        (dict(erasing_range=[3, [9]]), "from 1 on, not [3, [9]]"),
        (dict(erasing_range=[True, 9]), "from 1 on, not [True, 9]"),
        (dict(mixup_alpha="much"), "mixup_alpha must be 0, or a number from 0.01 to 100"),
        (dict(mixup_alpha=True), "mixup_alpha must be 0, or a number from 0.01 to 100"),
        (dict(mixup_alpha=1e-9), "mixup_alpha must be 0, or a number from 0.01 to 100, not 1e-09"),
    ],
)
def test_a_bad_setting_is_told_in_one_line(settings, told):
    with pytest.raises(UserError) as error:
        Augmentation(**settings)
    assert told in str(error.value)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 300
