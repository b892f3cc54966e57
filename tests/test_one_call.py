"""One call from a Keras model to smaller ones."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import autoslim
from autoslim.errors import AutoslimError

L = keras.layers
SHORT = {"levels": 2, "min_width": 0.5, "supernet": {"epochs": 1}, "retrain": {"epochs": 1}}


@pytest.fixture(scope="module")
def images():
    """240 images whose class is where the light is, and that many labels."""
    draw = np.random.default_rng(0)
    labels = draw.integers(0, 4, 240)
    x = draw.normal(0, 0.1, (240, 6, 6, 1)).astype("float32")
    for number, label in enumerate(labels):
        x[number, 3 * (label // 2) : 3 * (label // 2) + 3, 3 * (label % 2) : 3 * (label % 2) + 3] += 1
    return x, labels


@pytest.fixture(scope="module")
def model(images):
    keras.utils.set_random_seed(0)
    conv = {"padding": "same", "use_bias": False}
    net = keras.Sequential(
        [keras.Input((6, 6, 1)), L.Conv2D(8, 3, **conv), L.BatchNormalization(), L.ReLU(), L.Flatten()]
        + [L.Dense(8, activation="relu"), L.Dense(4, activation="softmax")]
    )
    autoslim.fit(net, images, epochs=6, batch_size=40, learning_rate=0.1)
    return net


def test_targets_figures_and_the_model_stays_as_it_is(model, images, tmp_path):
    before = [np.array(w) for w in model.get_weights()]
    call = {"target": [0.7, 0.5], "test": images, "folder": tmp_path, "train": {"batch_size": 40}, **SHORT}
    result = autoslim.slim(model, images, **call)
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))
    assert list(result.models) == [0.7, 0.5] and result.model is result.models[0.5]
    given, *slim = result.rows()
    assert given["network"] == "given" and given["metric"] > 0.9
    for row, wanted in zip(slim, (0.7, 0.5), strict=True):
        small = result.models[wanted]
        assert row["flops_share"] <= wanted and row["params"] == small.count_params() - sum(
            np.size(w) for w in small.non_trainable_weights
        )
        right = (np.asarray(small(images[0])).argmax(-1) == images[1]).mean()
        assert row["metric"] == pytest.approx(right)
    again = autoslim.slim(model, images, **call)
    assert again.rows() == result.rows()
    assert "the given network" in result.report() and "on 240 test images" in result.report()
    assert result._repr_html_().count("<tr>") == len(repr(result).splitlines()) == 4
    axes = result.plot()
    drawn = {float(x) for line in axes.lines for x in line.get_xdata()}
    assert {row["flops"] for row in result.rows()} <= drawn
    with pytest.raises(AutoslimError, match="is of another call of slim\\(\\), with other options"):
        autoslim.slim(model, images, **{**call, "target": 0.6})


class Batches(keras.utils.PyDataset):
    def __init__(self, x, y):
        super().__init__()
        self.x, self.y = x, y

    def __len__(self):
        return 6

    def __getitem__(self, index):
        part = slice(40 * index, 40 * index + 40)
        return self.x[part], self.y[part]


@pytest.mark.parametrize("kind", ["one-hot", "PyDataset", "kept apart"])
def test_images_as_users_have_them(model, images, kind):
    x, y = images
    dataset = tf.data.Dataset.from_tensor_slices((x, y)).batch(40)
    train, more = {
        "one-hot": ((x, keras.utils.to_categorical(y)), {}),
        "PyDataset": (Batches(x, y), {}),
        "kept apart": (dataset, {"holdout": (x[:80], y[:80])}),
    }[kind]
    result = autoslim.slim(model, train, method="magnitude", retrain={"epochs": 1}, levels=2, **more)
    assert result.rows()[-1]["flops_share"] <= 0.5 and not result.on_test_images
    assert result.images == (80 if more else 48)


def test_an_untrained_model_and_what_is_refused(images):
    keras.utils.set_random_seed(1)
    fresh = keras.Sequential([keras.Input((6, 6, 1)), L.Flatten(), L.Dense(8, "relu"), L.Dense(4)])
    result = autoslim.slim(fresh, images, **SHORT)
    assert [row["network"] for row in result.rows()] == ["autoslim"]
    with pytest.raises(AutoslimError, match="method=taylor needs trained weights, and the model has none"):
        autoslim.slim(fresh, images, method="taylor")
    with pytest.raises(AutoslimError, match="slim\\(\\) has no option 'epochs'"):
        autoslim.slim(fresh, images, epochs=3)
    endless = tf.data.Dataset.from_tensor_slices(images).batch(40).repeat()
    with pytest.raises(AutoslimError, match="repeats without end"):
        autoslim.slim(fresh, endless)


def small_net(seed, units=8):
    keras.utils.clear_session()
    keras.utils.set_random_seed(seed)
    return keras.Sequential(
        [keras.Input((6, 6, 1)), L.Flatten(), L.Dropout(0.1), L.Dense(units, "relu"), L.Dense(4)]
    )


def test_a_script_that_runs_again_goes_on(images, tmp_path, caplog):
    """It builds its model anew, with other first weights: the folder keeps those it began with."""
    call = {"folder": tmp_path / "f", "trained": False, **SHORT}
    first = autoslim.slim(small_net(1), images, **call)
    with caplog.at_level("INFO"):
        again = autoslim.slim(small_net(2), images, **call)
    assert again.rows() == first.rows() and "weights that its first call began with" in caplog.text
    for one, other in zip(first.model.get_weights(), again.model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    with pytest.raises(AutoslimError, match=r"other options \(slim.target, retrain.epochs\)\. Choose"):
        autoslim.slim(small_net(2), images, **{**call, "target": 0.6, "retrain": {"epochs": 2}})
    with pytest.raises(AutoslimError, match="other network"):
        autoslim.slim(small_net(1, units=16), images, **call)
    with pytest.raises(AutoslimError, match="other weights, trained"):
        autoslim.slim(small_net(2), images, **{**call, "trained": True})
    model = small_net(1)  # the second of its kind in a notebook
    other = keras.Sequential([keras.Input((6, 6, 1)), L.Flatten(), L.Dropout(0.1), L.Dense(8), L.Dense(4)])
    assert model.count_params() == other.count_params()
    with pytest.raises(
        AutoslimError, match=r"names \(\S*dense_2\S* in place of \S*dense\S*\): .*clear_session"
    ):
        autoslim.slim(other, images, **call)


def test_arrays_in_a_list_are_not_batches(images):
    for call in (
        lambda: autoslim.slim(small_net(0), list(images)),
        lambda: autoslim.fit(small_net(0), list(images)),
        lambda: autoslim.evaluate(small_net(0), list(images)),
    ):
        with pytest.raises(AutoslimError, match=r"Got a list of 2 arrays: .* Write a tuple"):
            call()


def by_hand(model, x):
    """What a small network of LSTM and dense layer computes, step by step."""
    kernel, recurrent, bias = (w.numpy() for w in model.get_layer("lstm").weights)
    squash = lambda z: 1 / (1 + np.exp(-z))  # noqa: E731
    h = c = np.zeros((len(x), len(recurrent)))
    for step in range(x.shape[1]):
        i, f, g, o = np.split(x[:, step] @ kernel + h @ recurrent + bias, 4, axis=1)
        c = squash(f) * c + squash(i) * np.tanh(g)
        h = squash(o) * np.tanh(c)
    weights, shift = (w.numpy() for w in model.get_layer("logits").weights)
    return h @ weights + shift


def test_a_recurrent_network_is_slimmed():
    draw = np.random.default_rng(0)
    x = draw.normal(size=(120, 4, 3)).astype("float32")
    labels = (x[:, :2, 0].sum(1) > x[:, 2:, 1].sum(1)).astype("int32")
    i = keras.Input((4, 3))
    net = keras.Model(i, L.Dense(2, name="logits")(L.LSTM(8, name="lstm")(i)))
    result = autoslim.slim(net, (x, labels), target=0.5, trained=False, train={"batch_size": 24}, **SHORT)
    small = result.model
    assert small.get_layer("lstm").units < 8 and type(small.get_layer("lstm")) is L.LSTM
    np.testing.assert_allclose(small(x), by_hand(small, x), atol=1e-5)
    assert result.rows()[0]["flops_share"] <= 0.5


def test_costs_of_texts_of_any_length_are_those_of_the_data():
    x = keras.Input((None,), dtype="int32")
    y = L.SimpleRNN(4)(L.Embedding(4, 4, mask_zero=True)(x))
    texts = np.random.default_rng(0).integers(0, 4, (40, 5))
    result = autoslim.slim(
        keras.Model(x, L.Dense(2)(y)),
        (texts, texts[:, -1] // 2),
        trained=True,
        train={"batch_size": 20},
        divisor=1,
        **SHORT,
    )
    given, small = result.rows()
    assert given["flops"] == 5 * (4 * 4 + 4 * 4) + 4 * 2 and small["flops_share"] <= 0.5
    assert result.models[0.5].input_shape == (None, None)
