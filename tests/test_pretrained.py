"""Networks that exist already: keras.applications, and `.keras` files of the user's."""

import keras
import numpy as np
import pytest

from autoslim import ChannelGraph, archs
from autoslim.archs.pretrained import without_softmax
from autoslim.errors import AutoslimError

L = keras.layers


def classifier(last="softmax"):
    x = image = keras.Input((8, 8, 3), name="image")
    x = L.GlobalAveragePooling2D()(L.Conv2D(8, 3, activation="relu", name="conv")(x))
    return keras.Model(image, L.Dense(4, activation=last, name="logits")(x))


def test_application():
    model = archs.build("autoslim.archs.keras_application", (32, 32, 3), 5, name="MobileNetV2")
    assert model.output_shape == (None, 5) and len(ChannelGraph(model).slimmable) > 20


def test_application_with_weights_of_a_file(tmp_path):
    first = archs.keras_application((32, 32, 3), 5, "MobileNet")
    first.save_weights(tmp_path / "first.weights.h5")
    second = archs.keras_application((32, 32, 3), 5, "MobileNet", str(tmp_path / "first.weights.h5"))
    for a, b in zip(first.get_weights(), second.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    with pytest.raises(AutoslimError, match="can't be loaded into .*: .* Expected a file that save_weights"):
        archs.keras_application((32, 32, 3), 7, "MobileNet", str(tmp_path / "first.weights.h5"))


def test_unknown_application():
    with pytest.raises(
        AutoslimError, match=r"arch\.name=MobilNetV2 is not a classifier .* Did you mean MobileNetV"
    ):
        archs.keras_application((32, 32, 3), 5, "MobilNetV2")


@pytest.mark.parametrize("ending", ["dense", "activation", "softmax"])
def test_softmax_is_taken_off(ending):
    model = classifier("softmax" if ending == "dense" else None)
    if ending != "dense":
        layer = L.Softmax() if ending == "softmax" else L.Activation("softmax")
        model = keras.Model(model.input, layer(model.outputs[0]))
    images = np.random.default_rng(0).normal(size=(3, 8, 8, 3)).astype("float32")
    logits = without_softmax(model)(images)
    np.testing.assert_allclose(keras.ops.softmax(logits), model(images), atol=1e-6)


def test_file(tmp_path):
    model = classifier()
    model.save(tmp_path / "model.keras")
    loaded = archs.build("autoslim.archs.keras_file", (8, 8, 3), 4, path=str(tmp_path / "model.keras"))
    images = np.random.default_rng(0).normal(size=(3, 8, 8, 3)).astype("float32")
    np.testing.assert_allclose(keras.ops.softmax(loaded(images)), model(images), atol=1e-6)


def test_missing_file():
    with pytest.raises(AutoslimError) as caught:
        archs.keras_file((8, 8, 3), 4, "nowhere.keras")
    assert str(caught.value) == (
        "arch.path=nowhere.keras is not a file. Expected a model that model.save('x.keras') wrote."
    )


def test_files_that_hold_no_layers(tmp_path):
    model = classifier()
    model.export(tmp_path / "saved", verbose=False)
    with pytest.raises(AutoslimError, match=r"saved is a SavedModel: .* Write the Keras model .*'x\.keras'"):
        archs.keras_file((8, 8, 3), 4, str(tmp_path / "saved"))
    model.save_weights(tmp_path / "x.weights.h5")
    (tmp_path / "x.weights.h5").rename(tmp_path / "renamed.h5")
    model.save_weights(tmp_path / "x.weights.h5")
    for name in ("x.weights.h5", "renamed.h5"):
        with pytest.raises(
            AutoslimError, match=r"h5 holds weights alone, and no network\. Build the network"
        ):
            archs.keras_file((8, 8, 3), 4, str(tmp_path / name))


def test_damaged_file(tmp_path):
    (tmp_path / "model.keras").write_bytes(b"no zip")
    with pytest.raises(AutoslimError, match=r"arch\.path=.*model\.keras is damaged, or no model: "):
        archs.keras_file((8, 8, 3), 4, str(tmp_path / "model.keras"))


def test_lambda_in_a_file(tmp_path):
    x = keras.Input((8, 8, 3))
    y = L.Lambda(lambda t: t * 2.0)(x)
    keras.Model(x, L.Dense(4)(L.Flatten()(y))).save(tmp_path / "model.keras")
    with pytest.raises(AutoslimError, match="holds a Lambda layer, whose code is not run from a file"):
        archs.keras_file((8, 8, 3), 4, str(tmp_path / "model.keras"))


class Unregistered(L.Layer):
    def call(self, x):
        return x * 2.0


def test_unknown_class_in_a_file(tmp_path):
    x = keras.Input((8, 8, 3))
    keras.Model(x, L.Dense(4)(L.Flatten()(Unregistered()(x)))).save(tmp_path / "model.keras")
    path = tmp_path / "model.keras"
    # As in another process, where the class was never imported.
    import zipfile

    with zipfile.ZipFile(path) as file:
        parts = {name: file.read(name) for name in file.namelist()}
    parts["config.json"] = parts["config.json"].replace(b"Unregistered", b"Elsewhere")
    with zipfile.ZipFile(path, "w") as file:
        for name, content in parts.items():
            file.writestr(name, content)
    with pytest.raises(AutoslimError, match="holds a class that Keras does not know .* Register it with"):
        archs.keras_file((8, 8, 3), 4, str(path))
