"""How digits are augmented: the settings, what is drawn for each image, and how images are transformed.

    python -m recognizer plot augmented --recipe grenholm                      # 30 digits as that recipe trains on them
    python -m recognizer plot augmented --set augmentation.rotation_range=30   # the same with another setting

From top to bottom:
    Augmentation        the settings, with defaults and checks: those of Keras's ImageDataGenerator, and some more
    draw, draw_elastic  random parameters for each image, by NumPy
    BatchEngine         transforms a whole batch by these parameters, compiled: the default
    KerasEngine         transforms image by image by ImageDataGenerator (train.py --augment-engine keras): over ten
                        times slower, knows a few transforms more, needs TensorFlow
    mix                 mixes up the images and the labels of a batch, after either engine

To add a transform: a setting in Augmentation and OURS, its parameters in `draw` (drawn after the others, so that runs
made before can be repeated) and in PACKED and DRAWN (before mixup), and what it does to images in `warp` and in
KerasEngine.

Both engines apply the same parameters and agree on every pixel to 1e-4 (images in 0..1) in all four fill modes,
including SciPy's edges: "wrap" lays the last pixel on the first (a period of n - 1 pixels), and "constant" gives `cval`
to a point anywhere outside. In these two modes, a point that rounding puts on the other side of the border can differ.
The batch engine resamples once for elastic distortion and the other transforms, KerasEngine twice, which makes strokes
slightly softer.
"""

import dataclasses
import functools

import numpy as np
import scipy.ndimage
import scipy.special
from keras import ops

from recognizer.base import environment
from recognizer.base.backend import TENSORFLOW
from recognizer.base.errors import UserError
from recognizer.base.reasons import reason
from recognizer.base.rules import FLAG, LARGEST, NULL, Rule, number, one_of, whole
from recognizer.base.words import choose

# Settings

NUMBER = Rule("a number", number(-LARGEST).valid)
RANGE = number()
ALPHA = Rule("a number from 0.01 to 100", lambda value: NUMBER.valid(value) and 0.01 <= value <= 100)
ZERO = Rule("0", lambda value: NUMBER.valid(value) and value == 0)
LIST = Rule("a list", lambda value: isinstance(value, (list, tuple)) and len(value) > 0)
NUMBERS = Rule("a list of numbers", lambda value: LIST.valid(value) and all(map(NUMBER.valid, value)))
PAIR = Rule("[low, high]", lambda value: NUMBERS.valid(value) and len(value) == 2)
SIDES = Rule("[low, high] pixels, from 1 on", lambda value: PAIR.valid(value) and 1 <= value[0] <= value[1])

OURS = {"elastic_alpha", "elastic_sigma", "erasing_range", "mixup_alpha"}  # not ImageDataGenerator's
KERAS_ONLY = ("brightness_range", "channel_shift_range", "interpolation_order")
STANDARDIZING = ("featurewise_", "samplewise_", "zca_")  # how ImageDataGenerator's settings begin that are refused


@dataclasses.dataclass(init=False)
class Augmentation:
    """What augmentation does: its keyword arguments, each with the rule for its values.

    Raises UserError for a name or a value that is not valid.
    """

    rotation_range: RANGE = 0  # degrees, in either direction
    # In either direction: a share of the image's size where below 1, else pixels. A whole number n draws whole pixels
    # below n; a list draws one of its values.
    width_shift_range: RANGE | NUMBERS = 0.0
    height_shift_range: RANGE | NUMBERS = 0.0
    shear_range: RANGE = 0.0  # degrees, in either direction
    # z for a factor from 1 - z to 1 + z, or the lowest and the highest factor; drawn for width and height apart.
    zoom_range: NUMBER | PAIR = 0.0
    # What lies outside the image: its nearest pixel, `cval` ("constant"), the image reflected or repeated.
    fill_mode: one_of("nearest", "constant", "reflect", "wrap") = "nearest"
    cval: NUMBER = 0.0
    horizontal_flip: FLAG = False  # flips half of the images
    vertical_flip: FLAG = False
    # Elastic distortion (Simard, Steinkraus and Platt, "Best practices for convolutional neural networks applied to
    # visual document analysis", 2003): each pixel is moved by noise that a Gaussian of `elastic_sigma` pixels has
    # smoothed, times `elastic_alpha` pixels. The paper has 34 and 4 on images of 29x29. Its noise is uniform in -1..1;
    # here it is normal with the same variance: smoothed noise is nearly normal in either case.
    elastic_alpha: RANGE = 0.0
    elastic_sigma: RANGE = 4.0
    # [low, high] pixels: sets a rectangle in each image to 0, whose sides are drawn from this range. As in Zhong et
    # al., "Random erasing data augmentation", 2017 (there: in half of the images, by share of area, filled with noise)
    # and DeVries and Taylor, "Cutout", 2017 (there: a square of one size).
    erasing_range: ZERO | SIDES = 0
    # Mixup (Zhang et al., "mixup: beyond empirical risk minimization", 2018): each image and its label become a mean
    # with another image and its label, with shares w and 1 - w, w from Beta(alpha, alpha), as in keras.layers.MixUp.
    mixup_alpha: ZERO | ALPHA = 0.0
    # KERAS_ONLY: what only ImageDataGenerator does.
    brightness_range: NULL | PAIR = None
    channel_shift_range: RANGE = 0.0
    interpolation_order: whole(0, 6) = 1

    def __init__(self, **settings):
        rules = {field.name: field.type for field in dataclasses.fields(self)}
        for key, value in settings.items():
            if key.startswith(STANDARDIZING):
                told = "changes training images, not those that are predicted: use standardized() in the net instead"
                raise UserError(f"augmentation.{key} {told}")
            rules[choose("augmentation setting", key, rules)].check(f"augmentation.{key}", value)
            setattr(self, key, value)
        if self.elastic_alpha and not self.elastic_sigma:
            raise UserError("augmentation.elastic_sigma must be above 0 where elastic_alpha is")

    @property
    def keras_only(self):
        """The settings that only ImageDataGenerator has and that are not at their defaults: {name: value}."""
        return {key: getattr(self, key) for key in KERAS_ONLY if getattr(self, key) != getattr(Augmentation, key)}

    @property
    def transforms(self):
        """Whether images are changed, each by itself: by anything but mixup."""
        drawn = draw(self, np.random.default_rng(0), 64)
        unchanged = dict(zx=1, zy=1, brightness=1)
        plain = all(np.all(drawn[key] == unchanged.get(key, 0)) for key in drawn.keys() - {"mixup"})
        return not plain or bool(self.elastic_alpha or self.keras_only)

    def engine(self, name):
        """Returns the engine "batch" or "keras". Raises UserError if it cannot do what is set, or is not installed."""
        return KerasEngine(self) if name == "keras" else BatchEngine(self)


# Parameters of each image


SIZE = 28  # pixels of an image in either direction
ERASED = ("erase_top", "erase_left", "erase_height", "erase_width")


def draw(settings, rng, n):
    """Draws the parameters of `n` images from `rng` (numpy.random.Generator). settings: an Augmentation.

    Returns a dict of float64 arrays (n,) with the keys of ImageDataGenerator.get_random_transform: theta (degrees),
    tx, ty (pixels), shear (degrees), zx, zy, flip_horizontal, flip_vertical (0 or 1), channel_shift_intensity,
    brightness; and erase_top, erase_left, erase_height, erase_width (pixels) and mixup (an image's own share). An
    image's parameters do not depend on how many are drawn after it.
    """
    # Transforms added later draw only where they are used, so that runs made before them can be repeated.
    u = iter(rng.random((n, 12 + 4 * bool(settings.erasing_range) + bool(settings.mixup_alpha))).T)
    zoom = settings.zoom_range
    low, high = [1 - zoom, 1 + zoom] if NUMBER.valid(zoom) else zoom
    dark, bright = settings.brightness_range or (1, 1)
    drawn = {
        "theta": _either_way(settings.rotation_range, next(u)),
        "tx": _shifts(settings.height_shift_range, next(u), next(u)),
        "ty": _shifts(settings.width_shift_range, next(u), next(u)),
        "shear": _either_way(settings.shear_range, next(u)),
        "zx": low + (high - low) * next(u),
        "zy": low + (high - low) * next(u),
        "flip_horizontal": (next(u) < 0.5) * float(settings.horizontal_flip),
        "flip_vertical": (next(u) < 0.5) * float(settings.vertical_flip),
        "channel_shift_intensity": _either_way(settings.channel_shift_range, next(u)),
        "brightness": dark + (bright - dark) * next(u),
    }
    drawn |= _rectangles(settings.erasing_range, u) if settings.erasing_range else dict.fromkeys(ERASED, np.zeros(n))
    alpha = settings.mixup_alpha  # uniform numbers become ones distributed as Beta(alpha, alpha)
    return drawn | {"mixup": scipy.special.betaincinv(alpha, alpha, next(u)) if alpha else np.ones(n)}


def _either_way(value, u):
    return (2 * u - 1) * value


def _shifts(value, u_value, u_sign):
    """Shifts in pixels, drawn as ImageDataGenerator draws them."""
    if not np.any(value):
        return np.zeros(len(u_value))
    scale = SIZE if np.max(value) < 1 else 1
    if np.ndim(value) == 0 and not isinstance(value, (int, np.integer)):
        return _either_way(value, u_value) * scale
    choices = np.arange(value) if np.ndim(value) == 0 else np.asarray(value, float)
    return choices[(u_value * len(choices)).astype(int)] * np.where(u_sign < 0.5, -1, 1) * scale


def _rectangles(erasing_range, u):
    """Rectangles within an image: {one of ERASED: pixels}. u: iterator over uniform random numbers (n,)."""
    low, high = erasing_range
    sides = [np.minimum(SIZE, low + (high - low) * next(u)) for _ in range(2)]
    corner = [(SIZE - side) * next(u) for side in sides]
    return dict(zip(ERASED, [*corner, *sides], strict=True))


def draw_elastic(settings, rng, n):
    """Draws displacement fields, float32 (n, 28, 28, 2) in pixels (down, right); None without elastic distortion."""
    if not settings.elastic_alpha:
        return None
    smooth = smoothing(SIZE, settings.elastic_sigma)
    k = smooth.shape[1]
    noise = rng.standard_normal((k, n * 2 * k), dtype=np.float32)
    noise *= settings.elastic_alpha / np.sqrt(np.float32(3))  # the standard deviation of uniform noise in -1..1
    fields = (smooth @ noise).reshape(-1, k) @ smooth.T
    return fields.reshape(SIZE, n, 2, SIZE).transpose(1, 0, 3, 2)


@functools.lru_cache
def smoothing(size, sigma):
    """Returns float32 (size, k): takes k independent normal numbers to `size` numbers, as white noise after a Gaussian.

    These are the components of scipy.ndimage.gaussian_filter1d(mode="constant") that it reduces to no less than a
    thousandth of the first: 10 of 28 for a sigma of 4, which are drawn in a twentieth of the time.
    """
    components, left, _ = np.linalg.svd(scipy.ndimage.gaussian_filter1d(np.eye(size), sigma, axis=0, mode="constant"))
    components *= np.where(components[0] < 0, -1, 1)  # the sign is the library's choice
    return (components * left)[:, left >= 1e-3 * left[0]].astype(np.float32)


# Whole batches


PACKED = (*ERASED, "mixup")  # the parameters that follow the six of the affine matrix


class BatchEngine:
    """Transforms whole batches. Raises UserError if only ImageDataGenerator can do what is set."""

    def __init__(self, settings):
        self.settings = settings
        if own := settings.keras_only:
            raise UserError(f"augmentation {', '.join(own)}: only ImageDataGenerator can: use --augment-engine keras")

    def pack(self, parameters):
        """Returns the parameters from `draw` as one array, mixup last: float32 (n, 6 + len(PACKED))."""
        rest = np.stack([parameters[key] for key in PACKED], axis=1)
        return np.concatenate([affine_matrices(parameters), rest], axis=1).astype(np.float32)

    def transform(self, images, numbers, elastic=None):
        """Returns images float32 (n, 28, 28, 1), transformed, in whichever library's arrays these are.

        numbers: from `pack`. elastic: from `draw_elastic`.
        """
        own = self.settings
        erased = numbers[:, 6:10] if own.erasing_range else None
        return warp(images, numbers[:, :6], elastic, erased, fill_mode=own.fill_mode, cval=own.cval)


def affine_matrices(parameters):
    """Returns ImageDataGenerator's affine matrices and flips for parameters from `draw`, float32 (n, 6).

    A point (x, y) of the output is read at (a0 x + a1 y + a2, b0 x + b1 y + b2).
    """
    theta, shear = np.deg2rad(parameters["theta"]), np.deg2rad(parameters["shear"])
    tx, ty, zx, zy = (parameters[key] for key in ("tx", "ty", "zx", "zy"))
    cos, sin = np.cos(theta), np.sin(theta)
    # rotation @ shift @ shear @ zoom, about the centre
    a0, a1 = cos * zx, (-cos * np.sin(shear) - sin * np.cos(shear)) * zy
    b0, b1 = sin * zx, (-sin * np.sin(shear) + cos * np.cos(shear)) * zy
    centre, last = (SIZE - 1) / 2, SIZE - 1
    a2 = centre - a0 * centre - a1 * centre + cos * tx - sin * ty
    b2 = centre - b0 * centre - b1 * centre + sin * tx + cos * ty
    # A flip comes last, so it is a change of the output's coordinate: x -> width - 1 - x.
    for flip, a, b in ((parameters["flip_horizontal"], a0, b0), (parameters["flip_vertical"], a1, b1)):
        a2, b2 = a2 + flip * a * last, b2 + flip * b * last
        a[:], b[:] = a * (1 - 2 * flip), b * (1 - 2 * flip)
    return np.stack([a0, a1, a2, b0, b1, b2], axis=1).astype(np.float32)


def _compiled(function):
    """Compiles by XLA to one loop over the pixels: three times as fast as TensorFlow's ImageProjectiveTransformV3."""
    if TENSORFLOW:
        import tensorflow as tf

        return tf.function(function, jit_compile=True, reduce_retracing=True, autograph=False)
    import jax

    return jax.jit(function, static_argnames=("fill_mode", "cval"))


@_compiled
def warp(images, matrices, elastic=None, erased=None, *, fill_mode="nearest", cval=0.0):
    """Resamples a batch bilinearly and blackens rectangles. Returns images.

    images: float32 (n, height, width, 1). matrices: (n, 6), from `affine_matrices`. elastic: (n, height, width, 2) or
    None. erased: (n, 4) or None.
    """
    height, width = images.shape[1:3]
    y, x = np.mgrid[:height, :width].astype(np.float32)[:, None]
    if elastic is not None:
        y, x = y + elastic[..., 0], x + elastic[..., 1]
    m = matrices[:, :, None, None]
    x, y = m[:, 0] * x + m[:, 1] * y + m[:, 2], m[:, 3] * x + m[:, 4] * y + m[:, 5]
    images = _sampled(images, y, x, fill_mode, cval)
    if erased is not None:
        boxes = erased[:, :, None, None]
        images = ops.where(in_rectangle(*(boxes[:, i] for i in range(4)), (height, width))[..., None], 0.0, images)
    return images


def _sampled(images, y, x, fill_mode, cval):
    """Bilinear values of `images` at float32 (n, height, width) rows `y` and columns `x`."""
    height, width = images.shape[1:3]
    inside = (y >= 0) & (y <= height - 1) & (x >= 0) & (x <= width - 1)
    y, x = _folded(y, height, fill_mode), _folded(x, width, fill_mode)
    y0, x0 = ops.floor(y), ops.floor(x)
    dy, dx = y - y0, x - x0
    y0, x0 = ops.cast(y0, "int32"), ops.cast(x0, "int32")
    y1, x1 = ops.minimum(y0 + 1, height - 1), ops.minimum(x0 + 1, width - 1)
    flat = ops.reshape(images, [-1])
    first = ops.arange(ops.shape(images)[0], dtype="int32")[:, None, None] * (height * width)

    def at(rows, columns):
        return ops.take(flat, first + rows * width + columns)

    top = at(y0, x0) * (1 - dx) + at(y0, x1) * dx
    bottom = at(y1, x0) * (1 - dx) + at(y1, x1) * dx
    sampled = top * (1 - dy) + bottom * dy
    if fill_mode == "constant":
        sampled = ops.where(inside, sampled, cval)
    return sampled[..., None]


def _folded(at, size, fill_mode):
    """Coordinates brought into an image of `size` pixels as a fill mode brings them."""
    if fill_mode == "reflect":  # d c b a | a b c d | d c b a
        at = ops.mod(at + 0.5, 2 * size)
        at = ops.minimum(at, 2 * size - at) - 0.5
    elif fill_mode == "wrap":
        period = size - 1.0
        below = at + period * (ops.floor(-at / period) + 1)
        above = at - period * ops.floor(at / period)
        at = ops.where(at < 0, below, ops.where(at > period, above, at))
    return ops.clip(at, 0, size - 1)


def in_rectangle(top, left, rows, columns, shape):
    """Which pixels of an image of `shape` have their centre in a rectangle."""
    y, x = np.mgrid[: shape[0], : shape[1]].astype(np.float32) + 0.5
    return (y > top) & (y < top + rows) & (x > left) & (x < left + columns)


def mix(values, shares):
    """Mixup: means of each of a batch's images or labels, float32 (n, ...), and the one before; shares float32 (n,)."""
    shares = ops.reshape(shares, [-1, *[1] * (len(values.shape) - 1)])
    return shares * values + (1 - shares) * ops.roll(values, 1, axis=0)


# Image by image, by ImageDataGenerator


# The parameters that ImageDataGenerator.apply_transform takes for what both engines do, and all that `draw` draws.
AFFINE = ("theta", "tx", "ty", "shear", "zx", "zy", "flip_horizontal", "flip_vertical")
DRAWN = (*AFFINE, "channel_shift_intensity", "brightness", *ERASED, "mixup")


class KerasEngine:
    """Transforms images one after another by ImageDataGenerator, and by SciPy where that has no such transform.

    Raises UserError if TensorFlow is not installed, or ImageDataGenerator refuses its arguments.
    """

    def __init__(self, settings):
        self.settings = settings
        own = settings.keras_only
        what = f"augmentation {', '.join(own)}" if own else "--augment-engine keras"
        told = f"{what} needs its ImageDataGenerator: python -m pip install -r requirements.txt"
        environment.need("tensorflow", told)
        with environment.quiet():  # TensorFlow's notes, where the backend is another
            import tensorflow as tf

        names = (field.name for field in dataclasses.fields(settings) if field.name not in OURS)
        given = {name: getattr(settings, name) for name in names}
        try:
            self.generator = tf.keras.preprocessing.image.ImageDataGenerator(data_format="channels_last", **given)
        except (TypeError, ValueError) as error:
            raise UserError(f"augmentation: {reason(error)}") from error

    def pack(self, parameters):
        """Returns the parameters from `draw` as one array, mixup last: float64 (n, len(DRAWN))."""
        return np.stack([parameters[key] for key in DRAWN], axis=1)

    def transform(self, images, numbers, elastic=None):
        """Returns images float32 (n, 28, 28, 1) in 0..1, transformed. numbers, elastic: as for BatchEngine."""
        fields = [None] * len(images) if elastic is None else elastic
        each = zip(images.astype(np.float32), numbers, fields, strict=True)
        return np.stack([self._transform_one(image, dict(zip(DRAWN, own, strict=True)), f) for image, own, f in each])

    def _transform_one(self, image, own, field):
        """Returns an image (height, width, 1), transformed. own: its parameters. field: its displacements, or None."""
        given = {key: own[key] for key in AFFINE}
        if self.settings.channel_shift_range:
            given["channel_shift_intensity"] = own["channel_shift_intensity"]
        image = self.generator.apply_transform(image, given)
        if self.settings.brightness_range:  # ImageDataGenerator's own expects 0..255: it makes an image in 0..1 black
            image = np.clip(own["brightness"] * image, 0, 1)
        if field is not None:
            rows, columns = np.mgrid[: image.shape[0], : image.shape[1]]
            points = [rows + field[..., 0], columns + field[..., 1]]
            edges = dict(mode=self.settings.fill_mode, cval=self.settings.cval)
            image = scipy.ndimage.map_coordinates(image[..., 0], points, order=1, **edges)[..., None]
        if self.settings.erasing_range:
            image[in_rectangle(*(own[key] for key in ERASED), image.shape[:2])] = 0
        return image.astype(np.float32)
