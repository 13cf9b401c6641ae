"""Finds the layer whose softmax makes a net's probabilities, so that training can use logits instead."""

import keras

from recognizer.nn.graph import calls


def final_softmax(model: keras.Model, output: int = 0) -> keras.Operation | None:
    """Returns the layer or operation whose softmax makes a model's output; None if there is none.

    It is also None if the layer is called more than once or another layer takes its output, since these must stay
    probabilities, or if it computes something else as well, such as a penalty.
    """
    probabilities = model.outputs[output]
    history = probabilities._keras_history
    last = history.operation
    taken = any(tensor is probabilities for call in calls(model) for tensor in call.input_tensors)
    if taken or len(last._inbound_nodes) != 1:
        return None
    if isinstance(last, keras.Model):
        return final_softmax(last, history.tensor_index) if getattr(last, "outputs", None) else None
    if type(last).__name__ == "Softmax" and type(last).__module__.startswith("keras."):  # layer or operation
        return last if last.axis in (-1, len(probabilities.shape) - 1) else None
    if type(last) not in (keras.layers.Dense, keras.layers.Activation) or last.activity_regularizer is not None:
        return None
    return last if last.activation is keras.activations.softmax else None
