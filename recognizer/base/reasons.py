"""Turns an exception into one line: what is wrong, in which layer, with which shapes.

Keras's messages have many lines, and begin with where an error occurred, not with what is wrong. Imports only the
standard library.
"""

import re
import traceback
from pathlib import Path

LONGEST = 200  # characters of a reason; the whole line, which also says what failed, stays below 300
LONGEST_TEXT = 5000  # characters to search at the beginning of a message, and at its end
REGISTER = "@keras.saving.register_keras_serializable()"
AGAIN = "cannot be made again from its get_config()"

# Messages that wrap another message: (pattern, template). The template, filled with the pattern's group `name`, says
# what the message is about. The group `rest` is the inner message.
WRAPPERS = [
    (
        r"Exception encountered when calling (?P<name>\w+)\S*\s+(?P<rest>.*?)"
        r"(\n\s*\nArguments received by(.*?(?P<shape>shape=\([^)]*\)))?.*)?",
        "{name}",
    ),
    (
        r"Could not automatically infer the output shape[^']* of '(?P<name>[^']*)'.*?Error encountered:(?P<rest>.*)",
        "layer '{name}'",
    ),
    (
        r"(Error when deserializing class '|<class ')(?P<name>[^']+)'.*?\n\nException encountered: (?P<rest>.*)",
        f"{{name}} {AGAIN}",
    ),
    (
        r"A total of \d+ objects could not be loaded. Example error message for object <(?P<name>.*?)(, built=\w+)?>:"
        r"(?P<rest>.*?)(\n\nList of objects that.*)?",
        "the weights of <{name}>",
    ),
    (r"in user code:.*?\n {4}(?P<name>\w+Error): (?P<rest>.*)", ""),
    (r"Graph execution error:.*?\n(?P<rest>[^\s][^\n]*)\n\s*\[\[(?P<name>).*", ""),
]

# Parts of a message to replace: (pattern, replacement).
REPLACED = [
    (r"\{\{.*?\}\}\s*", ""),  # names of TensorFlow's nodes
    (r"\s*\[Op:[^\]]*\].*", ""),
    (r"<kerastensor shape=(\([^)]*\))[^>]*>", r"KerasTensor \1"),
    (r"<(?:class|function) '?(?:[\w<>]+\.)*(\w+)[^>]*>", r"\1"),
    (r"([\w]+\.)+<locals>\.", ""),
    (r" with name 'None' of layer", " of layer"),
    (r"The shape of the target variable and .*? in `variable.assign\(value\)` must match", "Shapes must match"),
    (r" See https?://\S+( for more (information|details))?\.?", ""),
    (r" \(\S*[\\/]\w+\.py\)", ""),
    (r"(?<![.\w])(\w:)?[\\/]\S*[\\/](\w+\.py)\b", r"\2"),
    (r" at 0x[0-9a-f]+", ""),
    (r"identifier: \{'value': \('.*", "identifier: a lambda"),
    (r"\s+", " "),
]

# Advice where Keras's message gives none: (pattern, advice).
ADVICE = [
    (r"Received: (\w+) \(of type type\)", r"write \1(), with parentheses"),
    (r"cannot be used as input to a \w+ function|placeholder for a shape", "use keras.ops or a layer instead"),
    (
        r"deserialization of a .*lambda|could not get source code|: a lambda$",
        f"write a function under {REGISTER}, or use a layer",
    ),
    (rf"{AGAIN}.* unexpected keyword argument", "its __init__ should pass **kwargs to super().__init__"),
    (rf"{AGAIN}.* missing \d+ required", "its get_config() should return every argument of its __init__"),
    (
        r"'\w*[dD]ict' object (is not callable|has no attr)",
        "its from_config() should call keras.saving.deserialize_keras_object",
    ),
    (r"'([A-Z]\w*)' object has no attribute '(name|_\w+)'", r"does \1.__init__ call super().__init__() first?"),
    (r"name 'layers' is not defined", "write keras.layers instead, or the name of the layer alone"),
    (r"name '([A-Z]\w*[a-z]\w*)' is not defined", r"if \1 is a layer of Keras, add it to the import above"),
    (
        r"Could not interpret (activation|initializer|regularizer|constraint)( function)? identifier: \w+$",
        r"the names are those in keras.\1s",
    ),
    (r"singleton tf\.Variables", "make its layers and weights in __init__ or build(), not in call()"),
    (r"[Oo]nly input tensors may be passed", "was a layer not called? Write Layer(arguments)(x)"),
    (r"Layer.__init__\(\) takes 1 positional argument but 2", "write keras.Model(inputs, outputs)"),
    (r"^Merge.__init__\(\) takes", "a layer that merges tensors takes a list of them: Add()([x, y])"),
    (r"^([A-Z]\w+).__init__\(\) takes .*positional", r"if one of them is a tensor, write \1(arguments)(x)"),
    (r"^(\w+)\(\) takes 0 positional arguments but 1", r"write \1()(x)"),
    (r"too many positional arguments", "a layer that merges tensors takes a list of them: Add()([x, y])"),
    (r"is not connected to `inputs`", "give keras.Model the inputs that its outputs are computed from"),
]


def reason(error: BaseException, longest: int = LONGEST) -> str:
    """Returns an exception's message as one line of at most `longest` characters."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    text, abouts, shape = _unwrapped(str(error))
    text = _one_line(text) or f"{type(error).__name__} without a message"
    if isinstance(error, (ImportError, LookupError, NameError, ZeroDivisionError)):
        text = f"{type(error).__name__}: {text}"
    layer, found = _layer(error)
    about = abouts[-1] if abouts and " " in abouts[-1] else layer or "".join(abouts[-1:])
    shape = (found or shape).replace("dynamic_dimension", "None")  # JAX's name for None
    always = " " in about and not about.startswith("layer ")
    about = f"{about}: " if about and (always or not _names(text, about)) else ""
    shape = f" (input {shape})" if shape and not re.search(r"shape|KerasTensor|None", text) else ""
    advice = _with_tensor(error) or next(
        (match.expand(told) for pattern, told in ADVICE if (match := re.search(pattern, about + text))), ""
    )
    advice = f"; {advice}" * bool(advice)
    return _cut(about + _shortened(text, longest - len(about + shape + advice)) + shape + advice, longest)


def place(error: BaseException, file: Path | str) -> str:
    """Returns "FILE, line N" for the innermost line of `file` in an error's traceback, or ""."""
    lines = [line for frame, line in traceback.walk_tb(error.__traceback__) if frame.f_code.co_filename == str(file)]
    return f"{Path(file).name}, line {lines[-1]}" if lines else ""


def failed_import(error: BaseException, folder: Path) -> str:
    """Returns "FILE, line N: REASON" if importing a file of `folder` raised the error, else ""."""
    if isinstance(error, SyntaxError) and error.filename and Path(error.filename).parent == folder:
        return f"{Path(error.filename).name}, line {error.lineno}: {error.msg}"
    modules = [
        f"{Path(frame.f_code.co_filename).name}, line {line}"
        for frame, line in traceback.walk_tb(error.__traceback__)
        if Path(frame.f_code.co_filename).parent == folder and frame.f_code.co_name == "<module>"
        if frame.f_globals["__name__"] != "__main__"
    ]
    if not modules:
        return ""
    quotes = "; a recipe has names in quotes" * (isinstance(error, NameError) and modules[-1].startswith("recipes.py"))
    return f"{modules[-1]}: {reason(error)}{quotes}"


def _unwrapped(text):
    """Returns (innermost message, list of what the outer messages are about, an input's shape or "")."""
    names, shape = [], ""
    text = re.sub(r"\x1b\[[0-9;]*m", "", text)  # remove bold type
    text = "\n".join(line.rstrip() for line in text.splitlines())
    if len(text) > 2 * LONGEST_TEXT:  # the middle may be a long config
        text = text[:LONGEST_TEXT] + text[-LONGEST_TEXT:]
    while True:
        text = text.strip()
        found = ((re.fullmatch(pattern, text, re.DOTALL), told) for pattern, told in WRAPPERS)
        match, told = next(((match, told) for match, told in found if match), (None, ""))
        if match is None:
            return text, names, shape
        if told:
            names.append(told.format(name=match["name"].split(".")[-1]))
        shape = shape or (match.groupdict().get("shape") or "").removeprefix("shape=")
        text = match["rest"]


def _one_line(text):
    """Returns the first paragraph of a message, without node names, addresses and paths."""
    text = re.split(r"\n\n|\n-{10,}", text.strip())[0]
    for pattern, replacement in REPLACED:
        text = re.sub(pattern, replacement, text, flags=re.IGNORECASE | re.DOTALL)
    return "".join(filter(str.isprintable, text)).strip().removesuffix(".")


def _layer(error):
    """Returns (the layer that raised an error, as text; its input's shape), or ("", "") if no layer did."""
    about, shape = "", ""
    for frame, _ in traceback.walk_tb(error.__traceback__):
        layer = next((value for key in ("self", "layer", "obj") if _is_layer(value := frame.f_locals.get(key))), None)
        if layer is None:
            continue
        kind, name = type(layer).__name__, vars(layer).get("name") or vars(layer).get("_name")
        told = f"layer '{name}' ({kind})" if name else kind
        about, shape = told, _shape(frame.f_locals) or (shape if told == about else "")
    return about, shape


def _with_tensor(error):
    """Returns advice if the error was raised because a layer was made with a tensor as an argument, else ""."""
    for frame, _ in traceback.walk_tb(error.__traceback__):
        variables = dict(frame.f_locals)
        layer = variables.pop("self", None)
        if frame.f_code.co_name == "__init__" and _is_layer(layer) and _has_tensor(list(variables.values())):
            return f"make the layer, then call it: {type(layer).__name__}(arguments)(x)"
    return ""


def _has_tensor(value):
    """Returns whether a value, or a list, tuple or dict in it, holds a symbolic tensor."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        return any(map(_has_tensor, value))
    return type(value).__name__ == "KerasTensor"


def _is_layer(value):
    """Returns whether a value is a Keras layer that is not a model."""
    kinds = [f"{kind.__module__}.{kind.__name__}" for kind in type(value).__mro__]
    return any(kind.endswith(".layers.layer.Layer") for kind in kinds) and not any(
        kind.endswith(".models.model.Model") for kind in kinds
    )


def _shape(variables):
    """Returns the shape of the input among a frame's local variables, as text."""
    if shape := variables.get("input_shape"):
        return str(tuple(shape)) if isinstance(shape, (list, tuple)) else ""
    for name in ("inputs", "x", "args"):
        value = variables.get(name)
        value = value[0] if isinstance(value, tuple) and value else value
        if isinstance(shape := getattr(value, "shape", None), tuple):
            return str(shape)
    return ""


def _names(text, about):
    """Returns whether a message already mentions the layer or class in `about`."""
    words = set(re.findall(r"\w+", about)) - {"layer"}
    return " of layer '" in text or any(re.search(rf"\b{word}\b", text) for word in words)


def _shortened(text, longest):
    """Returns a message. If it is too long, keeps the first sentence and the sentences with shapes or values."""
    if len(text) > longest:
        first, *others = re.split(r"(?<=[.!?:]) (?=[A-Z`'])", text)
        with_values = [sentence for sentence in others if re.search(r"\d|eceived|\bgot\b", sentence)]
        text = " ".join([first, *with_values]).removesuffix(".")
    return _cut(text, longest)


def _cut(text, longest):
    return text if len(text) <= longest else text[: longest - 4].rstrip() + " ..."
