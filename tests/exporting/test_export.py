"""Every format is written, run by its own runtime, compared, and refused where it differs."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import keras
import numpy as np
import pytest

import autoslim
from autoslim import AutoslimError
from autoslim.exporting import FORMATS, latency, writers
from autoslim.exporting.comparison import Comparison, compare, demand
from autoslim.exporting.exporter import size
from autoslim.startup import quiet

# Keras reads variables with np.array, NumPy 2 asks TensorFlow's for a keyword that they don't know.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept:DeprecationWarning")

SHAPE, CLASSES = (8, 8, 3), 5
PACKAGES = {"onnx": ("tf2onnx", "onnx", "onnxruntime")}


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(1).standard_normal((40, *SHAPE), np.float32)


@pytest.fixture(scope="module")
def model():
    """A small residual network with statistics that are not those of a fresh one."""
    keras.utils.set_random_seed(3)
    image = keras.Input(SHAPE, name="image")
    x = keras.layers.Conv2D(8, 3, padding="same", use_bias=False, name="stem")(image)
    x = keras.layers.ReLU(6.0)(keras.layers.BatchNormalization()(x))
    y = keras.layers.DepthwiseConv2D(3, padding="same", use_bias=False)(x)
    y = keras.layers.BatchNormalization()(y)
    x = keras.layers.MaxPooling2D()(keras.layers.Add()([x, y]))
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(16, 3, strides=2, padding="same")(x))
    net = keras.Model(image, keras.layers.Dense(CLASSES, name="logits")(x), name="tiny")
    rng = np.random.default_rng(2)
    for layer in net.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            n = layer.gamma.shape[0]
            mean, variance = rng.normal(size=n), rng.uniform(0.5, 2, n)
            layer.set_weights([rng.uniform(0.5, 1.5, n), rng.normal(size=n), mean, variance])
    return net


@pytest.fixture(scope="module")
def labels(model, images):
    """The model's own classes, but for every fourth image."""
    found = np.argmax(model(images, training=False), -1)
    found[::4] = (found[::4] + 1) % CLASSES
    return found


@pytest.fixture
def no_clock(monkeypatch):
    """Files are not timed: that takes a process with TensorFlow."""
    monkeypatch.setattr(
        "autoslim.exporting.exporter.latencies", lambda files, image: dict.fromkeys(files, (1.0, 0.02))
    )


def installed(name):
    for package in PACKAGES.get(name, ()):
        pytest.importorskip(package)


@pytest.mark.parametrize("name", FORMATS)
def test_each_format_is_run_by_its_own_runtime(name, model, images, labels, tmp_path, no_clock):
    installed(name)
    (found,) = autoslim.export(
        model, tmp_path / "new" / "export", name, calibration=images[:20], images=images, labels=labels
    )
    assert found.path == tmp_path / "new" / "export" / FORMATS[name].filename
    assert found.format == name and (found.latency_ms, found.latency_spread) == (1.0, 0.02)
    assert found.bytes == size(found.path) > 1000
    assert [path.name for path in found.path.parent.iterdir()] == [found.path.name]
    # Once more by the runtime itself, not by the functions under test.
    logits = independent_logits(name, found.path, images)
    expected = np.asarray(model(images, training=False))
    assert found.largest_difference == pytest.approx(np.abs(logits - expected).max(), rel=0.01, abs=1e-5)
    assert found.agreement == np.mean(logits.argmax(-1) == expected.argmax(-1)) >= 0.95
    assert found.metric == np.mean(logits.argmax(-1) == labels)
    bound = {"litert_float16": 1e-2, "litert_int8": 0.2}.get(name, 1e-5)
    assert found.largest_difference < bound * np.ptp(expected)


def independent_logits(name, path, images):
    if name == "keras":
        return np.asarray(keras.saving.load_model(path)(images, training=False))
    if name == "saved_model":
        return np.asarray(keras.layers.TFSMLayer(str(path), call_endpoint="serve")(images))
    if name == "onnx":
        onnx, ort = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
        onnx.checker.check_model(onnx.load(path))
        session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
        return session.run(None, {session.get_inputs()[0].name: images})[0]
    litert = pytest.importorskip("ai_edge_litert.interpreter")
    interpreter = litert.Interpreter(model_path=str(path))
    index = interpreter.get_input_details()[0]["index"]
    interpreter.resize_tensor_input(index, images.shape)
    interpreter.allocate_tensors()
    interpreter.set_tensor(index, images)
    interpreter.invoke()
    return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])


def test_int8_computes_in_int8(model, images, tmp_path, no_clock):
    litert = pytest.importorskip("ai_edge_litert.interpreter")
    (found,) = autoslim.export(model, tmp_path, ["litert_int8"], calibration=images)
    details = litert.Interpreter(model_path=str(found.path)).get_tensor_details()
    quantised = [d for d in details if d["dtype"] in (np.int8, np.int32)]
    assert [d["name"] for d in details if d["dtype"] == np.float32 and d["name"]] == [
        "serving_default_image:0",
        "StatefulPartitionedCall_1:0",
    ]
    assert len(quantised) > 10


def test_without_ai_edge_litert_tensorflow_has_an_interpreter(model, images, tmp_path, monkeypatch, no_clock):
    monkeypatch.setitem(sys.modules, "ai_edge_litert.interpreter", None)
    (found,) = autoslim.export(model, tmp_path, "litert", images=images)
    assert found.agreement == 1.0


def test_slimmed_network_of_every_float_format(model, images, tmp_path, no_clock):
    graph = autoslim.ChannelGraph(model)
    small = graph.materialize(graph.uniform(0.5))
    found = autoslim.export(small, tmp_path, ["keras", "litert"], images=images)
    assert [e.format for e in found] == ["keras", "litert"]
    assert [e.metric for e in found] == [None, None]
    assert found[0].largest_difference == 0.0


def test_images_are_noise_where_none_are_given(model, tmp_path, no_clock):
    (found,) = autoslim.export(model, tmp_path, "saved_model")
    assert (found.largest_difference, found.agreement, found.metric) == (0.0, 1.0, None)


@pytest.mark.parametrize("old", ["file", "folder"])
@pytest.mark.parametrize("name", ["keras", "saved_model"])
def test_what_stood_there_is_replaced(name, old, model, images, tmp_path, no_clock):
    path = tmp_path / FORMATS[name].filename
    if old == "folder":
        path.mkdir()
    (path / "old" if old == "folder" else path).write_text("old")
    (found,) = autoslim.export(model, tmp_path, name, images=images)
    assert found.bytes == size(path) > 1000
    assert not (path / "old").exists()
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


# -- latency -------------------------------------------------------------------------------------------


@pytest.mark.long
def test_latency_in_a_process_of_its_own(model, images, tmp_path):
    found = autoslim.export(model, tmp_path, ["keras", "litert"], images=images)
    assert all(0 < e.latency_ms < 1000 and 0 <= e.latency_spread < 1 for e in found)


def test_a_file_that_cannot_be_timed_is_warned_of(images, tmp_path, caplog):
    pytest.importorskip("ai_edge_litert.interpreter")
    broken = tmp_path / "model.tflite"
    broken.write_text("no model")
    assert latency.latencies({"litert": broken}, images[:1]) == {"litert": None}
    (record,) = caplog.records
    text = record.getMessage()
    assert text.startswith(f"The latency of {broken} could not be measured: ValueError: ")


def test_a_process_that_says_nothing_is_warned_of(images, monkeypatch, tmp_path, caplog):
    monkeypatch.setattr(sys, "executable", "/bin/false")
    assert latency.latencies({"litert": tmp_path}, images[:1]) == {"litert": None}
    assert caplog.messages == [
        f"The latency of {tmp_path} could not be measured: the process ended with 1: nothing said"
    ]


# -- mismatches ----------------------------------------------------------------------------------------


def test_a_doctored_model_is_refused_and_what_stood_there_stays(
    model, images, tmp_path, monkeypatch, no_clock
):
    (tmp_path / "model.keras").write_text("old")
    twin = keras.models.clone_model(model)
    twin.set_weights(model.get_weights())
    kernel, bias = twin.get_layer("logits").get_weights()
    bias[2] += 0.5
    twin.get_layer("logits").set_weights([kernel, bias])
    doctored = FORMATS["keras"]._replace(write=lambda source, path: twin.save(path))
    monkeypatch.setitem(FORMATS, "keras", doctored)
    expected = np.asarray(model(images, training=False))
    scale = max(np.ptp(expected), np.abs(expected).max())
    with pytest.raises(AutoslimError) as error:
        autoslim.export(model, tmp_path, "keras", images=images)
    assert str(error.value) == (
        "keras: its outputs differ from the Keras model's by up to 0.5; expected at most "
        f"{1e-4 * scale:.3g} (0.0001 of their scale, {scale:.3g}). The file was not kept. A layer is not "
        "translated faithfully: leave this format out, or replace the layer."
    )
    assert [path.name for path in tmp_path.iterdir()] == ["model.keras"]
    assert (tmp_path / "model.keras").read_text() == "old"


def test_a_doctored_file_is_refused(model, images, tmp_path, monkeypatch, no_clock):
    def write(source, path):
        writers.write_litert(source, path)
        path.write_bytes(path.read_bytes()[:-4000])

    monkeypatch.setitem(FORMATS, "litert", FORMATS["litert"]._replace(write=write))
    with pytest.raises(
        AutoslimError, match=r"^litert: the file was written, but its runtime cannot run it \("
    ):
        autoslim.export(model, tmp_path, "litert", images=images)
    assert list(tmp_path.iterdir()) == []


def comparison(**changed):
    whole = {"images": 100, "largest_difference": 0.3, "scale": 10.0, "agreement": 0.99}
    return Comparison(**{**whole, "metric": None, "reference_metric": None, **changed})


def test_not_a_number_is_a_mismatch():
    with pytest.raises(AutoslimError, match="differ from the Keras model's by up to nan"):
        demand("onnx", FORMATS["onnx"], comparison(largest_difference=float("nan")))


def test_float16_may_differ_more():
    demand("litert_float16", FORMATS["litert_float16"], comparison(largest_difference=0.09))
    with pytest.raises(
        AutoslimError, match=r"by up to 0\.3; expected at most 0\.1 \(0\.01 of their scale, 10\)"
    ):
        demand("litert_float16", FORMATS["litert_float16"], comparison())


def test_int8_that_answers_otherwise_is_refused():
    demand("litert_int8", FORMATS["litert_int8"], comparison(agreement=0.95))
    demand("litert_int8", FORMATS["litert_int8"], comparison(images=10, agreement=0.9))
    with pytest.raises(AutoslimError) as error:
        demand("litert_int8", FORMATS["litert_int8"], comparison(agreement=0.94))
    assert str(error.value) == (
        "litert_int8: for 94.0% of 100 images its class is the Keras model's; expected at least 95% (largest "
        "difference of a logit: 0.3). The file was not kept. Give more, or more varied, calibration images, "
        "or use litert_float16."
    )


def test_int8_that_loses_accuracy_is_refused():
    demand("litert_int8", FORMATS["litert_int8"], comparison(metric=0.90, reference_metric=0.92))
    demand("litert_int8", FORMATS["litert_int8"], comparison(metric=0.99, reference_metric=0.92))
    with pytest.raises(AutoslimError) as error:
        demand("litert_int8", FORMATS["litert_int8"], comparison(metric=0.89, reference_metric=0.92))
    assert str(error.value) == (
        "litert_int8: top-1 on 100 images is 89.0%, and the Keras model's is 92.0%; expected a fall of at "
        "most 2 points. The file was not kept. Give more, or more varied, calibration images, "
        "or use litert_float16."
    )


def test_a_difference_in_shape_is_a_mismatch():
    with pytest.raises(AutoslimError) as error:
        compare(np.zeros((4, 3)), np.zeros((4, 5)), None)
    assert str(error.value) == "The file returns logits of shape [4, 3], the Keras model [4, 5]."


def test_comparison_by_hand():
    reference = np.array([[0.0, 4.0], [3.0, 1.0], [-1.0, -2.0]])
    logits = np.array([[0.0, 4.0], [1.0, 2.0], [-1.0, -2.0]])
    found = compare(logits, reference, np.array([1, 1, 1]))
    assert found == Comparison(3, 2.0, 6.0, pytest.approx(2 / 3), pytest.approx(2 / 3), pytest.approx(1 / 3))


# -- bad input -----------------------------------------------------------------------------------------


def refused(model, folder, *args, **kwargs):
    with pytest.raises(AutoslimError) as error:
        autoslim.export(model, folder / "out", *args, **kwargs)
    assert not (folder / "out").exists()
    return str(error.value)


def test_unknown_format(model, tmp_path):
    everything = "keras, saved_model, litert, litert_float16, litert_int8, onnx"
    assert refused(model, tmp_path, ["keras", "onxx"]) == (
        f"unknown export format 'onxx'. Did you mean onnx? There are: {everything}."
    )
    assert refused(model, tmp_path, []) == f"No format was given: expected some of {everything}."


def test_a_missing_package_is_named_before_anything_is_written(model, tmp_path, monkeypatch):
    for package in PACKAGES["onnx"]:
        monkeypatch.setitem(sys.modules, package, None)
    assert refused(model, tmp_path, ["keras", "onnx"]) == (
        "The export format onnx needs the packages tf2onnx and onnx and onnxruntime, not installed here: "
        "pip install 'autoslim[export]'"
    )
    monkeypatch.setattr("autoslim.exporting.formats._installed", lambda name: name != "onnxruntime")
    assert refused(model, tmp_path, "onnx") == (
        "The export format onnx needs the package onnxruntime, not installed here: "
        "pip install 'autoslim[export]'"
    )


def test_images_that_do_not_fit(model, images, tmp_path):
    assert refused(model, tmp_path, "litert_int8", images=images) == (
        "litert_int8 needs calibration images: give calibration=..., some 200 training images, float32, "
        "normalised as the model was trained."
    )
    assert refused(model, tmp_path, "keras", images=images[:, :4]) == (
        "images has shape [40, 4, 8, 3]; expected [N, 8, 8, 3], N at least 1, as the model takes them."
    )
    assert refused(model, tmp_path, "keras", images=images[:0]) == (
        "images has shape [0, 8, 8, 3]; expected [N, 8, 8, 3], N at least 1, as the model takes them."
    )
    assert refused(model, tmp_path, "keras", calibration=(images * 9).astype("uint8")) == (
        "calibration is of type uint8; expected float32, normalised as the model was trained: "
        "(pixels / 255 - mean) / std for networks of autoslim."
    )
    assert refused(model, tmp_path, "keras", images=images * np.float32("nan")) == (
        "images holds values that are not finite: check how they were normalised."
    )


def test_labels_that_do_not_fit(model, images, tmp_path):
    assert refused(model, tmp_path, "keras", labels=np.zeros(4, int)) == (
        "labels were given without images: give images=..., or leave labels out."
    )
    assert refused(model, tmp_path, "keras", images=images, labels=np.zeros(5, int)) == (
        "labels of shape [5] and type int64 were given with 40 images; expected labels of 40 images, such as "
        "integers [40], one class index for each."
    )
    assert refused(model, tmp_path, "keras", images=images, labels=np.zeros((40, 4))) == (
        "task=classification, output logits: Labels of shape (40, 4) were given as probabilities; the "
        "network has 5 outputs: expected [B, 5]."
    )


def test_models_that_cannot_be_exported(model, tmp_path):
    assert refused("model.keras", tmp_path, "keras") == ("Got a str to export; expected a keras.Model.")
    two = keras.Model(model.input, [model.output, model.layers[1].output], name="two")
    assert refused(two, tmp_path, "keras") == (
        "Model 'two' has 1 inputs and 2 outputs [[None, 5], [None, 8, 8, 8]]; expected one input of images "
        "and one output. Wrap it: keras.Model(image, model(image))."
    )
    image = keras.Input((None, None, 3), name="image")
    anysize = keras.Model(image, keras.layers.GlobalAveragePooling2D()(image))
    assert refused(anysize, tmp_path, "keras") == (
        "The model takes images of any size, [N, any, any, 3]: give images=... to check on."
    )


def test_half_precision(tmp_path, no_clock):
    image = keras.Input((4, 4, 1), name="image")
    x = keras.layers.Flatten()(keras.layers.Conv2D(2, 3, dtype="mixed_float16", name="half")(image))
    half = keras.Model(image, keras.layers.Dense(3)(x), name="halved")
    assert refused(half, tmp_path, ["keras", "litert"]) == (
        "litert needs a model that computes in float32, and layer 'half' of 'halved' computes in float16. "
        "Build the model with dtype policy float32 and give it these weights with "
        "set_weights(model.get_weights())."
    )
    assert autoslim.export(half, tmp_path, "keras")[0].largest_difference == 0.0


def test_what_is_said_about_converting_is_held_back_and_nothing_else(model, tmp_path, no_clock, capfd):
    autoslim.export(model, tmp_path, ["litert"])
    assert "XNNPACK" not in capfd.readouterr().err
    with quiet():
        os.write(2, b"fully_quantize: 0, inference_type: 6\na warning\n")
    assert capfd.readouterr().err == "a warning\n"


def test_logits_that_are_not_finite(model, images, tmp_path):
    twin = keras.models.clone_model(model)
    twin.get_layer("logits").bias.assign([np.nan] * CLASSES)
    assert refused(twin, tmp_path, "keras", images=images) == (
        "The outputs of model 'tiny' are not all finite on these images: nothing can be compared. Check "
        "its weights and the normalisation of the images."
    )


def test_a_file_in_place_of_the_folder(model, images, tmp_path):
    (tmp_path / "out").write_text("mine")
    with pytest.raises(AutoslimError) as error:
        autoslim.export(model, tmp_path / "out", "keras", images=images)
    assert str(error.value) == (
        f"{tmp_path / 'out'} is a file: expected the name of a folder to write the export to."
    )


def test_what_a_converter_cannot_do(model, images, tmp_path, monkeypatch, no_clock):
    def write(source, path):
        raise RuntimeError("\nop Foo has no int8 form\nmore")

    monkeypatch.setitem(FORMATS, "litert", FORMATS["litert"]._replace(write=write))
    with pytest.raises(AutoslimError) as error:
        autoslim.export(model, tmp_path, "litert", images=images)
    assert str(error.value) == (
        "litert: model 'tiny' cannot be converted (RuntimeError: op Foo has no int8 form). The format "
        "cannot express one of its layers: leave this format out, or replace the layer."
    )
    assert list(tmp_path.iterdir()) == []


# -- imports -------------------------------------------------------------------------------------------


def test_nothing_heavy_is_imported_before_it_is_needed():
    code = """
        import sys
        import autoslim.exporting.measure, autoslim.config
        heavy = {"tensorflow", "keras", "onnx", "onnxruntime", "tf2onnx", "ai_edge_litert"} & set(sys.modules)
        assert not heavy, heavy
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True, cwd=Path(__file__).parent)
