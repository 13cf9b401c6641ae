"""The recipes, from published notebooks and our own, as plain data.

A recipe lists the settings that differ from the defaults. recognizer/config/schema.py lists all settings with defaults
and meanings, recognizer/config/schedules.py the learning-rate schedules, augment.py the augmentation settings.

To add a recipe, add an entry to RECIPES:

    "mine": dict(
        model="deotte",
        augmentation=dict(rotation_range=15, zoom_range=0.1, shear_range=10),
        schedule=dict(name="cosine", learning_rate=1e-3),
        epochs=20,
    ),

then run `python train.py mine`. `python train.py --list` lists all recipes. `python train.py NAME --set KEY=VALUE`
changes a setting for one run (`--set augmentation.rotation_range=15`).

STUDIES are experiments from the sources of the recipes: `python -m recognizer sweep NAME`.
"""

# Augmentation of several notebooks.
SHIFT_10 = dict(rotation_range=10, zoom_range=0.1, width_shift_range=0.1, height_shift_range=0.1)

# The source used Keras 1, whose shear_range is in radians. ImageDataGenerator takes degrees: .3 rad = 17.19 degrees.
SHIFT_8 = dict(rotation_range=8, width_shift_range=0.08, height_shift_range=0.08, zoom_range=0.08, shear_range=17.19)

# This project's own settings. benchmarks/ACCURACY.md says how they were tuned.
OURS = dict(
    model="residual",
    augmentation=SHIFT_10 | dict(shear_range=10),
    optimizer="muon",
    # As usual with Muon, Adam trains the last layer.
    optimizer_config=dict(weight_decay=0.1, adam_weight_decay=None, exclude_layers=["classes"]),
    schedule=dict(name="one_cycle", learning_rate=6e-3, warmup=0.2),
    label_smoothing=0.1,
    batch_size=256,
    replicas=2,
    steps_per_epoch="full",
    min_steps_per_epoch=30,
    epochs=7,
    update_bn=50,
    test_shift=1,
    temperature=0.48,  # fitted on validation rows of MNIST: .484 here, .47 for `quick`
    source="this project",
)

# The net also learns the mirrored digits, as ten further classes. 128 images with their mirrored copies make a batch as
# large as one of OURS.
MIRRORED = {"joint_flips": ["horizontal"], "batch_size": 128}

# rahular's notebook assigned optimizer.lr, which had no effect there, so its learning rate was always .01. There are
# recipes for both: as run, and as written ("-phases").
AS_WRITTEN = [[1, 0.01], [5, 0.1], [5, 0.01]]

RAHULAR = dict(
    validation_split=0.0,
    optimizer="sgd",
    schedule=dict(name="constant", learning_rate=0.01),
    batch_size=64,
    epochs=11,
    source="rahular, 'Digit Recognition - 2', from fast.ai's lesson 3 of 2016 (MNIST 60,000/10,000)",
)

WRITTEN = RAHULAR | dict(
    schedule=dict(name="phases", learning_rates=AS_WRITTEN), reported="none: the notebook never ran with these rates"
)

AUGMENTED = RAHULAR | dict(augmentation=SHIFT_8, score_augmented=True)

RECIPES = {
    "single": OURS,
    # For Kaggle's data (42,000 training rows): fewer errors than `single`, in twice its time. On MNIST's test set it
    # makes more errors than `single` (benchmarks/ACCURACY.md). An epoch takes at most 36,000 rows, so it has the same
    # number of steps on MNIST's 60,000 rows as on Kaggle's 42,000.
    "mirrored": OURS | MIRRORED | {"epochs": 8, "max_rows_per_epoch": 36_000},
    # Nets of three kinds, since they make different errors. With mirrored digits, 4 epochs take about as long as 7
    # without.
    "ensemble": OURS
    | dict(
        nets=8,
        members=[
            MIRRORED | {"epochs": 4},
            MIRRORED | {"epochs": 4},
            MIRRORED | {"epochs": 4, "joint_flips": ["horizontal_and_vertical"]},
            {"augmentation.erasing_range": [3, 9]},
        ],
    ),
    # An accuracy of 99 % in the shortest time: less than one pass over MNIST. Modelled on tuomaso/train_mnist_fast.
    "quick": dict(
        model="quick",
        optimizer_config=dict(beta_1=0.7, beta_2=0.9),
        schedule=dict(name="one_cycle", learning_rate=0.02, warmup=0.3),
        label_smoothing=0.1,
        batch_size=256,
        steps_per_epoch=150,
        epochs=1,
        temperature=0.48,
        source="this project",
    ),
    "grenholm": dict(
        model="grenholm",
        validation_rows=400,
        augmentation=SHIFT_10,
        schedule=dict(name="exponential", learning_rate=1e-3, decay=0.9),
        batch_size=16,
        steps_per_epoch=500,
        epochs=20,
        source="Peter Grenholm, 'Welcome to deep learning (CNN 99%)', Kaggle",
        reported="99.17 % validation, about 99 % Kaggle, 99.3 % for 5 nets",
    ),
    "codeastar": dict(
        model="codeastar",
        validation_split=0.08,
        split_seed=7,
        augmentation=SHIFT_10,
        optimizer="rmsprop",
        schedule=dict(name="plateau", learning_rate=1e-3, factor=0.3, patience=3, min_lr=1e-4, monitor="val_accuracy"),
        batch_size=64,
        replicas=2,
        steps_per_epoch=640,
        epochs=30,
        source="codeastar, 'Convolutional Neural Network 99.47%', Kaggle",
        reported="99.14-99.29 % validation, 99.471 % Kaggle",
    ),
    "vgg-rmsprop": dict(
        model="vgg-rmsprop",
        validation_split=0.2,
        split_seed=0,
        augmentation=dict(rotation_range=15, zoom_range=1),
        optimizer="rmsprop",
        batch_size=256,
        steps_per_epoch="full",
        epochs=20,
        source="a VGG-like net with RMSprop, Kaggle",
        reported="99.14 % validation (the notebook also counted 76 errors in 8,400, which is 99.10 %: it rounded "
        "the probabilities before argmax)",
    ),
    "linear": RAHULAR | dict(model="linear", reported="92.51 %"),
    "linear-phases": WRITTEN | dict(model="linear"),
    "linear-augmented": AUGMENTED | dict(model="linear", reported="73.61 % on augmented test images"),
    "vgg": RAHULAR | dict(model="vgg", reported="98.60 %"),
    "vgg-phases": WRITTEN | dict(model="vgg"),
    "vgg-augmented": AUGMENTED | dict(model="vgg", reported="97.56 % on augmented test images"),
    "vgg-dropout": RAHULAR | dict(model="vgg-dropout", reported="98.78 %"),
    "vgg-dropout-phases": WRITTEN | dict(model="vgg-dropout"),
    "vgg-bn-dropout": RAHULAR
    | dict(model="vgg-bn-dropout", epochs=16, reported="99.43 % last epoch, 99.55 % best (on the test set)"),
    "vgg-bn-dropout-phases": WRITTEN
    | dict(model="vgg-bn-dropout", schedule=dict(name="phases", learning_rates=[*AS_WRITTEN, [5, 0.001]]), epochs=16),
    "deotte": dict(
        model="deotte",
        nets=15,
        bagging=True,
        augmentation=SHIFT_10,
        schedule=dict(name="exponential", learning_rate=1e-3, decay=0.95),
        batch_size=64,
        steps_per_epoch="full",
        epochs=45,
        source="Chris Deotte, '25 Million Images! [0.99757] MNIST', Kaggle",
        reported="99.757 % Kaggle; MNIST: 15 nets 99.745 ± .020 %, one net 99.641 ± .047 %",
    ),
}

# Settings of Chris Deotte's "How to choose CNN Architecture MNIST", Kaggle. Each question there is a grid here.
CHOOSING = dict(model="stages", nets=1, bagging=False, augmentation={}, steps_per_epoch=None)

# A study is a recipe with some changed settings, and a list of grids. A grid is {axis: {value: settings for it}}. Each
# point of a grid is trained `seeds` times. score: "test" if accuracies are measured on the labelled test set, as in the
# source, or "validation".
STUDIES = {
    # One axis varies rotation and zoom together, the other the shift. The source's figures are means of 30 such nets on
    # MNIST; for a shift of .2 it has only two figures. It does not say how many epochs these nets were trained for; the
    # nets of its 100 runs (below) have 30 epochs.
    "deotte-augmentation": dict(
        recipe="deotte",
        settings=dict(nets=1, epochs=30),
        grids=[
            {
                "rotation (°) and zoom (%)": {
                    n: {"augmentation.rotation_range": n, "augmentation.zoom_range": n / 100} for n in range(0, 31, 5)
                },
                "shift": {
                    n: {"augmentation.width_shift_range": n, "augmentation.height_shift_range": n}
                    for n in (0, 0.1, 0.2)
                },
            }
        ],
        seeds=30,
        score="test",
    ),
    # How much the accuracy of an ensemble of 15 nets varies from run to run: 99.745 ± .020 % on MNIST (GitHub,
    # cdeotte/MNIST-CNN-99.75). A single net: 99.641 ± .047 %.
    "deotte-100": dict(recipe="deotte", settings=dict(epochs=30), grids=[{}], seeds=100, score="test"),
    # The source trained each net once, on two thirds of Kaggle's rows (last question: four fifths), and reported the
    # best epoch's accuracy on the other rows. Here the last epoch counts.
    "deotte-architecture": dict(
        recipe="deotte",
        settings=CHOOSING | dict(batch_size=80, validation_split=0.333, epochs=20),
        grids=[
            {
                "stages": {
                    n: {"model_config": dict(filters=[24, 48, 64][:n], padding="same", dense=256)} for n in (1, 2, 3)
                }
            },
            {
                "filters": {
                    f"{n}-{2 * n}": {"model_config": dict(filters=[n, 2 * n], dense=256)} for n in range(8, 49, 8)
                }
            },
            {"dense": {n: {"model_config": dict(dense=n)} for n in (0, 32, 64, 128, 256, 512, 1024, 2048)}},
            {"dropout": {n / 10: {"model_config": dict(dropout=n / 10), "epochs": 30} for n in range(8)}},
            {
                "convolutions and pooling": {
                    name: dict(batch_size=64, validation_split=0.2, epochs=35, model_config=arguments) | more
                    for name, arguments, more in (
                        ("5x5, pooling", dict(dropout=0.4), {}),
                        ("two 3x3, pooling", dict(dropout=0.4, kernels=[3, 3]), {}),
                        ("5x5, strides", dict(dropout=0.4, strides=True), {}),
                        ("two 3x3, strides, BN", dict(dropout=0.4, kernels=[3, 3], strides=True, bn=True), {}),
                        (
                            "two 3x3, strides, BN, augmented",
                            dict(dropout=0.4, kernels=[3, 3], strides=True, bn=True, dense_bn=True),
                            {"augmentation": SHIFT_10, "steps_per_epoch": "full"},
                        ),
                    )
                }
            },
        ],
        seeds=10,
        score="validation",
    ),
}
