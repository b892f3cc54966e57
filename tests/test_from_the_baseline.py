"""Small networks that begin with the trained full network's weights (`retrain.init=baseline`, or null)."""

from pathlib import Path

import keras
import numpy as np
import pytest
from runs import SMALL

import autoslim
from autoslim.config import compose
from autoslim.errors import AutoslimError
from autoslim.graph import ChannelGraph
from autoslim.metrics import TOP1
from autoslim.schema.starts import RECIPES
from autoslim.stages import Outcome, run_stages
from autoslim.stages.experiment import Experiment
from autoslim.stages.recipe import recipe_of
from autoslim.stages.warn import learnt_little

L = keras.layers
FROM = {**SMALL, "retrain.init": "null"}


def run(output: Path, stages: str, **settings: object) -> Outcome:
    given = {name.replace("__", "."): value for name, value in settings.items()}
    return run_stages(compose({**FROM, "output": output, "stages": stages, **given}))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    output = tmp_path_factory.mktemp("from")
    return run(output, "[baseline,supernet,search,retrain,uniform,report]")


def first_model(output: Path, *channels: int, **settings: object) -> keras.Model:
    """The network of these channels, with which training begins; none given: the network's own."""
    given = {name.replace("__", "."): value for name, value in settings.items()}
    experiment = Experiment(compose({**FROM, "output": output, **given}))
    widths = experiment.own_widths.copy()
    for group, count in zip(experiment.plan.slimmable, channels, strict=bool(channels)):
        widths[group.index] = count
    return recipe_of(experiment).small_model(experiment.builder, widths)


def images_of(model: keras.Model) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(6, *model.input_shape[1:])).astype(np.float32)


def loaded(outcome: Outcome, stage: str = "baseline") -> keras.Model:
    return keras.saving.load_model(Path(outcome.folders[stage]) / "model.keras")


def test_at_full_width_it_computes_what_the_baseline_does(whole: Outcome) -> None:
    output, baseline = Path(whole.folders["baseline"]).parent.parent, loaded(whole)
    first, x = first_model(output), images_of(baseline)
    np.testing.assert_allclose(first(x), baseline(x), atol=1e-5)


def test_a_narrower_one_has_the_channels_that_are_read_with_the_largest_weights(whole: Outcome) -> None:
    """By hand, for a chain of three convolutions and a dense layer."""
    output, baseline = Path(whole.folders["baseline"]).parent.parent, loaded(whole)
    kept = [np.arange(baseline.input_shape[-1])]
    for reader, width in zip(("conv2", "conv3", "logits"), (4, 6, 8), strict=True):
        kernel = baseline.get_layer(reader).kernel.numpy()
        squares = np.square(kernel).reshape(-1, *kernel.shape[-2:]).sum((0, 2))
        kept.append(np.argsort(-squares)[:width])
    first = first_model(output, 4, 6, 8)
    for number in (1, 2, 3):
        old, new = (m.get_layer(f"conv{number}").kernel.numpy() for m in (baseline, first))
        np.testing.assert_array_equal(new, old[:, :, kept[number - 1]][..., kept[number]])
        for old, new in zip(*(m.get_layer(f"bn{number}").weights for m in (baseline, first)), strict=True):
            np.testing.assert_array_equal(new.numpy(), old.numpy()[kept[number]])


def test_groups_that_are_wider_than_the_network_begin_as_it_is(tmp_path: Path) -> None:
    """And so do those that are as wide, beside one that is narrower."""
    wide = {"slim__headroom": 1.5}
    outcome = run(tmp_path, "[baseline]", **wide)
    baseline = loaded(outcome)
    x = images_of(baseline)
    grown = first_model(tmp_path, 12, 16, 20, **wide)
    np.testing.assert_allclose(grown(x), baseline(x), atol=1e-5)
    own = first_model(tmp_path, **wide)
    np.testing.assert_allclose(own(x), baseline(x), atol=1e-5)
    mixed = first_model(tmp_path, 12, 6, 20, **wide)
    cut = first_model(tmp_path, 8, 6, 16, **wide)
    assert [group.size for group in ChannelGraph(mixed).slimmable] == [12, 6, 20]
    np.testing.assert_allclose(mixed(x), cut(x), atol=1e-5)


def test_the_baseline_is_on_the_bill_and_the_report_says_where_networks_began(whole: Outcome) -> None:
    text = (Path(whole.folders["report"]) / "report.md").read_text()
    assert "from the trained full network's weights, with the most important channels" in text
    assert "- supernet + search + baseline + retrain 0.5: " in text


def test_the_uniform_network_begins_so_too(whole: Outcome) -> None:
    for label in ("retrain 0.5", "uniform 0.5"):
        config = (Path(whole.folders[label]) / "config.yaml").read_text()
        assert Path(whole.folders["baseline"]).name.rpartition("-")[2] in config


def test_without_a_baseline_it_is_refused_before_anything_is_trained(tmp_path: Path) -> None:
    with pytest.raises(AutoslimError, match="retrain with retrain.init=baseline .* needs the result of"):
        run(tmp_path, "[supernet,search,retrain]")
    assert not list(tmp_path.glob("*/supernet-*"))


def test_a_given_network_stands_for_the_baseline(whole: Outcome, tmp_path: Path) -> None:
    path = Path(whole.folders["baseline"]) / "model.keras"
    keys = {**FROM, "arch": "keras_file", "arch.path": path, "arch.name": "mine", "output": tmp_path}
    keys = {name: value for name, value in keys.items() if name != "arch._target_"}
    outcome = run_stages(compose({**keys, "stages": "[supernet,search,retrain]"}))
    assert [row["network"] for row in outcome.rows] == ["given", "autoslim"]
    experiment = Experiment(compose(keys))
    first = recipe_of(experiment).small_model(experiment.builder, experiment.own_widths)
    x = images_of(first)
    np.testing.assert_allclose(first(x), loaded(whole)(x), atol=1e-5)
    assert experiment.retrain.learning_rate == RECIPES["trained"].rates["sgd"]


def test_networks_are_trained_as_one_from_it(whole: Outcome) -> None:
    output = Path(whole.folders["baseline"]).parent.parent
    keys = {"retrain__joint": "true", "slim__target": "[0.7,0.5]"}
    for wider in ({}, {"slim__headroom": 1.5}):
        outcome = run(output, "[baseline,supernet,search,retrain]", **wider, **keys)
        assert [row["target"] for row in outcome.rows] == [None, 0.7, 0.5]


def test_one_call_begins_with_the_models_own_weights() -> None:
    draw = np.random.default_rng(0)
    labels = draw.integers(0, 2, 120)
    x = (draw.normal(0, 0.1, (120, 4)) + labels[:, None]).astype("float32")
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((4,)), L.Dense(8, activation="relu"), L.Dense(2)])
    call = {"levels": 2, "min_width": 0.5, "supernet": {"epochs": 1}}
    retrain = {"epochs": 1, "learning_rate": 1e-9}
    with pytest.raises(AutoslimError, match="retrain.init='baseline' needs trained weights, and the model"):
        autoslim.slim(model, (x, labels), trained=False, retrain={"init": "baseline", **retrain}, **call)
    result = autoslim.slim(model, (x, labels), target=0.6, trained=True, retrain=retrain, **call)
    kernel = model.layers[-1].kernel.numpy()
    kept = np.argsort(-np.square(kernel).sum(1))[:4]
    np.testing.assert_allclose(result.model.layers[-1].kernel.numpy(), kernel[kept], atol=1e-6)


@pytest.mark.parametrize(
    ("keys", "init"),
    [
        ({}, "baseline"),
        ({"retrain.joint": "true", "slim.headroom": 1.5}, "baseline"),
        ({"baseline.train": "false"}, "supernet"),
        ({"retrain.init": "scratch"}, "scratch"),
        # Of a method that prunes the supernet is the sorted baseline: they are the same.
        ({"slimming": "taylor"}, "supernet"),
        ({"slimming": "taylor", "retrain.init": "baseline"}, "supernet"),
    ],
)
def test_where_small_networks_begin(keys: dict[str, str], init: str, tmp_path: Path) -> None:
    assert Experiment(compose({**FROM, "output": tmp_path, **keys})).retrain.init == init


def test_a_supernet_that_is_far_behind_the_full_network_is_told_of() -> None:
    assert learnt_little(TOP1, {"holdout_top1": 0.3}, {"top1": 0.36}, True) == ""
    text = learnt_little(TOP1, {"holdout_top1": 0.192}, {"top1": 0.3636}, True)
    assert "supernet.init=baseline" in text
    assert "supernet.init" not in learnt_little(TOP1, {"holdout_top1": 0.192}, {"top1": 0.3636}, False)
    assert "19.20 % on held-out images, the full network alone 36.36 %" in text
    for supernet, full in (({}, {"top1": 0.36}), ({"holdout_top1": 0.1}, {})):
        assert learnt_little(TOP1, supernet, full, True) == ""


def test_the_report_says_so_where_networks_begin_with_the_supernet(
    whole: Outcome, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("autoslim.stages.warn.LITTLE", 100.0)
    output, stages = (
        Path(whole.folders["baseline"]).parent.parent,
        "[baseline,supernet,search,retrain,report]",
    )
    for init, told in (("baseline", False), ("supernet", True)):
        report = Path(run(output, stages, retrain__init=init).folders["report"]) / "report.md"
        for text in (caplog.text, report.read_text()):
            assert ("small networks begin with its weights" in text) == told


@pytest.mark.parametrize("name", ["init", "teacher"])
def test_a_baseline_that_will_not_be_trained_is_refused_first(tmp_path: Path, name: str) -> None:
    keys = {"retrain__init": "scratch", f"retrain__{name}": "baseline"}
    with pytest.raises(AutoslimError, match=rf"retrain.{name}=baseline needs .*\(baseline.train=false\)"):
        run(tmp_path, "[baseline,supernet,search,retrain]", baseline__train="false", **keys)
    assert not list(tmp_path.glob("*/supernet-*"))
