"""The architectures, one function each.

To add yours, write a function below under `@architecture`; that is the whole edit:

    @architecture
    def mine(dropout=0.5):
        return keras.Sequential([images(), Conv2D(32, 3, activation="relu"), Flatten(), Dropout(dropout), classes()])

then `python train.py --model mine`. To use another layer of keras.layers, add its name to the import below.

A layer or model of your own is a class in this file, with @keras.saving.register_keras_serializable() above it and a
get_config() that returns the arguments of its __init__.

In a training of a few hundred steps, give BatchNormalization a momentum of 0.9: at 0.99 its statistics lag behind.

An architecture returns an uncompiled keras.Model whose input is float32 (n, 28, 28, 1) in 0..1 and whose output is
float32 probabilities (n, 10): it begins with images() and ends with classes(). Its arguments are the recipe's
`model_config` (`--set model_config.dropout=0.3`); `_` and `-` are the same in its name.
"""

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
def grenholm():
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
def codeastar():
    """codeastar, "Convolutional Neural Network 99.47%", Kaggle: 203,933 parameters."""
    return keras.Sequential(
        [
            images(),
            Conv2D(30, 5),
            MaxPooling2D(),
            ReLU(),  # there before the pooling: the same maths, on a quarter of the numbers
            Conv2D(15, 3, activation="relu"),
            Dropout(0.2),
            Flatten(),
            Dense(128, activation="relu"),
            Dense(50, activation="relu"),
            classes(),
        ]
    )


@architecture
def vgg_rmsprop():
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
def linear(mean=0.0, std=1.0):
    """Softmax regression, rahular's 'Digit Recognition - 2': 7,850 parameters."""
    return keras.Sequential([*standardized(mean, std), Flatten(), classes()])


@architecture
def vgg(mean=0.0, std=1.0, dropout=0.0):
    """The VGG-like net of rahular's 'Digit Recognition - 2', after fast.ai's lesson 3 of 2016: 594,922 parameters."""
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
def vgg_dropout(mean=0.0, std=1.0, dropout=0.5):
    """`vgg` with dropout after each pooling, rahular's 'Digit Recognition - 2': 594,922 parameters."""
    return vgg(mean, std, dropout)


@architecture
def vgg_bn_dropout(mean=0.0, std=1.0, dropout=0.5):
    """`vgg` with batch normalisation and one dropout, rahular's 'Digit Recognition - 2': 597,738 parameters."""
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
def deotte(dropout=0.4, momentum=0.99):
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
    filters=(32, 64), kernels=(5,), strides=False, padding="valid", dense=128, dropout=0.0, bn=False, dense_bn=False
):
    """The nets of Chris Deotte's "How to choose CNN Architecture MNIST", Kaggle; by default 184,586 parameters.

    A stage has a convolution for each of `kernels`, with a number of `filters`, and halves the image by pooling, or by
    a convolution with strides. bn, dense_bn: batch normalisation after each convolution, and after the dense layer;
    dense: that layer's units, 0 for none. dropout: after each stage and the dense layer.
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
def quick(momentum=0.9):
    """The net of tuomaso/train_mnist_fast (GitHub), with batch normalisation and fewer filters: 213,898 parameters."""
    return keras.Sequential(
        [
            images(),
            Conv2D(16, 5),
            MaxPooling2D(),
            ReLU(),  # after the pooling, which leaves a quarter of the work
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
def residual(filters=(32, 128, 256), kernel_size=5, padding="valid", momentum=0.95):
    """A residual net of the shape of ttdoucet/mnist's (GitHub), narrower: 1,095,178 parameters.

    Each image is standardised by itself, as there. padding: "valid", or "same" as there, for larger maps (28, 14, 7, 4
    for 24, 12, 5, 2 pixels) at 1.6 times the time.
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
