"""The model for training: wraps a net, trains on its logits, records losses, and skips steps that overflow float16.

    model = TrainingModel(network, steps=100, replicas=2)
    model.compile(optimizers.make("adam"), losses.make(label_smoothing=0.1))
    model.fit(batches)                 # Keras's, with its callbacks

The training step is compiled once; one call can execute several steps.
"""

import itertools
import math
import time
from collections.abc import Callable, Iterable
from typing import Any

import keras
import numpy as np
from keras import ops

from recognizer.base.backend import TENSORFLOW, Tensor
from recognizer.nn import copies, losses
from recognizer.nn.logits import final_softmax

if TENSORFLOW:
    import tensorflow as tf
if keras.backend.backend() == "jax":
    import jax


SMALLEST_SCALE = 2.0**-10  # a smaller loss scale means that the loss itself is not finite
CALL = 0.5  # seconds that one call may take, so that Ctrl-C and the progress line respond
MOST_STEPS = 32  # in one call; more steps save no time
SURE = 0.05  # seconds; a call that takes longer needs no second measurement
SMALL_STEP = 0.005  # seconds; with longer steps JAX saves no time by executing several in one call


class Epoch(keras.metrics.Metric):
    """The learning rate and the loss of each step of an epoch.

    It is a metric, so that Keras resets `done` when an epoch begins, and passes the variables to JAX's compiled step.

    Variables:
        rates: float32 (steps,), set before the epoch.
        losses: float32 (steps,), NaN for a skipped step.
        done: integer, the number of steps so far, skipped ones included.
    """

    def __init__(self, steps: int) -> None:
        super().__init__(name="epoch")
        self.steps = steps
        self.rates = self.add_variable((steps,), "zeros", name="rates")
        self.losses = self.add_variable((steps,), "zeros", name="losses")
        self.done = self.add_variable((), "zeros", dtype="int", name="done")

    def rate(self) -> Tensor:
        """Returns the learning rate of the current step, a float32 scalar."""
        return ops.take(self.rates.value, self.done.value)

    def update_state(self, loss: Tensor) -> None:
        """Records the loss of a step, a float32 scalar."""
        at = ops.cast(ops.reshape(self.done.value, (1,)), "int32")
        self.losses.assign(ops.slice_update(self.losses.value, at, ops.reshape(ops.cast(loss, "float32"), (1,))))
        self.done.assign(self.done.value + 1)

    def reset_state(self) -> None:
        self.done.assign(0)  # keeps the losses: validation resets the metrics before they are read

    def result(self) -> dict:
        return {}  # nothing for the logs


class TrainingModel(keras.Model):
    """Trains a net on each batch in `replicas` equal parts, which TensorFlow computes in parallel.

    This is faster than dividing every operation on the whole batch among the cores. As under tf.distribute, batch
    normalization normalizes each part separately (ghost batch normalization), and updates its moving statistics once
    for each part. Everything else is the same maths.

    Arguments:
        network: a built keras.Model from (n, 28, 28, 1) to probabilities (n, classes). Its softmax is
            removed; `plain` returns a copy that has it.
        steps: int, the number of steps in an epoch.
        replicas: int, the number of parts of a batch.

    Its outputs are logits, since a loss on probabilities has no gradient where they round to 0 or 1.
    """

    train_function: Callable | None  # of keras.Model

    def __init__(self, network: keras.Model, steps: int, replicas: int = 1) -> None:
        super().__init__()
        self.network, self.replicas, self.parts = network, replicas, 1
        self.epoch = Epoch(steps)
        self.softmax = final_softmax(network)
        if self.softmax is not None and hasattr(self.softmax, "activation"):
            self.softmax.activation = keras.activations.linear
        elif self.softmax is not None:
            self.softmax.call = lambda inputs, *_, **__: inputs
        self.built = True

    def call(self, inputs: Tensor, training: bool = False) -> Tensor:
        parts = ops.split(inputs, self.replicas) if training and self.replicas > 1 else [inputs]
        self.parts = len(parts)
        outputs = [self.network(part, training=training) for part in parts]
        outputs = ops.concatenate(outputs) if len(outputs) > 1 else outputs[0]
        if self.softmax is None:  # logarithms of probabilities are logits, too
            outputs = ops.log(ops.maximum(ops.cast(outputs, "float32"), np.finfo(np.float32).tiny))
        return outputs

    @property
    def losses(self) -> list[Tensor]:
        """The regularization losses. Activity losses occur once for each part of a batch, so their mean is used."""
        penalties = super().losses
        on_weights = sum(variable.regularizer is not None for variable in self.trainable_weights)
        on_activities, others = penalties[: len(penalties) - on_weights], penalties[len(penalties) - on_weights :]
        return [penalty / self.parts for penalty in on_activities] + others

    def plain(self) -> keras.Model:
        """Returns a copy of the net in Keras's own layers and float32, with its final softmax."""
        if self.softmax is None or not hasattr(self.softmax, "activation"):  # a copy from the config has the softmax
            return copies.plain(self.network)
        self.softmax.activation = keras.activations.softmax
        try:
            return copies.plain(self.network)
        finally:
            self.softmax.activation = keras.activations.linear

    def compile(
        self, optimizer: keras.optimizers.Optimizer, loss: keras.losses.Loss | None = None, scale_loss: bool = False
    ) -> None:
        """Prepares training.

        loss: a loss from losses.make; None: cross-entropy.
        scale_loss: bool, whether to scale the loss by an adaptive factor, so that float16 gradients do not underflow. A
            step whose loss, statistics or gradients are not finite is skipped, and halves the factor.
        """
        self.scale_loss = scale_loss
        optimizer.build(self.network.trainable_variables)
        if scale_loss:
            optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
            optimizer.build(self.network.trainable_variables)
        # The metric is weighted, so that a skipped step does not count.
        super().compile(optimizer, loss or losses.make(), weighted_metrics=["accuracy"], auto_scale_loss=False)
        # Create the metrics' variables now: variables created while `fit` traces a step keep its graph in memory.
        nothing = np.zeros((1, self.network.output_shape[-1]), np.float32)
        self.compute_metrics(None, nothing, nothing)
        self.reset_metrics()

    def state(self) -> list[keras.Variable]:
        """Returns the variables that a checkpoint must hold: the weights and the optimizer's state."""
        rate = self.optimizer.learning_rate  # set at each step
        return [*self.weights, *(variable for variable in self.optimizer.variables if variable is not rate)]

    def fit(self, *data: Any, **options: Any) -> keras.callbacks.History:
        # After `fit`, a weight and its EMA share one array. The next `fit` cannot donate it to JAX's step twice.
        for weight in self.trainable_weights:
            weight.assign(ops.copy(weight))
        return super().fit(*data, **options)

    # Training steps

    def _tensorflow_step(self, data):
        x, y, weights = _unpacked(data)
        statistics = self.non_trainable_weights if self.scale_loss else []
        before = [tf.identity(variable) for variable in statistics]
        with tf.GradientTape() as tape:
            logits = self(x, training=True)
            loss = self.compute_loss(x, y, logits, weights)
            scaled = self.optimizer.scale_loss(loss)
        variables = self.trainable_weights
        gradients = tape.gradient(scaled, variables)
        sound = None
        if self.scale_loss:
            sound = _all_finite([loss, *statistics])
            gradients = _made_nan_unless(sound, gradients)
            sound = sound & _all_finite(gradients)
            for variable, value in zip(statistics, before, strict=True):
                variable.assign(tf.where(sound, variable, value))
        self.optimizer.learning_rate.assign(self.epoch.rate())
        self.optimizer.apply(gradients, variables)
        return self._record(x, y, logits, loss, sound)

    def _jax_step(self, state, data):
        x, y, weights = _unpacked(data)
        trainable, before, optimizer, metrics = state
        gradient_of = jax.value_and_grad(self.compute_loss_and_updates, has_aux=True)
        aux, gradients = gradient_of(trainable, before, metrics, x, y, weights, True, optimizer)
        loss, logits, others, metrics = aux[1]
        sound = None
        if self.scale_loss:
            kept = {id(variable) for variable in self.non_trainable_weights}
            statistics = [i for i, variable in enumerate(self.non_trainable_variables) if id(variable) in kept]
            sound = _all_finite([loss, *(others[i] for i in statistics)])
            gradients = _made_nan_unless(sound, gradients)
            sound = sound & _all_finite(gradients)
            for i in statistics:
                others[i] = ops.where(sound, others[i], before[i])
        with keras.StatelessScope(list(zip(self.metrics_variables, metrics, strict=True))) as scope:
            rate = self.epoch.rate()
            logs = self._record(x, y, logits, loss, sound)
        metrics = [scope.get_current_value(variable) for variable in self.metrics_variables]
        at = next(i for i, v in enumerate(self.optimizer.variables) if v is self.optimizer.learning_rate)
        optimizer = [*optimizer[:at], rate, *optimizer[at + 1 :]]
        trainable, optimizer = self.optimizer.stateless_apply(optimizer, gradients, trainable)
        return logs, (trainable, others, optimizer, metrics)

    def _record(self, x, y, logits, loss, sound):
        """Updates the metrics after a step; returns the logs. sound: whether the step was made; None: always made."""
        n, weights, recorded = ops.shape(x)[0], None, loss
        if sound is not None:
            recorded, loss = ops.where(sound, loss, np.nan), ops.where(sound, loss, 0.0)
            n = ops.where(sound, n, 0)
            weights = ops.repeat(ops.cast(sound, "float32"), ops.shape(y)[0])
        self.epoch.update_state(recorded)
        self._loss_tracker.update_state(loss, sample_weight=n)
        return self.compute_metrics(x, y, logits, weights)

    train_step = _tensorflow_step if TENSORFLOW else _jax_step

    # Several steps in one call

    def make_train_function(self, force: bool = False) -> None:
        if self.train_function is None or force:
            self.train_function = self._tensorflow_calls() if TENSORFLOW else self._jax_calls()

    def _tensorflow_calls(self):
        step = tf.function(self.train_step, jit_compile=self.jit_compile, reduce_retracing=True)

        @tf.function(reduce_retracing=True, autograph=False)
        def several(iterator, most):
            left = self.epoch.steps - tf.cast(self.epoch.done.value, tf.int32)
            count = tf.minimum(most, left)

            def one(i):
                step(iterator.get_next())
                return [i + 1]

            tf.while_loop(lambda i: i < count, one, [tf.constant(0)])
            return self.get_metrics_result()

        return lambda iterator: several(iterator, tf.constant(self.steps_per_execution))

    def _jax_calls(self):
        jit = jax.jit if self.jit_compile else lambda function, **_: function
        one = jit(self.train_step, donate_argnums=0)

        def scanned(state, batches):
            def step(state, batch):
                logs, state = self.train_step(state, batch)
                return state, logs

            state, logs = jax.lax.scan(step, state, batches)
            return {key: values[-1] for key, values in logs.items()}, state

        several = jit(scanned, donate_argnums=0)

        def calls(state, iterator):
            batches = list(itertools.islice(iterator, self.steps_per_execution))
            if not batches:
                raise StopIteration
            full = len(batches) == self.steps_per_execution > 1
            if full and self.jit_compile and len({batch[0].shape for batch in batches}) == 1:
                stack = np.stack if isinstance(batches[0][0], np.ndarray) else jax.numpy.stack  # stays on device
                return several(state, [stack(part) for part in zip(*batches, strict=True)])
            for batch in batches:
                logs, state = one(state, batch)
            return logs, state

        return calls

    def warm_up(self, batches: Iterable) -> None:
        """Compiles the training step, measures it (`step_seconds`), and chooses how many steps a call executes.

        batches: the batches of an epoch. Some steps are made, which change the weights and the optimizer's state.
        Raises FloatingPointError if their loss is NaN or infinite.
        """
        self.step_seconds = self._time(batches, 1)
        several = int(np.clip(CALL / self.step_seconds, 1, min(MOST_STEPS, self.epoch.steps)))
        if not TENSORFLOW and several > 1:
            # A compiled loop over several steps saves time only if calling a step takes a large part of its time.
            small = self.jit_compile and self.step_seconds < SMALL_STEP
            seconds = self._time(batches, several) if small else math.inf
            if seconds < 0.75 * self.step_seconds:
                self.step_seconds = seconds
            else:
                several = 1
        self.steps_per_execution = several

    def _time(self, batches, several):
        """Returns the seconds of a step if each call executes `several` steps. The first call does not count."""
        self.steps_per_execution = several
        clock = _Clock()
        calls = max(1, min(3, self.epoch.steps // several))
        for _ in range(1 if calls > 1 else 3):
            self.fit(batches, steps_per_epoch=calls * several, shuffle=False, verbose=0, callbacks=[clock])
        return max(min(np.diff(clock.times)) / several, 1e-6)

    def steps_per_second(self, batches: Iterable, seconds: float) -> float:
        """Trains on the batches of one epoch repeatedly for some seconds; returns the number of steps per second."""
        pace = _Pace(seconds)
        self.fit(batches, epochs=10**6, shuffle=False, verbose=0, callbacks=[pace])
        return pace.steps / pace.seconds


class _Pace(keras.callbacks.Callback):
    def __init__(self, limit):
        super().__init__()
        self.limit, self.started = limit, time.perf_counter()

    def on_epoch_begin(self, epoch, logs=None):
        self.before = epoch * self.params["steps"]

    def on_train_batch_end(self, batch, logs=None):
        float(logs["loss"])  # waits until JAX has computed it
        self.steps, self.seconds = self.before + batch + 1, time.perf_counter() - self.started
        if self.seconds > self.limit:
            self.model.stop_training = True


class _Clock(keras.callbacks.Callback):
    def __init__(self):
        super().__init__()
        self.times = []

    def on_train_batch_end(self, batch, logs=None):
        if not math.isfinite(logs["loss"]):  # also waits until JAX has computed it
            raise FloatingPointError(f"the loss is {logs['loss']} in the first steps")
        self.times.append(time.perf_counter())
        if len(self.times) > 1 and self.times[-1] - self.times[-2] > SURE:
            self.model.stop_training = True


def _unpacked(batch):
    """Returns (x, y, sample weights) of a batch; the sample weights may be None."""
    x, y, *weights = batch
    return x, y, weights[0] if weights else None


def _all_finite(tensors):
    """Returns whether all elements of floating-point tensors are finite, a bool scalar. Skips tensors that are None."""
    return ops.all(ops.stack([ops.all(ops.isfinite(tensor)) for tensor in tensors if tensor is not None]))


def _made_nan_unless(sound, gradients):
    """Returns the gradients, with NaN in one unless `sound`, so that Keras's LossScaleOptimizer skips the step."""
    first = next(i for i, gradient in enumerate(gradients) if gradient is not None)
    factor = ops.cast(ops.where(sound, 1.0, np.nan), gradients[first].dtype)
    return [*gradients[:first], ops.multiply(gradients[first], factor), *gradients[first + 1 :]]
