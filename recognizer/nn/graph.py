"""The graph of a Sequential or functional model: the calls of its layers and operations."""

from typing import Any

import keras

Call = Any  # keras.src.ops.node.Node: operation, arguments, input_tensors, output_tensors


def call_of(tensor: keras.KerasTensor) -> Call:
    """Returns the call that makes a tensor."""
    history = tensor._keras_history
    return history.operation._inbound_nodes[history.node_index]


def calls(model: keras.Model) -> list[Call]:
    """Returns the calls that make a model's outputs, without those inside nested models.

    A layer's own list of its calls is longer if it is also called elsewhere, or if Sequential.add() came after it.
    """
    found: dict[int, Call] = {}
    todo = list(model.outputs)
    while todo:
        call = call_of(todo.pop())
        if id(call) not in found:
            found[id(call)] = call
            todo += call.input_tensors
    return list(found.values())


def number_of_calls(model: keras.Model, operation: keras.Operation) -> int:
    """Returns how often a model calls a layer or operation, also inside nested models."""
    models = [model, *(layer for layer in model._flatten_layers(include_self=False) if getattr(layer, "outputs", None))]
    return sum(call.operation is operation for one in models for call in calls(one))
