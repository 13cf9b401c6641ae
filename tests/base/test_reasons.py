"""Messages of Keras's errors become one line that says why."""

import time

import pytest

from recognizer.base.reasons import reason


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (
            "name 'Activation' is not defined",
            "name 'Activation' is not defined; if Activation is a layer of Keras, add it to the import above",
        ),
        ("name 'NEURONS' is not defined", "name 'NEURONS' is not defined"),
        (
            "name 'layers' is not defined",
            "name 'layers' is not defined; write keras.layers instead, or the name of the layer alone",
        ),
        (
            "Exception encountered when calling MaxPooling2D.call().\n\n"
            "\x1b[1mComputed output size would be zero.\x1b[0m\n\n"
            "Arguments received by MaxPooling2D.call():\n  • args=('<KerasTensor shape=(None, 1, 1, 8), name=x>',)",
            "MaxPooling2D: Computed output size would be zero (input (None, 1, 1, 8))",
        ),
        (
            "{{function_node __wrapped__MatMul_device_/job:localhost/task:0/device:CPU:0}} Matrix size-incompatible: "
            "In[0]: [2,784], In[1]: [10,20] [Op:MatMul] name: ",
            "Matrix size-incompatible: In[0]: [2,784], In[1]: [10,20]",
        ),
        (
            "Graph execution error:\n\nDetected at node add defined at (most recent call last):\n"
            '  File "/home/a/train.py", line 9, in <module>\n\nIncompatible shapes: [8,10] vs. [8,12]\n'
            "\t [[{{node add}}]] [Op:__inference_multi_step_on_iterator_123]",
            "Incompatible shapes: [8,10] vs. [8,12]",
        ),
        (
            'in user code:\n\n    File "/home/a/models.py", line 12, in call  *\n        return x @ w\n\n'
            "    ValueError: Shapes (8, 3) and (4, 5) are incompatible\n",
            "Shapes (8, 3) and (4, 5) are incompatible",
        ),
        (
            "Attempted boolean conversion of traced array with shape bool[].\nThe error occurred while tracing.\n"
            "--------------------\nFor simplicity, JAX has removed its internal frames",
            "Attempted boolean conversion of traced array with shape bool[]. The error occurred while tracing",
        ),
        (
            "<class 'models.Mine'> could not be deserialized properly. Please ensure that ...\n\nconfig={'a': 1}.\n\n"
            "Exception encountered: Mine.__init__() missing 1 required positional argument: 'n'",
            "Mine cannot be made again from its get_config(): Mine.__init__() missing 1 required positional argument: "
            "'n'; its get_config() should return every argument of its __init__",
        ),
        (
            "Could not interpret initializer identifier: he_norm",
            "Could not interpret initializer identifier: he_norm; the names are those in keras.initializers",
        ),
        ("", "ValueError without a message"),
        ("word " * 400, "word " * 39 + "w ..."),
    ],
)
def test_a_message_of_many_lines_becomes_its_cause(text, line):
    assert reason(ValueError(text)) == line


def test_no_message_takes_long_or_more_than_a_line():
    for part in ("\n", "\n \n", "(", "/(", "<", "a.", "x.<locals>.", "a\n [[", "\x1b[1m"):
        for start in (
            "",
            "<class '",
            "Graph execution error:\n",
            "Exception encountered when calling A.call().\n\n",
            "Error when deserializing class 'A' using config=",
            "A total of 1 objects could not be loaded. Example error message for object <",
        ):
            started = time.perf_counter()
            told = reason(ValueError(start + part * 10**5))
            assert time.perf_counter() - started < 5
            assert len(told) <= 200
            assert told.isprintable()
