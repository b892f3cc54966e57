"""Programs that run an exported file on image files: NumPy, Pillow and the file's own runtime, nothing else.

A program repeats the preprocessing of evaluation, from the decoder's rounding to the order of the classes, so
that it gives the reported accuracy.
"""

from __future__ import annotations

from collections.abc import Sequence

from autoslim.exporting.deployment import Deployment

SHOWN_CLASSES = 20  # more names are not printed in a report

_READ_COLOUR = '''
def pixels(path):
    """An image file -> uint8 [h, w, 3]: red, green, blue; transparency and orientation marks are ignored."""
    image = Image.open(path)
    if image.mode.startswith("I"):  # 16 bits of grey
        image = Image.fromarray((np.asarray(image) >> 8).astype("uint8"))
    return np.asarray(image.convert("RGB"))
'''

_READ_GREY = '''
def pixels(path):
    """An image file -> uint8 [h, w, 1], grey; transparency and orientation marks are ignored."""
    image = Image.open(path)
    if image.format == "JPEG":
        image.draft("L", image.size)  # the brightness that the file holds
    if image.mode.startswith("I"):  # 16 bits of grey
        return (np.asarray(image) >> 8).astype("uint8")[..., None]
    if image.mode in ("1", "L", "LA"):
        return np.asarray(image.convert("L"))[..., None]
    colours = np.asarray(image.convert("RGB")).astype("int32")
    return (colours @ np.array([9797, 19234, 3737]) >> 15).astype("uint8")[..., None]
'''

_READ_ARRAY = '''
def pixels(path):
    """A .npy file -> uint8 [h, w, channels]."""
    return np.load(path)
'''

_FIT = '''
def fitted(x, height, width, share):
    """The central part of an image that has the shape wanted, in that size, on a scale of 0 to 255."""
    h, w = x.shape[:2]
    size = np.float32(min(h * width, w * height)) / np.float32([width, height]) * np.float32(share)
    rows, columns = np.clip(np.rint(size).astype(int), 1, [h, w])
    top, left = (h - rows) // 2, (w - columns) // 2
    x = x[top : top + rows, left : left + columns].astype("float32")
    planes = [Image.fromarray(x[..., c].copy()) for c in range(x.shape[2])]
    planes = [plane.resize((width, height), Image.Resampling.BILINEAR) for plane in planes]  # antialiased
    return np.clip(np.rint(np.stack(planes, -1)), 0, 255)
'''

_OUTSIDE = '''
def preprocess(path):
    """An image file -> float32 [1, height, width, channels], as the network takes it."""
    x = fitted(pixels(path), *SIZE, CROP)
    return ((x / 255 - MEAN) / STD).astype("float32")[None]
'''

_ANY_SIZE = '''
def preprocess(path):
    """An image file -> uint8 [1, h, w, channels]; the file itself crops, resizes and normalises."""
    return pixels(path)[None]
'''

_FIXED_SIZE = '''
def preprocess(path):
    """An image file -> uint8 [1, height, width, channels]; the file itself does all that is left."""
    return fitted(pixels(path), *INPUT_SIZE, 1.0).astype("uint8")[None]
'''

_KERAS = '''
model = keras.saving.load_model(FILE, compile=False)


def run(x):
    """Logits [classes] of one image."""
    return model.predict_on_batch(x)[0]
'''

_SAVED_MODEL = '''
model = tf.saved_model.load(FILE)


def run(x):
    """Logits [classes] of one image."""
    return model.serve(x).numpy()[0]
'''

_LITERT = '''
interpreter = Interpreter(model_path=FILE)
source, target = interpreter.get_input_details()[0], interpreter.get_output_details()[0]


def run(x):
    """Logits [classes] of one image."""
    interpreter.resize_tensor_input(source["index"], x.shape)
    interpreter.allocate_tensors()
    interpreter.set_tensor(source["index"], x)
    interpreter.invoke()
    return interpreter.get_tensor(target["index"])[0].copy()
'''

_ONNX = '''
session = onnxruntime.InferenceSession(FILE, providers=["CPUExecutionProvider"])


def run(x):
    """Logits [classes] of one image."""
    return session.run(None, {session.get_inputs()[0].name: x})[0][0]
'''

_CLASSIFY = '''
def classify(path):
    """An image file -> (its class, logits [classes])."""
    logits = run(preprocess(path))
    return CLASSES[int(np.argmax(logits))], logits


if __name__ == "__main__":
    for path in sys.argv[1:]:
        print(path, classify(path)[0])
'''

_LITERT_IMPORT = "from ai_edge_litert.interpreter import Interpreter  # pip install ai-edge-litert"

RUNTIMES = {
    "keras": ("import keras", _KERAS),
    "saved_model": ("import tensorflow as tf", _SAVED_MODEL),
    "litert": (_LITERT_IMPORT, _LITERT),
    "litert_float16": (_LITERT_IMPORT, _LITERT),
    "litert_int8": (_LITERT_IMPORT, _LITERT),
    "onnx": ("import onnxruntime", _ONNX),
}
"""Format -> import line, and how a file is opened and run."""


def snippet(format: str, file: str, deployment: Deployment, classes: int, *, shown: int | None = None) -> str:
    """The text of a program that runs a file on image files.

    Args:
        format: a key of `RUNTIMES`.
        file: a Python expression for the path of the file.
        deployment: what the file takes and gives.
        classes: number of outputs.
        shown: no more class names than this are printed: beyond it the program says the class's number.
    """
    how = deployment.preprocessing
    names: Sequence[object] | None = deployment.class_names
    named = names is not None and (shown is None or len(names) <= shown)
    needs_path = "__file__" in file
    third = sorted([RUNTIMES[format][0], "import numpy as np", "from PIL import Image"], key=_order)
    head = [
        "import sys",
        *(["from pathlib import Path"] if needs_path else []),
        "",
        *third,
        "",
        f"FILE = {file}",
    ]
    if deployment.inside:
        if deployment.input_size is not None:
            head.append(f"INPUT_SIZE = {tuple(deployment.input_size)}  # height, width")
    else:
        head += [
            f"SIZE = {how.shape[:2]}  # height, width",
            f"CROP = {how.crop!r}  # share of the height and width that is kept, from the middle",
            f'MEAN = np.array([{_constants(how.mean)}], "float32")  # of pixels / 255: {how.channels}',
            f'STD = np.array([{_constants(how.std)}], "float32")',
        ]
    head.append(
        f"CLASSES = {list(names or ())!r}"
        if named
        else f"CLASSES = range({classes})  # in the order of outputs"
    )
    read = {1: _READ_GREY, 3: _READ_COLOUR}.get(how.shape[2], _READ_ARRAY)
    if not deployment.inside:
        body = [_FIT, _OUTSIDE]
    else:
        body = [_ANY_SIZE] if deployment.input_size is None else [_FIT, _FIXED_SIZE]
    runtime = RUNTIMES[format][1]
    parts = ["\n".join(head), read, *body, runtime, _CLASSIFY]
    return _spaced(parts)


def _spaced(parts: Sequence[str]) -> str:
    return "\n\n\n".join(part.strip("\n") for part in parts) + "\n"


def _order(line: str) -> str:
    return line.replace("from ", "").replace("import ", "").lower()


def _constants(values: Sequence[float]) -> str:
    """Numbers in as many digits as float32 needs."""
    return ", ".join(f"{float(value):.9g}" for value in values)
