"""The comparison with Torch-Pruning: what is handed to PyTorch, what is asked there, and its page."""

import json
import re

import benchmark_torch_pruning as script
import keras
import numpy as np
import pytest
import torch_pruning_table as tables
from evidence_cells import COMMON
from torch_pruning_cells import CELLS, LONGER, METHODS, TORCH, mobile, vgg
from torch_pruning_handover import describe, hand_over, same_padding

from autoslim import ChannelGraph, archs, datasets
from autoslim.config import compose
from autoslim.errors import AutoslimError
from autoslim.stages.experiment import Experiment

SMALL = (16, 16, 3)
NETWORKS = {
    "vgg": lambda: vgg(SMALL, 5),
    "mobile": lambda: mobile(SMALL, 5),
    "resnet": lambda: archs.resnet((9, 9, 3), 5, depth=8, width=8),
    "mobilenet_v2": lambda: archs.mobilenet_v2(SMALL, 5, width=0.1),
}


def trained(build):
    """A network whose weights, and statistics of batch norm, are drawn."""
    keras.utils.set_random_seed(0)
    model, draw = build(), np.random.default_rng(0)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.set_weights([draw.uniform(0.5, 1.5, w.shape) for w in layer.get_weights()])
    return model


def reference(network, weights, images):
    """The logits of a described network, in NumPy: images [B, channels, height, width]."""
    values = {network["input"]: images}
    for node in network["nodes"]:
        own = [weights[f"{node['name']}/{k}"] for k in range(4) if f"{node['name']}/{k}" in weights]
        x, *others = (values[i] for i in node["inputs"])
        kind = node["kind"]
        if kind in ("Conv2D", "DepthwiseConv2D"):
            x = convolved(x, own[0], node)
        elif kind == "BatchNormalization":
            gamma, beta, mean, variance = (w[:, None, None] for w in own)
            x = gamma * (x - mean) / np.sqrt(variance + node["epsilon"]) + beta
        elif kind == "Dense":
            x = x @ own[0].T + own[1]
        elif kind == "MaxPooling2D":
            x = windows(x, node["size"], node["stride"]).max((-1, -2))
        elif kind == "GlobalAveragePooling2D":
            x = x.mean((2, 3))
        elif kind == "Flatten":
            x = x.reshape(len(x), -1)
        elif kind == "Add":
            x = x + others[0]
        if node.get("relu"):
            x = np.clip(x, 0, 6 if node["relu"] == "relu6" else None)
        values[node["output"]] = x
    return values[network["output"]]


def windows(x, size, stride):
    """[B, C, height, width, *size]: what each output sees."""
    found = np.lib.stride_tricks.sliding_window_view(x, tuple(size), (2, 3))
    return found[:, :, :: stride[0], :: stride[1]]


def convolved(x, kernel, node):
    left, right, top, bottom = node["padding"]
    seen = windows(
        np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right))), kernel.shape[2:], node["stride"]
    )
    if node["groups"] == 1:
        return np.einsum("bcyxhw,ochw->boyx", seen, kernel)
    return np.einsum("bcyxhw,chw->bcyx", seen, kernel[:, 0])


@pytest.mark.parametrize("build", NETWORKS.values(), ids=NETWORKS)
def test_what_is_handed_over_computes_the_same(build):
    model = trained(build)
    network, weights = json.loads(json.dumps(describe(model)[0])), describe(model)[1]
    images = np.random.default_rng(1).normal(size=(3, *model.input_shape[1:])).astype(np.float32)
    found = reference(network, weights, images.transpose(0, 3, 1, 2))
    logits = np.asarray(model(images, training=False))
    assert np.abs(logits).max() > 0.1
    np.testing.assert_allclose(found, logits, atol=1e-4 * max(1, np.abs(logits).max()))


@pytest.mark.parametrize("size,kernel,stride", [(32, 3, 2), (33, 3, 2), (8, 1, 2), (7, 5, 3), (4, 2, 1)])
def test_padding_is_that_of_keras(size, kernel, stride):
    """A kernel that takes its first input alone shows where the windows begin."""
    line = np.arange(1.0, size + 1).reshape(1, size, 1).astype(np.float32)
    first = np.eye(1, kernel)[0].reshape(kernel, 1, 1).astype(np.float32)
    found = np.ravel(keras.ops.conv(line, first, strides=stride, padding="same"))
    padded = np.pad(np.ravel(line), same_padding(size, kernel, stride))
    np.testing.assert_array_equal(found, padded[: len(padded) - kernel + 1 : stride])


def test_a_layer_that_is_not_translated_is_named():
    image = keras.Input((8, 8, 3))
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.SeparableConv2D(4, 3, name="odd")(image))
    message = "^Layer odd is a SeparableConv2D, which is not translated to PyTorch. There are: Conv2D, "
    with pytest.raises(AutoslimError, match=message):
        describe(keras.Model(image, keras.layers.Dense(2)(x)))
    x = keras.layers.Conv2D(4, 3, activation="gelu", name="bent")(image)
    message = re.escape("Layer bent (Conv2D) has activation=gelu: not translated to PyTorch.")
    with pytest.raises(AutoslimError, match=f"^{message}$"):
        describe(keras.Model(image, keras.layers.Dense(2)(keras.layers.Flatten()(x))))
    with pytest.raises(AutoslimError, match="has the last place, where a dense layer is expected"):
        describe(keras.Model(image, keras.layers.Flatten()(image)))


def options(*more):
    return script.parse(["--tiny50", "/images", "--cifar10", "/images", *more])


@pytest.mark.parametrize("cell", CELLS)
def test_cells_compose(cell):
    config = compose(script.settings(cell, 3, options()))
    assert config.seed == 3 and config.stages == ["baseline"]
    for method in METHODS:
        config = compose(script.method_settings(cell, 3, method, "/there/model.keras", options()))
        slimming = method.removesuffix(LONGER)
        assert (config.slim.method, config.slim.targets) == (slimming, CELLS[cell].targets)
        assert ("uniform" in config.stages) == (slimming == "magnitude")
        assert cell != "vgg" or config.retrain.epochs == (6 if slimming == method else 12)


def test_the_own_networks_are_covered():
    assert not ChannelGraph(vgg()).uncovered and not ChannelGraph(mobile()).uncovered


def test_fine_tuning_is_as_autoslim_fine_tunes_trained_networks():
    own = compose(script.method_settings("vgg", 0, "taylor", "/there/model.keras", options()))
    recipe = script.recipe_of(Experiment(own))
    assert recipe == {
        "epochs": 6,
        "rate": 0.05,
        "warmup_epochs": pytest.approx(0.6),
        "batch": 64,
        "momentum": 0.9,
        "nesterov": True,
        "weight_decay": 5e-3,
        "pad": 4,
        "flip": True,
    }
    recipe, _ = script.recipe_for("c", 0, "/there", options())
    epochs = COMMON["retrain.epochs"]  # of the evidence suite
    assert (recipe["epochs"], recipe["rate"]) == (epochs, COMMON["optimizer.learning_rate"])
    assert recipe["warmup_epochs"] == pytest.approx(0.1 * epochs)
    with pytest.raises(
        AutoslimError, match="^PyTorch's side trains by SGD, a cosine, shifts and flips alone"
    ):
        script.recipe_for("c", 0, "/there", options("--set", "retrain.schedule=linear"))


def test_another_network_is_refused():
    full = {"flops": 10, "params": 5, "top1": 0.5}
    script.refuse_another("vgg", full, {**full, "difference": 9e-5, "top1": 0.5001})
    with pytest.raises(
        AutoslimError, match="^Cell vgg: PyTorch's logits differ from Keras's by 2.0e-04, allowed"
    ):
        script.refuse_another("vgg", full, {**full, "difference": 2e-4})
    with pytest.raises(
        AutoslimError, match="^Cell vgg: PyTorch counts flops=11 and autoslim 10 for the same"
    ):
        script.refuse_another("vgg", full, {**full, "difference": 0.0, "flops": 11})


def test_what_is_above_the_budget_is_refused():
    class Above:
        def ask(self, request):
            return {"flops": request["limit"] + 1}

    class Never:
        def ask(self, request):
            return {"failed": "no way"}

    never = script.ask(Never(), "vgg", "tp-x", {"resource": "flops", "limit": 10})
    assert never == {"failed": "no way"}
    with pytest.raises(AutoslimError, match="^vgg, tp-x: 11 flops are above the budget of 10."):
        script.ask(Above(), "vgg", "tp-x", {"resource": "flops", "limit": 10})


def figures(top1, flops=5):
    return {"top1": top1, "loss": 1.0, "flops": flops, "params": 5, "environment": "a machine"}


def test_page_puts_both_tools_side_by_side(tmp_path):
    assert "Seeds measured so far: `vgg` 0, `mobile` 0, `a` 0, `c` 0." in tables.page({})
    records = {"vgg 1 0 baseline": figures(0.7, 10), "vgg 1 1 baseline": figures(0.7, 10)}
    for seed, (ours, best, other) in enumerate([(0.61, 0.6, 0.5), (0.62, 0.6, 0.59)]):
        records[tables.key("vgg", 0.5, seed, "autoslim")] = figures(ours)
        records[tables.key("vgg", 0.5, seed, "tp-taylor-global")] = {**figures(best), "torch": "2.0"}
        records[tables.key("vgg", 0.5, seed, "tp-taylor-local")] = figures(other)
    records["vgg 0.5 2 tp-bn-scale-local"] = {"failed": "no way", "environment": "a machine"}
    text = tables.page(records)
    assert "\n\nTorch-Pruning, bn-scale, local, seed 2: no way.\n" in text
    rows = {line.split("|")[1].strip(): line for line in text.splitlines() if line.startswith("|")}
    ours = [cell.strip() for cell in rows["autoslim, greedy"].split("|")]
    assert ours[2:8] == ["2", "61.50 ± 0.71", "0: 61.00, 1: 62.00", "+1.50", "1.000", "0.5000"]
    assert (
        "+0.00" in rows["Torch-Pruning, taylor, global"] and "-5.50" in rows["Torch-Pruning, taylor, local"]
    )
    assert (
        "so far: `vgg` 3, `mobile` 0" in text
        and "## mobile" not in text
        and "Measured on: a machine, PyTorch 2.0." in text
    )


def test_figures_of_the_evidence_suite(tmp_path):
    file = tmp_path / "evidence.json"
    assert tables.of_evidence(file) == {}
    there = {"a 0 autoslim": figures(0.5), "a 0 baseline": figures(0.6), "a 0 random": {}, "b 0 uniform": {}}
    file.write_text(json.dumps({"records": there}))
    assert set(tables.of_evidence(file)) == {"a 0.25 0 autoslim", "a 1 0 baseline"}
    file.write_text("[]")
    with pytest.raises(AutoslimError, match="holds no figures of the evidence suite"):
        tables.of_evidence(file)


# -- with PyTorch ------------------------------------------------------------------------------------------


@pytest.fixture
def side():
    """The PyTorch side, imported."""
    pytest.importorskip("torch")
    pytest.importorskip("torch_pruning")
    import torch_pruning_side

    return torch_pruning_side


class Few:
    """A few images, in place of `stages.images.Images`."""

    def __init__(self, shape):
        draw = np.random.default_rng(0)
        pixels = [draw.integers(0, 256, (n, *shape), np.uint8) for n in (32, 40)]
        labels = [np.arange(n) % 5 for n in (32, 40)]
        self.data = datasets.ArrayDataset("few", pixels[0], labels[0], pixels[1], labels[1], classes=5)

    def calibration(self):
        return self.data.clean(16, 2)


RECIPE = {"epochs": 1, "rate": 0.05, "warmup_epochs": 0.1, "batch": 16, "momentum": 0.9, "nesterov": True}
RECIPE |= {"weight_decay": 5e-3, "pad": 2, "flip": True}


@pytest.mark.slow
@pytest.mark.parametrize("build", NETWORKS.values(), ids=NETWORKS)
def test_pruned_in_pytorch(side, build, tmp_path, monkeypatch):
    monkeypatch.setattr(side, "STEPS", 40)
    monkeypatch.setattr(side, "FINE", 4)
    model = trained(build)
    network = hand_over(tmp_path, model, Few(model.input_shape[1:]))
    answer = side.Side()
    found, cost = answer.answer({"open": str(tmp_path), "network": network}), ChannelGraph(model).cost()
    assert found["difference"] < 1e-4 and (found["flops"], found["params"]) == (cost.flops, cost.params)
    for name in TORCH:
        pruner, scope = name.removeprefix("tp-").rsplit("-", 1)
        request = {"pruner": pruner, "everywhere": scope == "global", "resource": "flops"}
        limit = int(0.6 * found["flops"])
        request |= {"recipe": RECIPE, "seed": 0}
        small = answer.answer({**request, "limit": limit})
        assert 0.3 * found["flops"] < small["flops"] <= limit and small["params"] < found["params"]
        assert small["epochs"] == (2 if pruner == "bn-scale" else 1)
    assert re.match(
        r"taylor can't go below flops=[\d,]+, the budget is 1$",
        answer.answer({**request, "limit": 1})["failed"],
    )


def test_steps_are_those_of_keras(side, tmp_path, monkeypatch):
    """One batch an epoch, at a constant rate: the order of the images does not matter."""
    from autoslim import fit

    model = trained(lambda: archs.resnet((8, 8, 3), 5, depth=8, width=4))
    few = Few((8, 8, 3))
    network = hand_over(tmp_path, model, few)
    answer = side.Side()
    answer.answer({"open": str(tmp_path), "network": network})
    training = pytest.importorskip("torch_pruning_training")
    monkeypatch.setattr(training, "rate_at", lambda step, steps, warmup, peak: peak)
    recipe = {**RECIPE, "batch": 32, "pad": 0, "flip": False, "epochs": 4}
    training.train(answer._net, answer._images, recipe, 0)
    keys = {"schedule": "constant", "warmup_epochs": 0, "learning_rate": 0.05, "epochs": 4}
    fit(model, few.data.training(32), **keys)
    for name in ("stem_conv", "stage3_block1_conv2", "logits"):
        kernel = np.asarray(model.get_layer(name).kernel)
        there = answer._net.layers[name].weight.detach().numpy()
        axes = (3, 2, 0, 1) if kernel.ndim == 4 else (1, 0)
        np.testing.assert_allclose(there, kernel.transpose(axes), atol=2e-4)


def test_rates_are_those_of_keras(side):
    from autoslim.training.optimizers import make_schedule

    schedule = make_schedule("cosine", 0.05, 100, 7)
    training = pytest.importorskip("torch_pruning_training")
    rates = [training.rate_at(step, 100, 7, 0.05) for step in range(100)]
    np.testing.assert_allclose(rates, [float(schedule(step)) for step in range(100)], atol=1e-7)
