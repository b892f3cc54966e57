"""What stands next to and inside a file, and the program that gives the reported top-1 from image files."""

import io
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image

import autoslim
from autoslim import AutoslimError
from autoslim.datasets.folder import image_folder
from autoslim.exporting import Deployment, Preprocessing
from autoslim.exporting.inside import resizing
from autoslim.exporting.snippets import RUNTIMES, snippet

# Keras reads variables with np.array, NumPy 2 asks TensorFlow's for a keyword that they don't know.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept:DeprecationWarning")

CLASSES = ("ant", "bee's", "cat")
SIZES = ((40, 31), (12, 10), (25, 70), (9, 7), (64, 64))  # height, width: smaller, the same and larger
MEAN, STD = (0.4, 0.45, 0.5), (0.2, 0.25, 0.3)


@pytest.fixture(autouse=True)
def no_clock(monkeypatch):
    monkeypatch.setattr(
        "autoslim.exporting.exporter.latencies", lambda files, image: dict.fromkeys(files, (1.0, 0.02))
    )


def write_images(root):
    """Colour and grey, JPEG of every subsampling and PNG, in class folders."""
    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        for label, name in enumerate(CLASSES):
            folder = root / split / name
            folder.mkdir(parents=True)
            for k, (height, width) in enumerate(SIZES):
                coarse = rng.integers(0, 256, (6, 6, 3), dtype=np.uint8)
                image = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
                image.save(folder / f"{k}.jpg", quality=90, subsampling=(label + k) % 3)
                image.save(folder / f"{k}.png")
                image.convert("L").save(folder / f"{k}-grey.jpg")
                image.convert("RGBA").save(folder / f"{k}-alpha.png")
                image.quantize(32).save(folder / f"{k}-palette.png")
            deep = rng.integers(0, 65536, (20, 30)).astype(np.uint16)
            Image.fromarray(deep).save(folder / "16bit.png")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    write_images(folder)
    return folder


def network(shape):
    keras.utils.set_random_seed(1)
    image = keras.Input(shape, name="image")
    x = keras.layers.Conv2D(8, 3, padding="same", activation="relu")(image)
    x = keras.layers.Flatten()(keras.layers.MaxPooling2D(2)(x))
    return keras.Model(image, keras.layers.Dense(len(CLASSES))(x), name="small")


def opened(root, shape, crop):
    """The images as evaluation has them, and how a deployment prepares them."""
    data = image_folder(str(root), shape, normalization="unit", eval_crop=crop)
    mean, std = MEAN[: shape[2]], STD[: shape[2]]
    batches = [(x.numpy(), y.numpy()) for x, y in data.test()]
    pixels, labels = np.concatenate([x for x, _ in batches]), np.concatenate([y for _, y in batches])
    images = (pixels - np.float32(mean)) / np.float32(std)
    return data, images.astype(np.float32), labels, Preprocessing(shape, mean, std, crop)


def files(data):
    return [data.test_set.name(k) for k in range(len(data.test_set))]


@pytest.mark.parametrize("crop", [1.0, 0.875])
@pytest.mark.parametrize("shape", [(12, 10, 3), (16, 16, 1)])
def test_the_program_gives_the_reported_accuracy(root, shape, crop, tmp_path):
    data, images, labels, how = opened(root, shape, crop)
    model = network(shape)
    deployment = Deployment(how, data.class_names)
    (found,) = autoslim.export(model, tmp_path, "keras", images=images, labels=labels, deployment=deployment)
    space: dict = {}
    exec(snippet("keras", repr(str(found.path)), deployment, 3), space)
    prepared = np.concatenate([space["preprocess"](file) for file in files(data)])
    assert prepared.dtype == np.float32 and prepared.shape == images.shape
    level = 1 / 255 / min(how.std)
    difference = np.abs(prepared - images)
    assert difference.max() < 1.01 * level  # halves may be rounded to either side
    assert np.mean(difference > 0.5 * level) < 0.01
    answers, logits = zip(*(space["classify"](file) for file in files(data)), strict=True)
    expected = np.asarray(model(images, training=False))
    np.testing.assert_allclose(np.array(logits), expected, atol=0.02 * np.ptp(expected))
    top1 = np.mean([CLASSES.index(answer) == label for answer, label in zip(answers, labels, strict=True)])
    assert top1 == pytest.approx(found.metric, abs=1.01 / len(labels))


def test_whole_images_resized_would_not_do(root):
    """What the test above would miss if the crop did nothing here."""
    _, images, _, _ = opened(root, (12, 10, 3), 0.875)
    _, whole, _, _ = opened(root, (12, 10, 3), 1.0)
    assert np.mean(np.abs(images - whole)) > 0.05


def test_a_part_of_a_jpeg_is_that_part_of_the_whole(root):
    for shape in ((12, 10, 3), (16, 16, 1)):
        store = image_folder(str(root), shape).test_set
        read = store.reader()
        for k, path in enumerate(store.name(k) for k in range(len(store))):
            if not path.endswith(".jpg"):
                continue
            part = store.window(read(k), lambda height, width: [1, 1, height - 3, width - 2]).numpy()
            picture = Image.open(path)
            if shape[2] == 1:
                picture.draft("L", picture.size)
            whole = np.asarray(picture.convert("L" if shape[2] == 1 else "RGB"))
            whole = whole.reshape(*whole.shape[:2], shape[2])
            np.testing.assert_array_equal(part, whole[1:-2, 1:-1])


def raw_images(root):
    data = image_folder(str(root), (12, 10, 3))
    return data.sample_pixels(1000, train=False)


FAST = (("keras", None), ("litert", None), ("litert_int8", (40, 31)))
OTHERS = [("saved_model", None), ("onnx", None)]
SIZED = [(kind, (40, 31)) for kind in RUNTIMES if kind != "litert_int8"]


@pytest.mark.parametrize(
    "kind, size",
    [
        *FAST,
        *(pytest.param(*case, marks=pytest.mark.slow) for case in OTHERS),
        *(pytest.param(*case, marks=pytest.mark.long) for case in SIZED),
    ],
)
def test_preprocessing_inside(root, kind, size, tmp_path):
    if kind == "onnx":
        pytest.importorskip("tf2onnx")
    if kind.startswith("litert"):
        pytest.importorskip("ai_edge_litert")
    pixels, labels = raw_images(root)
    assert {image.shape[:2] for image in pixels} >= set(SIZES)
    deployment = Deployment(
        Preprocessing((12, 10, 3), MEAN, STD, 0.875), CLASSES, inside=True, input_size=size
    )
    model = network((12, 10, 3))
    (found,) = autoslim.export(
        model, tmp_path, kind, images=pixels, labels=labels, calibration=pixels, deployment=deployment
    )
    space: dict = {}
    exec(snippet(kind, repr(str(found.path)), deployment, 3), space)
    data = image_folder(str(root), (12, 10, 3))
    logits = np.array([space["classify"](file)[1] for file in files(data)])
    given = [space["preprocess"](file) for file in files(data)]
    assert all(x.dtype == np.uint8 and (size is None or x.shape[1:3] == size) for x in given)
    expected = np.asarray(model(deployment.preprocessing.prepared([x[0] for x in given])))
    share = 0.1 if kind == "litert_int8" else 0.01
    np.testing.assert_allclose(logits, expected, atol=share * np.ptp(expected))
    top1 = np.mean(logits.argmax(-1) == data.test_labels)
    assert top1 == pytest.approx(found.metric, abs=1.01 / len(logits))


@pytest.mark.parametrize("size, share", [((40, 31), 0.875), ((5, 90), 1.0), ((12, 10), 1.0)])
def test_the_matrices_by_loops(size, share):
    """Against sums over the pixels, one after the other."""
    rows, columns = resizing(Preprocessing((12, 10, 3), MEAN, STD, share), size)
    fits = min(size[0] * 10, size[1] * 12)
    for matrix, there, here, other in ((rows, size[0], 12, 10), (columns, size[1], 10, 12)):
        cut = max(1, min(there, round(fits / other * share)))
        top, scale = (there - cut) // 2, cut / here
        for i in range(here):
            centre, weights = (i + 0.5) * scale, []
            for k in range(cut):
                weights.append(max(0.0, 1 - abs(k + 0.5 - centre) / max(scale, 1.0)))
            expected = [0.0] * top + [w / sum(weights) for w in weights]
            expected += [0.0] * (there - len(expected))
            np.testing.assert_allclose(matrix[i], expected, atol=1e-6)


def test_a_keras_file_with_preprocessing_loads_without_autoslim(root, tmp_path):
    pixels, _ = raw_images(root)
    deployment = Deployment(Preprocessing((12, 10, 3), MEAN, STD), inside=True)
    autoslim.export(network((12, 10, 3)), tmp_path, "keras", images=pixels, deployment=deployment)
    code = (
        "import sys, keras\n"
        "sys.modules['autoslim'] = None\n"
        f"keras.saving.load_model({str(tmp_path / 'model.keras')!r})\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path, capture_output=True)


def test_the_program_next_to_a_file_runs_from_anywhere(root, tmp_path):
    pytest.importorskip("ai_edge_litert")
    data, images, labels, how = opened(root, (12, 10, 3), 0.875)
    model = network((12, 10, 3))
    autoslim.export(
        model, tmp_path, "litert", images=images, labels=labels, deployment=Deployment(how, CLASSES)
    )
    file = files(data)[0]
    command = [sys.executable, str(tmp_path / "model.tflite.py"), file]
    done = subprocess.run(command, cwd="/", capture_output=True, text=True, check=True)
    answer = CLASSES[int(np.argmax(model(images[:1])))]
    assert done.stdout == f"{file} {answer}\n"


def test_what_is_inside_is_what_stands_next_to_it(tmp_path):
    for package in ("onnx", "tf2onnx", "onnxruntime"):
        pytest.importorskip(package)
    import onnx

    how = Preprocessing((12, 10, 3), MEAN, STD, 0.875)
    deployment = Deployment(how, CLASSES, top1=0.5, test_images=80)
    formats = ["keras", "saved_model", "litert", "onnx"]
    model = network((12, 10, 3))
    found = {e.format: e for e in autoslim.export(model, tmp_path, formats, deployment=deployment)}
    beside = {
        name: json.loads(e.path.with_name(f"{e.path.name}.json").read_text()) for name, e in found.items()
    }
    about = beside["litert"]
    assert about["input"]["shape"] == [1, 12, 10, 3] and about["input"]["type"] == "float32"
    assert about["preprocessing"]["share"] == 0.875
    assert about["preprocessing"]["mean"] == list(MEAN) and about["preprocessing"]["std"] == list(STD)
    assert about["class_names"] == list(CLASSES) and about["output"]["shape"] == ["any", 3]
    assert about["top1"]["keras_model"] == 0.5 and about["top1"]["test_images"] == 80
    with zipfile.ZipFile(io.BytesIO(found["litert"].path.read_bytes())) as archive:
        assert json.loads(archive.read("deployment.json")) == about
    extra = found["saved_model"].path / "assets.extra" / "deployment.json"
    assert json.loads(extra.read_text()) == beside["saved_model"]
    props = {p.key: json.loads(p.value) for p in onnx.load(found["onnx"].path).metadata_props}
    assert props == beside["onnx"]
    assert sorted(p.name for p in Path(tmp_path).iterdir() if p.suffix == ".py") == [
        "model.keras.py",
        "model.onnx.py",
        "model.tflite.py",
        "saved_model.py",
    ]


def refused(*args, **kwargs):
    with pytest.raises(AutoslimError) as error:
        autoslim.export(*args, **kwargs)
    return str(error.value)


def test_what_cannot_be_put_inside_is_said(root, tmp_path):
    pixels, _ = raw_images(root)
    how = Preprocessing((12, 10, 3), MEAN, STD)
    model, inside = network((12, 10, 3)), Deployment(how, inside=True)
    for name in ("litert_int8", "litert_float16"):
        given = {"images": pixels, "calibration": pixels, "deployment": inside}
        assert refused(model, tmp_path / "out", ["keras", name], **given) == (
            f"{name} cannot crop and resize images of any size: expected input_size=[height, width], the "
            "size of the images that the file will be given. Set it, leave this format out, or leave the "
            "preprocessing outside."
        )
    assert refused(model, tmp_path / "out", "keras", deployment=inside) == (
        "The preprocessing goes inside the files, and no images were given to check it on: give images=..., "
        "uint8 [h, w, channels] each."
    )
    assert refused(model, tmp_path / "out", "keras", images=how.prepared(pixels), deployment=inside) == (
        "images holds an image of shape [12, 10, 3] and type float32; expected uint8 [h, w, 3]: the "
        "preprocessing goes inside the files."
    )
    assert refused(model, tmp_path, "keras", deployment=Deployment(Preprocessing((8, 8, 3), MEAN, STD))) == (
        "The preprocessing makes images of shape [8, 8, 3], and the model takes [12, 10, 3]: expected the "
        "same."
    )
    assert not (tmp_path / "out").exists()
    with pytest.raises(AutoslimError, match=r"^std has 1 values; expected one for each of the 3 channels\.$"):
        Preprocessing((8, 8, 3), MEAN, (1.0,))
    with pytest.raises(AutoslimError, match="was given with preprocessing outside"):
        Deployment(how, input_size=(8, 8))
