"""The architectures, one function each.

To add your own, write a function with `@architecture` below. Nothing else needs to change:

    @architecture
    def mine(dropout=0.5):
        return keras.Sequential([images(), Conv2D(32, 3, activation="relu"), Flatten(), Dropout(dropout), classes()])

then run `python train.py --model mine`. To use another layer of keras.layers, add its name to the import below.

To add your own layer or model, write a class in this file with @keras.saving.register_keras_serializable() above it and
a get_config() that returns the arguments of its __init__.

If you train for only a few hundred steps, give BatchNormalization a momentum of 0.9: at 0.99 its statistics lag behind.

An architecture returns an uncompiled keras.Model from float32 (n, 28, 28, 1) in 0..1 to float32 probabilities (n, 10):
it begins with images() and ends with classes(). The recipe's `model_config` sets its arguments, for example
`--set model_config.dropout=0.3`. In an architecture's name, `_` and `-` are the same.
"""

from collections.abc import Sequence

import keras

from recognizer.nn.parts import (
    Add,
    BatchNormalization,
    Conv2D,
    Dense,
    Dropout,
    Flatten,
    GlobalAveragePooling2D,
    LayerNormalization,
    MaxPooling2D,
    ReLU,
    architecture,
    classes,
    images,
    standardized,
)


@architecture
def grenholm() -> keras.Model:
    """Peter Grenholm, "Welcome to deep learning (CNN 99%)", Kaggle: 814,970 parameters."""
    return keras.Sequential(
        [
            images(),
            Conv2D(16, 3, activation="relu"),
            BatchNormalization(),
            Conv2D(16, 3, activation="relu"),
            BatchNormalization(),
            MaxPooling2D(),
            Dropout(0.25),
            Conv2D(32, 3, activation="relu"),
            BatchNormalization(),
            Conv2D(32, 3, activation="relu"),
            BatchNormalization(),
            MaxPooling2D(),
            Dropout(0.25),
            Flatten(),
            Dense(512, activation="relu"),
            Dropout(0.25),
            Dense(1024, activation="relu"),
            Dropout(0.5),
            classes(),
        ]
    )


@architecture
def codeastar() -> keras.Model:
    """codeastar, "Convolutional Neural Network 99.47%", Kaggle: 203,933 parameters."""
    return keras.Sequential(
        [
            images(),
            Conv2D(30, 5),
            MaxPooling2D(),
            ReLU(),  # the source has it before the pooling; here it gives the same result, from a quarter of the values
            Conv2D(15, 3, activation="relu"),
            Dropout(0.2),
            Flatten(),
            Dense(128, activation="relu"),
            Dense(50, activation="relu"),
            classes(),
        ]
    )


@architecture
def vgg_rmsprop() -> keras.Model:
    """A VGG-like net with light dropout, Kaggle: 594,922 parameters."""
    return keras.Sequential(
        [
            images(),
            Conv2D(32, 3, activation="relu"),
            Conv2D(32, 3, activation="relu"),
            MaxPooling2D(),
            Dropout(0.05),
            Conv2D(64, 3, activation="relu"),
            Conv2D(64, 3, activation="relu"),
            MaxPooling2D(),
            Dropout(0.05),
            Flatten(),
            Dense(512, activation="relu"),
            Dropout(0.05),
            classes(),
        ]
    )


@architecture
def linear(mean: float = 0.0, std: float = 1.0) -> keras.Model:
    """Softmax regression, rahular's 'Digit Recognition - 2': 7,850 parameters."""
    return keras.Sequential([*standardized(mean, std), Flatten(), classes()])


@architecture
def vgg(mean: float = 0.0, std: float = 1.0, dropout: float = 0.0) -> keras.Model:
    """The VGG-like net of rahular's 'Digit Recognition - 2', from fast.ai's lesson 3 of 2016: 594,922 parameters."""
    return keras.Sequential(
        [
            *standardized(mean, std),
            Conv2D(32, 3, activation="relu"),
            Conv2D(32, 3, activation="relu"),
            MaxPooling2D(),
            Dropout(dropout),
            Conv2D(64, 3, activation="relu"),
            Conv2D(64, 3, activation="relu"),
            MaxPooling2D(),
            Dropout(dropout),
            Flatten(),
            Dense(512, activation="relu"),
            classes(),
        ]
    )


@architecture
def vgg_dropout(mean: float = 0.0, std: float = 1.0, dropout: float = 0.5) -> keras.Model:
    """`vgg` with dropout after each pooling, rahular's 'Digit Recognition - 2': 594,922 parameters."""
    return vgg(mean, std, dropout)


@architecture
def vgg_bn_dropout(mean: float = 0.0, std: float = 1.0, dropout: float = 0.5) -> keras.Model:
    """`vgg` with batch normalization and one dropout, rahular's 'Digit Recognition - 2': 597,738 parameters."""
    return keras.Sequential(
        [
            *standardized(mean, std),
            Conv2D(32, 3, activation="relu"),
            BatchNormalization(),
            Conv2D(32, 3, activation="relu"),
            BatchNormalization(),
            MaxPooling2D(),
            Conv2D(64, 3, activation="relu"),
            BatchNormalization(),
            Conv2D(64, 3, activation="relu"),
            BatchNormalization(),
            MaxPooling2D(),
            Flatten(),
            Dense(512, activation="relu"),
            BatchNormalization(),
            Dropout(dropout),
            classes(),
        ]
    )


@architecture
def deotte(dropout: float = 0.4, momentum: float = 0.99) -> keras.Model:
    """Chris Deotte, "25 Million Images! [0.99757] MNIST", Kaggle: 327,242 parameters."""
    return keras.Sequential(
        [
            images(),
            Conv2D(32, 3, activation="relu"),
            BatchNormalization(momentum=momentum),
            Conv2D(32, 3, activation="relu"),
            BatchNormalization(momentum=momentum),
            Conv2D(32, 5, strides=2, padding="same", activation="relu"),
            BatchNormalization(momentum=momentum),
            Dropout(dropout),
            Conv2D(64, 3, activation="relu"),
            BatchNormalization(momentum=momentum),
            Conv2D(64, 3, activation="relu"),
            BatchNormalization(momentum=momentum),
            Conv2D(64, 5, strides=2, padding="same", activation="relu"),
            BatchNormalization(momentum=momentum),
            Dropout(dropout),
            Conv2D(128, 4, activation="relu"),
            BatchNormalization(momentum=momentum),
            Flatten(),
            Dropout(dropout),
            classes(),
        ]
    )


@architecture
def stages(
    filters: Sequence[int] = (32, 64),
    kernels: Sequence[int] = (5,),
    strides: bool = False,
    padding: str = "valid",
    dense: int = 128,
    dropout: float = 0.0,
    bn: bool = False,
    dense_bn: bool = False,
) -> keras.Model:
    """The nets of Chris Deotte's "How to choose CNN Architecture MNIST", Kaggle; by default 184,586 parameters.

    Each number of `filters` makes a stage: a convolution for each of the `kernels`, then pooling, or a convolution with
    stride 2 if `strides`. dense: units of the dense layer, 0 for none. bn: bool, batch normalization after each
    convolution. dense_bn: bool, the same after the dense layer. dropout: rate after each stage and after the dense
    layer.
    """
    layers = [images()]
    for n in filters:
        convolutions = [Conv2D(n, size, padding=padding, activation="relu") for size in kernels]
        if strides:
            convolutions.append(Conv2D(n, 5, strides=2, padding="same", activation="relu"))
        for convolution in convolutions:
            layers += [convolution, *[BatchNormalization()] * bn]
        layers += [*[MaxPooling2D(padding="same")] * (not strides), Dropout(dropout)]
    layers.append(Flatten())
    if dense:
        layers += [Dense(dense, activation="relu"), *[BatchNormalization()] * dense_bn, Dropout(dropout)]
    return keras.Sequential([*layers, classes()])


@architecture
def quick(momentum: float = 0.9) -> keras.Model:
    """The net of tuomaso/train_mnist_fast (GitHub), with batch normalization and fewer filters: 213,898 parameters."""
    return keras.Sequential(
        [
            images(),
            Conv2D(16, 5),
            MaxPooling2D(),
            ReLU(),  # after the pooling, on a quarter of the numbers
            BatchNormalization(momentum=momentum),
            Conv2D(32, 3),
            MaxPooling2D(),
            ReLU(),
            BatchNormalization(momentum=momentum),
            Flatten(),
            Dense(256, activation="relu"),
            BatchNormalization(momentum=momentum),
            classes(),
        ]
    )


@architecture
def residual(
    filters: Sequence[int] = (32, 128, 256), kernel_size: int = 5, padding: str = "valid", momentum: float = 0.95
) -> keras.Model:
    """A residual net like ttdoucet/mnist's (GitHub), but narrower: 1,095,178 parameters.

    Each image is standardised separately, as in the source. padding: "valid", or "same" as in the source. "same" gives
    larger feature maps (28, 14, 7, 4 instead of 24, 12, 5, 2 pixels) and takes 1.6 times as long.
    """

    def block(x):
        x = BatchNormalization(momentum=momentum)(x)
        return Add()([x, Conv2D(x.shape[-1], 3, padding="same", activation="relu")(x)])

    inputs = images()
    x = LayerNormalization(axis=(1, 2, 3), center=False, scale=False)(inputs)
    for i, n in enumerate(filters):
        if i:
            x = BatchNormalization(momentum=momentum)(x)
        x = Conv2D(n, 3 if i else kernel_size, padding=padding, activation="relu")(x)
        x = MaxPooling2D(padding="same")(x if i else block(x))
        x = block(x)
    x = GlobalAveragePooling2D()(BatchNormalization(momentum=momentum)(x))
    return keras.Model(inputs, classes()(x))
