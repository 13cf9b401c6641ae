"""Augmentation of digits: the settings, the random parameters of each image, and the transforms.

    python -m recognizer plot augmented --recipe grenholm                      # five digits, each augmented six times
    python -m recognizer plot augmented --set augmentation.rotation_range=30   # the same with another setting

From top to bottom:
    Augmentation        the settings, with defaults and checks: those of Keras's ImageDataGenerator, and some more
    draw, draw_elastic  draw random parameters for each image with NumPy
    BatchEngine         the default: transforms a whole batch with these parameters in one compiled function
    KerasEngine         transforms images one by one with ImageDataGenerator (train.py --augment-engine keras): over ten
                        times slower, has a few more transforms, needs TensorFlow
    mix                 mixup of the images and the labels of a batch, after either engine

To add a transform, add a setting to Augmentation and OURS, its parameters to `draw` (after the others, so that older
runs can be repeated) and to PACKED and DRAWN (before mixup), and the transform itself to `warp` and KerasEngine.

Both engines use the same parameters and agree on every pixel to 1e-4 (images in 0..1) in all four fill modes. Edges are
like SciPy's: with "wrap" the first and the last pixel coincide (a period of n - 1 pixels), and with "constant" every
point outside becomes `cval`. In these two modes, a point can differ if rounding moves it across the border. For elastic
distortion and other transforms together, the batch engine resamples once and KerasEngine twice, so the latter's strokes
are slightly softer.
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Annotated, Any, get_type_hints

import numpy as np
import scipy.ndimage
import scipy.special
from keras import ops

from recognizer.base import environment
from recognizer.base.backend import TENSORFLOW, Tensor
from recognizer.base.errors import UserError
from recognizer.base.reasons import reason
from recognizer.base.rules import FLAG, NULL, NUMBER, Rule, number, one_of, whole
from recognizer.base.words import choose

Parameters = dict[str, np.ndarray]  # from `draw`

# Settings

RANGE = number()
UNIT = Rule("a number from 0 to 1", lambda value: NUMBER.valid(value) and 0 <= value <= 1)
ALPHA = Rule("a number from 0.01 to 100", lambda value: NUMBER.valid(value) and 0.01 <= value <= 100)
ZERO = Rule("0", lambda value: NUMBER.valid(value) and value == 0)
LIST = Rule("a list", lambda value: isinstance(value, (list, tuple)) and len(value) > 0)
NUMBERS = Rule("a list of numbers", lambda value: LIST.valid(value) and all(map(NUMBER.valid, value)))
PAIR = Rule("[low, high]", lambda value: NUMBERS.valid(value) and len(value) == 2)
FACTORS = Rule("[low, high] from 0.1 to 10", lambda value: PAIR.valid(value) and all(0.1 <= x <= 10 for x in value))
SIDES = Rule("[low, high] pixels, from 1 on", lambda value: PAIR.valid(value) and 1 <= value[0] <= value[1])

OURS = {"elastic_alpha", "elastic_sigma", "erasing_range", "mixup_alpha"}  # not ImageDataGenerator's
KERAS_ONLY = ("brightness_range", "channel_shift_range", "interpolation_order")
STANDARDIZING = ("featurewise_", "samplewise_", "zca_")  # prefixes of ImageDataGenerator's settings that are refused


@dataclasses.dataclass(init=False)
class Augmentation:
    """The augmentation settings as keyword arguments. Each is annotated with the rule for its values.

    Raises UserError for a name or a value that is not valid.
    """

    rotation_range: Annotated[float, RANGE] = 0  # degrees, in either direction
    # In either direction: a fraction of the image's size if below 1, else pixels. An integer n draws an integer number
    # of pixels below n; a list draws one of its values.
    width_shift_range: Annotated[float | Sequence[float], RANGE | NUMBERS] = 0.0
    height_shift_range: Annotated[float | Sequence[float], RANGE | NUMBERS] = 0.0
    shear_range: Annotated[float, RANGE] = 0.0  # degrees, in either direction
    # A number z: factors from 1 - z to 1 + z. [low, high]: factors from low to high. Width and height get independent
    # factors. A factor of 2 halves the digit, .5 doubles it; 0 would spread one pixel over the whole image.
    zoom_range: Annotated[float | Sequence[float], UNIT | FACTORS] = 0.0
    # How to fill points outside the image: nearest pixel, `cval` ("constant"), reflected image, or repeated image.
    fill_mode: Annotated[str, one_of("nearest", "constant", "reflect", "wrap")] = "nearest"
    cval: Annotated[float, NUMBER] = 0.0
    horizontal_flip: Annotated[bool, FLAG] = False  # flips half of the images
    vertical_flip: Annotated[bool, FLAG] = False
    # Elastic distortion (Simard, Steinkraus and Platt, "Best practices for convolutional neural networks applied to
    # visual document analysis", 2003): moves each pixel by noise, smoothed by a Gaussian of `elastic_sigma` pixels and
    # multiplied by `elastic_alpha` pixels. The paper uses alpha 34 and sigma 4 on 29x29 images. Its noise is uniform in
    # -1..1; here it is normal with the same variance, since smoothed noise is nearly normal in either case.
    elastic_alpha: Annotated[float, RANGE] = 0.0
    elastic_sigma: Annotated[float, RANGE] = 4.0
    # [low, high] pixels: sets a rectangle in each image to 0, with sides drawn from this range. Similar methods: Zhong
    # et al., "Random erasing data augmentation", 2017, erase in half of the images, choose the size by area, and fill
    # with noise; DeVries and Taylor, "Cutout", 2017, erase a square of fixed size.
    erasing_range: Annotated[float | Sequence[float], ZERO | SIDES] = 0
    # Mixup (Zhang et al., "mixup: beyond empirical risk minimization", 2018): replaces each image and its label by the
    # mean with another image and its label, weighted w and 1 - w, w from Beta(alpha, alpha), as in keras.layers.MixUp.
    mixup_alpha: Annotated[float, ZERO | ALPHA] = 0.0
    # KERAS_ONLY: settings that only ImageDataGenerator supports.
    brightness_range: Annotated[Sequence[float] | None, NULL | FACTORS] = None  # factors; 0 would make images black
    channel_shift_range: Annotated[float, RANGE] = 0.0
    interpolation_order: Annotated[int, whole(0, 6)] = 1

    def __init__(self, **settings: Any) -> None:
        hints = get_type_hints(Augmentation, include_extras=True)
        rules = {key: hint.__metadata__[0] for key, hint in hints.items()}
        for key, value in settings.items():
            if key.startswith(STANDARDIZING):
                told = "changes training images, not those that are predicted: use standardized() in the net instead"
                raise UserError(f"augmentation.{key} {told}")
            rules[choose("augmentation setting", key, rules)].check(f"augmentation.{key}", value)
            setattr(self, key, value)
        if self.elastic_alpha and not self.elastic_sigma:
            raise UserError("augmentation.elastic_sigma must be above 0 if elastic_alpha is")

    @property
    def keras_only(self) -> dict:
        """{name: value} of the settings that only ImageDataGenerator has and that differ from their defaults."""
        return {key: getattr(self, key) for key in KERAS_ONLY if getattr(self, key) != getattr(Augmentation, key)}

    @property
    def transforms(self) -> bool:
        """Whether any setting other than mixup changes images."""
        drawn = draw(self, np.random.default_rng(0), 64)
        unchanged = dict(zx=1, zy=1, brightness=1)
        plain = all(np.all(drawn[key] == unchanged.get(key, 0)) for key in drawn.keys() - {"mixup"})
        return not plain or bool(self.elastic_alpha or self.keras_only)

    def engine(self, name: str) -> "BatchEngine | KerasEngine":
        """Returns the engine "batch" or "keras". Raises UserError if it lacks a transform or is not installed."""
        return KerasEngine(self) if name == "keras" else BatchEngine(self)


# Parameters of each image


SIZE = 28  # pixels of an image in either direction
ERASED = ("erase_top", "erase_left", "erase_height", "erase_width")


def draw(settings: Augmentation, rng: np.random.Generator, n: int) -> Parameters:
    """Draws the parameters of `n` images from `rng`.

    Returns a dict of float64 arrays (n,) with the keys of ImageDataGenerator.get_random_transform: theta (degrees),
    tx, ty (pixels), shear (degrees), zx, zy, flip_horizontal, flip_vertical (0 or 1), channel_shift_intensity,
    brightness; and erase_top, erase_left, erase_height, erase_width (pixels) and mixup (the weight of the image itself,
    0..1). An image's parameters do not depend on the number of images after it.
    """
    # Newer transforms draw numbers only if they are used, so that older runs can be repeated.
    u = iter(rng.random((n, 12 + 4 * bool(settings.erasing_range) + bool(settings.mixup_alpha))).T)
    zoom = settings.zoom_range
    low, high = zoom if isinstance(zoom, Sequence) else (1 - zoom, 1 + zoom)
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
    alpha = settings.mixup_alpha  # betaincinv maps uniform numbers to numbers from Beta(alpha, alpha)
    return drawn | {"mixup": scipy.special.betaincinv(alpha, alpha, next(u)) if alpha else np.ones(n)}


def _either_way(value, u):
    return (2 * u - 1) * value


def _shifts(value, u_value, u_sign):
    """Returns shifts in pixels, drawn as ImageDataGenerator draws them."""
    if not np.any(value):
        return np.zeros(len(u_value))
    scale = SIZE if np.max(value) < 1 else 1
    if np.ndim(value) == 0 and not isinstance(value, (int, np.integer)):
        return _either_way(value, u_value) * scale
    choices = np.arange(value) if np.ndim(value) == 0 else np.asarray(value, float)
    return choices[(u_value * len(choices)).astype(int)] * np.where(u_sign < 0.5, -1, 1) * scale


def _rectangles(erasing_range, u):
    """Returns rectangles in the image, {key of ERASED: pixels (n,)}. u: iterator over uniform random numbers (n,)."""
    low, high = erasing_range
    sides = [np.minimum(SIZE, low + (high - low) * next(u)) for _ in range(2)]
    corner = [(SIZE - side) * next(u) for side in sides]
    return dict(zip(ERASED, [*corner, *sides], strict=True))


def draw_elastic(settings: Augmentation, rng: np.random.Generator, n: int) -> np.ndarray | None:
    """Returns displacement fields, float32 (n, 28, 28, 2) in pixels (down, right); None without elastic distortion."""
    if not settings.elastic_alpha:
        return None
    smooth = smoothing(SIZE, settings.elastic_sigma)
    k = smooth.shape[1]
    noise = rng.standard_normal((k, n * 2 * k), dtype=np.float32)
    noise *= settings.elastic_alpha / np.sqrt(np.float32(3))  # the standard deviation of uniform noise in -1..1
    fields = (smooth @ noise).reshape(-1, k) @ smooth.T
    return fields.reshape(SIZE, n, 2, SIZE).transpose(1, 0, 3, 2)


@functools.lru_cache
def smoothing(size: int, sigma: float) -> np.ndarray:
    """Returns a float32 matrix (size, k) that maps k independent normal numbers to Gaussian-filtered white noise.

    Its columns are the left singular vectors of scipy.ndimage.gaussian_filter1d(mode="constant"), times the singular
    values. Values below a thousandth of the largest are left out: a sigma of 4 keeps 10 of 28.
    """
    components, left, _ = np.linalg.svd(scipy.ndimage.gaussian_filter1d(np.eye(size), sigma, axis=0, mode="constant"))
    components *= np.where(components[0] < 0, -1, 1)  # fixes the sign, which depends on the library
    return (components * left)[:, left >= 1e-3 * left[0]].astype(np.float32)


# Whole batches


PACKED = (*ERASED, "mixup")  # the parameters after the six of the affine matrix


class BatchEngine:
    """Transforms whole batches. Raises UserError if a setting needs ImageDataGenerator."""

    def __init__(self, settings: Augmentation) -> None:
        self.settings = settings
        if own := settings.keras_only:
            raise UserError(f"augmentation {', '.join(own)} needs ImageDataGenerator: use --augment-engine keras")

    def pack(self, parameters: Parameters) -> np.ndarray:
        """Returns the parameters from `draw` as one array, mixup last: float32 (n, 6 + len(PACKED))."""
        rest = np.stack([parameters[key] for key in PACKED], axis=1)
        return np.concatenate([affine_matrices(parameters), rest], axis=1).astype(np.float32)

    def transform(self, images: Tensor, numbers: Tensor, elastic: Tensor | None = None) -> Tensor:
        """Returns the transformed images as tensors of the backend.

        images: float32 (n, 28, 28, 1). numbers: from `pack`. elastic: from `draw_elastic`.
        """
        own = self.settings
        erased = numbers[:, 6:10] if own.erasing_range else None
        return warp(images, numbers[:, :6], elastic, erased, fill_mode=own.fill_mode, cval=own.cval)


def affine_matrices(parameters: Parameters) -> np.ndarray:
    """Returns ImageDataGenerator's affine matrices, with flips, for parameters from `draw`: float32 (n, 6).

    The output at (x, y) is the input at (a0 x + a1 y + a2, b0 x + b1 y + b2).
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
    # A flip comes last, so it changes the output's coordinate: x -> width - 1 - x.
    for flip, a, b in ((parameters["flip_horizontal"], a0, b0), (parameters["flip_vertical"], a1, b1)):
        a2, b2 = a2 + flip * a * last, b2 + flip * b * last
        a[:], b[:] = a * (1 - 2 * flip), b * (1 - 2 * flip)
    return np.stack([a0, a1, a2, b0, b1, b2], axis=1).astype(np.float32)


def _compiled(function):
    """Compiles a function with XLA to a single loop: three times as fast as TensorFlow's ImageProjectiveTransformV3."""
    if TENSORFLOW:
        import tensorflow as tf

        return tf.function(function, jit_compile=True, reduce_retracing=True, autograph=False)
    import jax

    return jax.jit(function, static_argnames=("fill_mode", "cval"))


@_compiled
def warp(
    images: Tensor,
    matrices: Tensor,
    elastic: Tensor | None = None,
    erased: Tensor | None = None,
    *,
    fill_mode: str = "nearest",
    cval: float = 0.0,
) -> Tensor:
    """Returns the images, resampled bilinearly, with rectangles set to 0.

    images: float32 (n, height, width, 1). matrices: (n, 6), from `affine_matrices`. elastic: displacements (n, height,
    width, 2) in pixels, or None. erased: rectangles (n, 4), in the order of ERASED, or None.
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
        top, left, rows, columns = (boxes[:, i] for i in range(4))
        images = ops.where(in_rectangle(top, left, rows, columns, (height, width))[..., None], 0.0, images)
    return images


def _sampled(images, y, x, fill_mode, cval):
    """Returns `images` interpolated bilinearly at rows `y` and columns `x`, float32 (n, height, width) each."""
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
    """Returns coordinates mapped into an image of `size` pixels according to a fill mode."""
    if fill_mode == "reflect":  # d c b a | a b c d | d c b a
        at = ops.mod(at + 0.5, 2 * size)
        at = ops.minimum(at, 2 * size - at) - 0.5
    elif fill_mode == "wrap":
        period = size - 1.0
        below = at + period * (ops.floor(-at / period) + 1)
        above = at - period * ops.floor(at / period)
        at = ops.where(at < 0, below, ops.where(at > period, above, at))
    return ops.clip(at, 0, size - 1)


def in_rectangle(top: Tensor, left: Tensor, rows: Tensor, columns: Tensor, shape: tuple[int, int]) -> Tensor:
    """Returns a bool array: whether the centre of each pixel of an image of `shape` lies in a rectangle."""
    y, x = np.mgrid[: shape[0], : shape[1]].astype(np.float32) + 0.5
    return (y > top) & (y < top + rows) & (x > left) & (x < left + columns)


def mix(values: Tensor, shares: Tensor) -> Tensor:
    """Returns images or labels after mixup, float32 (n, ...): the weighted mean of each and the previous one.

    shares: (n,), the weight of each.
    """
    shares = ops.reshape(shares, [-1, *[1] * (len(values.shape) - 1)])
    return shares * values + (1 - shares) * ops.roll(values, 1, axis=0)


# Image by image, by ImageDataGenerator


# The parameters for ImageDataGenerator.apply_transform that both engines support, and all parameters from `draw`.
AFFINE = ("theta", "tx", "ty", "shear", "zx", "zy", "flip_horizontal", "flip_vertical")
DRAWN = (*AFFINE, "channel_shift_intensity", "brightness", *ERASED, "mixup")


class KerasEngine:
    """Transforms images one by one with ImageDataGenerator, and with SciPy if ImageDataGenerator lacks the transform.

    Raises UserError if TensorFlow is not installed, or if ImageDataGenerator refuses its arguments.
    """

    def __init__(self, settings: Augmentation) -> None:
        self.settings = settings
        own = settings.keras_only
        what = f"augmentation {', '.join(own)}" if own else "--augment-engine keras"
        told = f"{what} needs its ImageDataGenerator: python -m pip install -r requirements.txt"
        environment.need("tensorflow", told)
        with environment.quiet():  # hides TensorFlow's messages
            import tensorflow as tf

        names = (field.name for field in dataclasses.fields(settings) if field.name not in OURS)
        given = {name: getattr(settings, name) for name in names}
        try:
            self.generator = tf.keras.preprocessing.image.ImageDataGenerator(data_format="channels_last", **given)
        except (TypeError, ValueError) as error:
            raise UserError(f"augmentation: {reason(error)}") from error

    def pack(self, parameters: Parameters) -> np.ndarray:
        """Returns the parameters from `draw` as one array, mixup last: float64 (n, len(DRAWN))."""
        return np.stack([parameters[key] for key in DRAWN], axis=1)

    def transform(self, images: np.ndarray, numbers: np.ndarray, elastic: np.ndarray | None = None) -> np.ndarray:
        """Returns the transformed images. images: float32 (n, 28, 28, 1) in 0..1. numbers, elastic: see BatchEngine."""
        fields = [None] * len(images) if elastic is None else elastic
        each = zip(images.astype(np.float32), numbers, fields, strict=True)
        return np.stack([self._transform_one(image, dict(zip(DRAWN, own, strict=True)), f) for image, own, f in each])

    def _transform_one(self, image, own, field):
        """Returns a transformed image (height, width, 1). own: its parameters. field: its displacements, or None."""
        given = {key: own[key] for key in AFFINE}
        if self.settings.channel_shift_range:
            given["channel_shift_intensity"] = own["channel_shift_intensity"]
        image = self.generator.apply_transform(image, given)
        if self.settings.brightness_range:  # ImageDataGenerator expects 0..255 and would make the image black
            image = np.clip(own["brightness"] * image, 0, 1)
        if field is not None:
            rows, columns = np.mgrid[: image.shape[0], : image.shape[1]]
            points = [rows + field[..., 0], columns + field[..., 1]]
            edges = dict(mode=self.settings.fill_mode, cval=self.settings.cval)
            image = scipy.ndimage.map_coordinates(image[..., 0], points, order=1, **edges)[..., None]
        if self.settings.erasing_range:
            image[in_rectangle(*(own[key] for key in ERASED), image.shape[:2])] = 0
        return image.astype(np.float32)
