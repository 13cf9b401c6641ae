"""What people write in models.py: test_forty_nets.py appends this file to a copy of it.

Some are refused, each with the words that test_forty_nets.py lists. All are small, so that each takes seconds.
"""

import keras
from keras import ops

from recognizer.nn.parts import (
    GRU,
    LSTM,
    Activation,
    Add,
    Average,
    AveragePooling2D,
    BatchNormalization,
    Bidirectional,
    Concatenate,
    Conv1D,
    Conv2D,
    Conv2DTranspose,
    Dense,
    DepthwiseConv2D,
    Dropout,
    Flatten,
    GaussianNoise,
    GlobalAveragePooling1D,
    GlobalAveragePooling2D,
    GroupNormalization,
    Lambda,
    LayerNormalization,
    LeakyReLU,
    MaxPooling2D,
    MultiHeadAttention,
    Multiply,
    Permute,
    PReLU,
    RandomRotation,
    RandomTranslation,
    RandomZoom,
    Rescaling,
    Reshape,
    SeparableConv2D,
    SpatialDropout2D,
    SpectralNormalization,
    TimeDistributed,
    UnitNormalization,
    architecture,
    classes,
    images,
)

register = keras.saving.register_keras_serializable("forty")


# Convolutions and their blocks


@architecture
def forty_vgg(width=4):
    net = keras.Sequential([images()])
    for filters in (width, 2 * width):
        net.add(Conv2D(filters, 3, padding="same", activation="relu"))
        net.add(Conv2D(filters, 3, padding="same", activation="relu"))
        net.add(MaxPooling2D())
    for layer in (Flatten(), Dense(16, activation="relu"), Dropout(0.5), classes()):
        net.add(layer)
    return net


def conv_bn(x, filters, size=3, strides=1):
    x = Conv2D(filters, size, strides=strides, padding="same", use_bias=False)(x)
    return Activation("relu")(BatchNormalization(momentum=0.9)(x))


@architecture
def forty_resnet():
    inputs = images()
    x = conv_bn(inputs, 4, strides=2)
    for filters, strides in ((4, 1), (8, 2)):
        shortcut = x if strides == 1 else Conv2D(filters, 1, strides=strides)(x)
        x = Conv2D(filters, 3, padding="same")(conv_bn(x, filters, strides=strides))
        x = Activation("relu")(Add()([BatchNormalization(momentum=0.9)(x), shortcut]))
    return keras.Model(inputs, classes()(GlobalAveragePooling2D()(x)))


@architecture
def forty_densenet():
    inputs = images()
    x = MaxPooling2D()(inputs)
    for _ in range(3):
        x = Concatenate()([x, conv_bn(x, 4)])
    x = AveragePooling2D(2)(conv_bn(x, 4, 1))
    return keras.Model(inputs, classes()(Flatten()(x)))


@architecture
def forty_inception():
    inputs = images()
    x = MaxPooling2D()(inputs)
    branches = [conv_bn(x, 4, 1), conv_bn(conv_bn(x, 2, 1), 4, 3), conv_bn(conv_bn(x, 2, 1), 4, 5)]
    x = Concatenate()([*branches, MaxPooling2D(3, strides=1, padding="same")(x)])
    return keras.Model(inputs, classes()(GlobalAveragePooling2D()(x)))


@architecture
def forty_squeeze_excite():
    inputs = images()
    x = conv_bn(inputs, 8, strides=2)
    gate = GlobalAveragePooling2D(keepdims=True)(x)
    gate = Conv2D(8, 1, activation="sigmoid")(Conv2D(2, 1, activation="relu")(gate))
    return keras.Model(inputs, classes()(Flatten()(Multiply()([x, gate]))))


@architecture
def forty_depthwise():
    return keras.Sequential(
        [
            images(),
            Conv2D(4, 3, strides=2, activation="relu"),
            DepthwiseConv2D(3, depth_multiplier=2, activation="relu"),
            SeparableConv2D(8, 3, activation="relu"),
            Conv2D(8, 3, groups=2, activation="relu"),
            GlobalAveragePooling2D(),
            classes(),
        ]
    )


@architecture
def forty_dilated():
    net = [Conv2D(4, 3, padding="same", dilation_rate=rate, activation="relu") for rate in (1, 2, 4)]
    return keras.Sequential([images(), *net, MaxPooling2D(4), Flatten(), classes()])


@architecture
def forty_transposed():
    return keras.Sequential(
        [
            images(),
            Conv2D(4, 3, strides=2, activation="relu"),
            Conv2DTranspose(4, 3, strides=2, activation="relu"),
            keras.layers.UpSampling2D(2),
            AveragePooling2D(4),
            Flatten(),
            classes(),
        ]
    )


@register
class LayerScale(keras.layers.Layer):
    def build(self, shape):
        self.scale = self.add_weight(shape=(shape[-1],), initializer=keras.initializers.Constant(0.1), name="scale")

    def call(self, x):
        return x * self.scale


@architecture
def forty_convnext():
    inputs = images()
    x = LayerNormalization()(Conv2D(8, 4, strides=4)(inputs))
    y = LayerNormalization()(DepthwiseConv2D(7, padding="same")(x))
    y = Dense(8)(Dense(32, activation="gelu")(y))
    x = Add()([x, LayerScale()(y)])
    return keras.Model(inputs, classes()(LayerNormalization()(GlobalAveragePooling2D()(x))))


# Sequences and attention


@register
class Positions(keras.layers.Layer):
    """Adds a learned position to each token, and a class token before them."""

    def build(self, shape):
        self.token = self.add_weight(shape=(1, 1, shape[-1]), name="token")
        self.positions = self.add_weight(shape=(1, shape[1] + 1, shape[-1]), name="positions")

    def call(self, x):
        token = ops.broadcast_to(self.token, (ops.shape(x)[0], 1, x.shape[-1]))
        return ops.concatenate([ops.cast(token, x.dtype), x], axis=1) + self.positions


@architecture
def forty_vit(depth=2, width=16):
    inputs = images()
    x = Reshape((16, width))(Conv2D(width, 7, strides=7)(inputs))
    x = Positions()(x)
    for _ in range(depth):
        y = LayerNormalization(epsilon=1e-6)(x)
        x = Add()([x, MultiHeadAttention(2, width // 2, dropout=0.1)(y, y)])
        y = LayerNormalization(epsilon=1e-6)(x)
        x = Add()([x, Dense(width)(Dropout(0.1)(Dense(2 * width, activation="gelu")(y)))])
    return keras.Model(inputs, classes()(LayerNormalization()(x[:, 0])))


@architecture
def forty_mixer(width=16):
    inputs = images()
    x = Reshape((16, width))(Conv2D(width, 7, strides=7)(inputs))
    y = Permute((2, 1))(LayerNormalization()(x))
    x = Add()([x, Permute((2, 1))(Dense(16)(Dense(16, activation="gelu")(y)))])
    x = Add()([x, Dense(width)(Dense(16, activation="gelu")(LayerNormalization()(x)))])
    return keras.Model(inputs, classes()(GlobalAveragePooling1D()(x)))


@register
class Fourier(keras.layers.Layer):
    """Mixes tokens by a Fourier transform, which no backend computes in bfloat16."""

    def call(self, x):
        return ops.fft2((x, ops.zeros_like(x)))[0]


@architecture
def forty_fourier():
    inputs = images()
    x = Reshape((16, 16))(Conv2D(16, 7, strides=7)(inputs))
    x = LayerNormalization()(Add()([x, Fourier()(x)]))
    return keras.Model(inputs, classes()(GlobalAveragePooling1D()(x)))


@architecture
def forty_gru():
    return keras.Sequential([images(), Reshape((28, 28)), GRU(8), classes()])


@architecture
def forty_bidirectional():
    return keras.Sequential(
        [
            images(),
            Reshape((28, 28)),
            Bidirectional(LSTM(4, return_sequences=True)),
            BatchNormalization(),
            Bidirectional(LSTM(4, dropout=0.1)),
            classes(),
        ]
    )


@architecture
def forty_conv1d():
    return keras.Sequential([images(), Reshape((28, 28)), Conv1D(8, 3, padding="causal"), Flatten(), classes()])


@architecture
def forty_time_distributed():
    row = keras.Sequential([keras.Input((28,)), Dense(8), BatchNormalization(momentum=0.9)])
    return keras.Sequential([images(), Reshape((28, 28)), TimeDistributed(row), Flatten(), classes()])


@architecture
def forty_conv_lstm():
    return keras.Sequential(
        [images(), AveragePooling2D(2), Reshape((2, 7, 14, 1)), keras.layers.ConvLSTM2D(2, 3), Flatten(), classes()]
    )


@architecture
def forty_einsum_attention():
    inputs = images()
    x = ops.reshape(inputs, (-1, 28, 28))
    scores = ops.softmax(ops.einsum("bik,bjk->bij", x, x) / 28**0.5)
    x = ops.einsum("bij,bjk->bik", scores, x)
    return keras.Model(inputs, classes()(Flatten()(x)))


# Layers that models.py registers


@register
class Capsules(keras.layers.Layer):
    def __init__(self, number, size, routings=2, **kwargs):
        super().__init__(**kwargs)
        self.number, self.size, self.routings = number, size, routings

    def build(self, shape):
        self.kernel = self.add_weight(shape=(shape[1], self.number, shape[2], self.size), name="kernel")

    def call(self, x):
        votes = ops.einsum("bik,ijkl->bijl", x, self.kernel)
        logits = ops.zeros_like(votes[..., 0])
        for _ in range(self.routings):
            shares = ops.expand_dims(ops.softmax(logits, axis=2), -1)
            found = squash(ops.sum(shares * votes, axis=1, keepdims=True))
            logits = logits + ops.sum(votes * found, axis=-1)
        return found[:, 0]

    def get_config(self):
        return super().get_config() | {"number": self.number, "size": self.size, "routings": self.routings}


def squash(x):
    squared = ops.sum(ops.square(x), axis=-1, keepdims=True)
    return x * ops.sqrt(squared + 1e-7) / (1 + squared)


@register
class Lengths(keras.layers.Layer):
    def call(self, x):
        return ops.softmax(ops.sqrt(ops.sum(ops.square(x), axis=-1) + 1e-7))


@architecture
def forty_capsules():
    inputs = images()
    x = Conv2D(8, 9, strides=6, activation="relu")(inputs)
    x = Capsules(10, 4)(Reshape((-1, 4))(x))
    return keras.Model(inputs, Lengths(dtype="float32")(x))


@register
class Splines(keras.layers.Layer):
    """A layer of a Kolmogorov-Arnold network: hat functions on a grid, of which ops.linspace gives the places."""

    def __init__(self, units, grid=5, **kwargs):
        super().__init__(**kwargs)
        self.units, self.grid = units, grid

    def build(self, shape):
        self.base = self.add_weight(shape=(shape[-1], self.units), name="base")
        self.splines = self.add_weight(shape=(shape[-1], self.grid, self.units), name="splines")

    def call(self, x):
        x = ops.tanh(x)
        places = ops.linspace(-1, 1, self.grid)
        hats = ops.relu(1 - ops.abs(ops.expand_dims(x, -1) - places))
        return ops.matmul(ops.silu(x), self.base) + ops.einsum("big,igu->bu", hats, self.splines)

    def get_config(self):
        return super().get_config() | {"units": self.units, "grid": self.grid}


@architecture
def forty_kan():
    return keras.Sequential([images(), AveragePooling2D(4), Flatten(), Splines(8), Splines(8), classes()])


@register
class Maxout(keras.layers.Layer):
    def __init__(self, units, pieces=2, **kwargs):
        super().__init__(**kwargs)
        self.units, self.pieces, self.dense = units, pieces, Dense(units * pieces)

    def build(self, shape):
        self.dense.build(shape)

    def call(self, x):
        return ops.max(ops.reshape(self.dense(x), (-1, self.units, self.pieces)), axis=-1)

    def get_config(self):
        return super().get_config() | {"units": self.units, "pieces": self.pieces}


@architecture
def forty_maxout():
    return keras.Sequential([images(), AveragePooling2D(2), Flatten(), Maxout(16), classes()])


@register
class StochasticDepth(keras.layers.Layer):
    def __init__(self, rate, **kwargs):
        super().__init__(**kwargs)
        self.rate, self.seeds = rate, keras.random.SeedGenerator()

    def call(self, x, training=None):
        if not training:
            return x
        shape = (ops.shape(x)[0], *[1] * (len(x.shape) - 1))
        kept = keras.random.uniform(shape, seed=self.seeds, dtype=x.dtype) >= self.rate
        return x * ops.cast(kept, x.dtype) / (1 - self.rate)

    def get_config(self):
        return super().get_config() | {"rate": self.rate}


@architecture
def forty_stochastic_depth():
    inputs = images()
    x = MaxPooling2D(2)(Conv2D(4, 3, activation="relu")(inputs))
    x = Add()([x, StochasticDepth(0.2)(Conv2D(4, 3, padding="same", activation="relu")(x))])
    return keras.Model(inputs, classes()(Flatten()(x)))


@register
class ConvBN(keras.layers.Layer):
    def __init__(self, filters, momentum=0.99, **kwargs):
        super().__init__(**kwargs)
        self.filters, self.momentum = filters, momentum
        self.conv = Conv2D(filters, 3, use_bias=False)
        self.bn = BatchNormalization(momentum=momentum)

    def build(self, shape):
        self.conv.build(shape)
        self.bn.build(self.conv.compute_output_shape(shape))

    def call(self, x, training=None):
        return ops.relu(self.bn(self.conv(x), training=training))

    def get_config(self):
        return super().get_config() | {"filters": self.filters, "momentum": self.momentum}


@architecture
def forty_conv_bn_layer():
    return keras.Sequential([images(), ConvBN(4), MaxPooling2D(), ConvBN(8), MaxPooling2D(), Flatten(), classes()])


@register
class Tower(keras.layers.Layer):
    """Holds its layers in a list and a dict, and calls one batch normalization in a loop."""

    def __init__(self, filters=4, **kwargs):
        super().__init__(**kwargs)
        self.filters = filters
        self.convs = [Conv2D(filters, 3, padding="same", activation="relu") for _ in range(3)]
        self.ends = {"bn": BatchNormalization(momentum=0.9), "drop": Dropout(0.1)}

    def build(self, shape):
        for conv in self.convs:
            conv.build(shape)
            shape = (*shape[:-1], self.filters)
        self.ends["bn"].build(shape)

    def call(self, x, training=None):
        for conv in self.convs:
            x = self.ends["bn"](conv(x), training=training)
        return self.ends["drop"](x, training=training)

    def compute_output_shape(self, shape):
        return (*shape[:-1], self.filters)

    def get_config(self):
        return super().get_config() | {"filters": self.filters}


@architecture
def forty_lists_and_dicts():
    return keras.Sequential([images(), MaxPooling2D(), Tower(), MaxPooling2D(), Flatten(), classes()])


# Small parts


@architecture
def forty_spatial_dropout():
    return keras.Sequential([images(), Conv2D(8, 3, strides=2), SpatialDropout2D(0.2), Flatten(), classes()])


@architecture
def forty_group_norm():
    return keras.Sequential(
        [images(), Conv2D(8, 3, strides=2), GroupNormalization(4), Activation("silu"), Flatten(), classes()]
    )


@architecture
def forty_layer_norm():
    return keras.Sequential(
        [images(), Flatten(), LayerNormalization(), Dense(16), UnitNormalization(), Rescaling(4.0), classes()]
    )


@architecture
def forty_prelu():
    return keras.Sequential(
        [images(), Conv2D(4, 3, strides=2), PReLU(shared_axes=[1, 2]), Flatten(), Dense(8), PReLU(), classes()]
    )


@architecture
def forty_leaky_relu():
    return keras.Sequential(
        [images(), Conv2D(4, 3, strides=2, activation=LeakyReLU(negative_slope=0.1)), Flatten(), classes()]
    )


@architecture
def forty_regularized(l1=1e-5, l2=1e-4):
    both = keras.regularizers.L1L2(l1, l2)
    return keras.Sequential(
        [
            images(),
            Conv2D(4, 3, strides=2, kernel_regularizer="l2"),
            Flatten(),
            Dense(8, bias_regularizer=both),
            classes(),
        ]
    )


@architecture
def forty_activity():
    return keras.Sequential(
        [
            images(),
            Conv2D(4, 3, strides=2, activity_regularizer=keras.regularizers.L1(1e-5)),
            keras.layers.ActivityRegularization(l2=1e-5),
            Flatten(),
            classes(),
        ]
    )


@architecture
def forty_constraints():
    return keras.Sequential(
        [
            images(),
            Conv2D(4, 3, strides=2, kernel_constraint=keras.constraints.MaxNorm(2.0)),
            Flatten(),
            Dense(8, kernel_constraint="non_neg", kernel_initializer="orthogonal"),
            classes(),
        ]
    )


@architecture
def forty_gaussian_noise():
    return keras.Sequential([images(), GaussianNoise(0.1), keras.layers.GaussianDropout(0.1), Flatten(), classes()])


@architecture
def forty_random_rotation():
    return keras.Sequential([images(), RandomRotation(0.03), Conv2D(4, 3, strides=2), Flatten(), classes()])


@architecture
def forty_random_translation():
    augment = keras.Sequential([images(), RandomTranslation(0.1, 0.1), RandomZoom(0.1)])
    return keras.Sequential([images(), augment, Conv2D(4, 3, strides=2), Flatten(), classes()])


# Layers and models inside others


@architecture
def forty_shared():
    inputs = images()
    conv, bn = Conv2D(4, 3, padding="same", activation="relu"), BatchNormalization(momentum=0.9)
    large = MaxPooling2D()(inputs)
    small = bn(conv(MaxPooling2D()(large)))
    large = MaxPooling2D()(bn(conv(large)))
    return keras.Model(inputs, classes()(Flatten()(Add()([small, large]))))


@architecture
def forty_branches():
    inputs = images()
    left = Flatten()(AveragePooling2D(4)(inputs))
    right = GlobalAveragePooling2D()(Conv2D(8, 3, strides=2, activation="relu")(inputs))
    heads = [classes()(left), Dense(10, activation="softmax", dtype="float32")(right)]
    return keras.Model(inputs, Average()(heads))


@architecture
def forty_nested():
    block = keras.Sequential([keras.Input((14, 14, 1)), Conv2D(4, 3), BatchNormalization(), keras.layers.ReLU()])
    inner = keras.Input((12, 12, 4))
    head = keras.Model(inner, Dense(16)(BatchNormalization()(Flatten()(inner))))
    return keras.Sequential([images(), MaxPooling2D(), block, head, classes()])


@architecture
def forty_spectral():
    return keras.Sequential(
        [
            images(),
            SpectralNormalization(Conv2D(4, 3, strides=2)),
            BatchNormalization(),
            Flatten(),
            SpectralNormalization(Dense(8)),
            classes(),
        ]
    )


@register
class Block(keras.Model):
    """A subclassed model as people write it, without build()."""

    def __init__(self, filters=4, **kwargs):
        super().__init__(**kwargs)
        self.filters = filters
        self.conv = Conv2D(filters, 3, padding="same")
        self.bn = BatchNormalization(momentum=0.9)
        self.dropout = Dropout(0.1)

    def call(self, x, training=False):
        return self.dropout(ops.relu(self.bn(self.conv(x), training=training)), training=training)

    def get_config(self):
        return super().get_config() | {"filters": self.filters}


@architecture
def forty_model_as_block():
    return keras.Sequential([images(), MaxPooling2D(), Block(), MaxPooling2D(), Block(8), Flatten(), classes()])


@register
class Whole(keras.Model):
    def __init__(self, units=16, **kwargs):
        super().__init__(**kwargs)
        self.units = units
        self.blocks = [Block(4), Block(4)]
        self.pool, self.flatten, self.out = MaxPooling2D(), Flatten(), classes()

    def call(self, x, training=False):
        for block in self.blocks:
            x = block(self.pool(x), training=training)
        return self.out(self.flatten(x))

    def get_config(self):
        return super().get_config() | {"units": self.units}


@architecture
def forty_model_alone():
    return Whole()


# What is refused


@register
class Forgetful(keras.Model):
    def __init__(self, units=4, **kwargs):
        super().__init__(**kwargs)
        self.dense = Dense(units)

    def call(self, x):
        return self.dense(x)


@architecture
def forty_forgotten_argument():
    return keras.Sequential([images(), Flatten(), Forgetful(8), classes()])


class Unregistered(keras.Model):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.flatten, self.out = Flatten(), classes()

    def call(self, x):
        return self.out(self.flatten(x))


@architecture
def forty_unregistered_model():
    return Unregistered()


@architecture
def forty_unregistered_block():
    return keras.Sequential([images(), Unregistered()])


@architecture
def forty_lambda():
    return keras.Sequential([images(), Lambda(lambda x: x * 2), Flatten(), classes()])


@architecture
def forty_function_as_default(activation=keras.activations.relu):
    return keras.Sequential([images(), Conv2D(4, 3, strides=2, activation=activation), Flatten(), classes()])


@architecture
def forty_layer_as_default(norm=BatchNormalization):
    return keras.Sequential([images(), Conv2D(4, 3, strides=2), norm(), Flatten(), classes()])
