"""Networks that come with trained weights, held-out images that nobody trains on, failures that are told."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import keras
import numpy as np
import pytest
from runs import SMALL, TINY

from autoslim import datasets
from autoslim.config import compose
from autoslim.datasets import TrainingBatches
from autoslim.errors import AutoslimError
from autoslim.metrics import TOP1
from autoslim.reporting.statistics import guessing, near_chance
from autoslim.schema import (
    ArchConfig,
    CustomArch,
    KerasApplication,
    KerasFile,
    OptimizerConfig,
    RetrainConfig,
)
from autoslim.schema.starts import RECIPES, filled
from autoslim.stages import Outcome, run_stages
from autoslim.stages.experiment import Experiment
from autoslim.stages.given import as_good_as_the_best
from autoslim.stages.start import weights_of
from autoslim.training.evaluate import Evaluation

L = keras.layers
GIVEN = {key: value for key, value in TINY.items() if not key.startswith(("arch", "dataset"))}


def net() -> keras.Model:
    """A small network for digits."""
    x = image = keras.Input((8, 8, 1))
    x = L.ReLU()(L.Conv2D(16, 3, strides=2, padding="same", name="conv")(x))
    return keras.Model(image, L.Dense(10, name="logits")(L.Flatten()(x)), name="mine")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A `.keras` file of a network that plain Keras trained on digits, scaled to [-1, 1]."""
    data = datasets.digits()
    keras.utils.set_random_seed(0)
    model = net()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.01), loss)
    model.fit(data.train_images / 127.5 - 1, data.train_labels, batch_size=64, epochs=6, verbose=0)
    path = tmp_path_factory.mktemp("given") / "mine.keras"
    model.save(path)
    return path


def run(output: Path, path: Path, **settings: object) -> Outcome:
    """Stages on the given network; `__` in a name stands for a dot."""
    arch = {
        "arch": "keras_file",
        "arch.path": path,
        "arch.name": "mine",
        "dataset.normalization": "symmetric",
    }
    given = {name.replace("__", "."): value for name, value in settings.items()}
    return run_stages(compose({**GIVEN, **arch, "output": output, **given}))


@pytest.fixture(scope="module")
def whole(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """What a run with the defaults leaves."""
    return run(tmp_path_factory.mktemp("whole"), trained)


# -- the given network is the reference ---------------------------------------------------------------------


def test_the_given_accuracy_is_in_the_table_and_the_reference(whole: Outcome, trained: Path) -> None:
    data = datasets.digits()
    logits = keras.saving.load_model(trained).predict(data.test_images / 127.5 - 1, verbose=0)
    top1 = float(np.mean(logits.argmax(1) == data.test_labels))
    assert top1 > 0.8
    rows = {row["network"]: row for row in whole.rows}
    assert list(rows) == ["given", "autoslim", "uniform"]
    assert rows["given"]["metric"] == pytest.approx(top1)
    report = (Path(whole.folders["report"]) / "report.md").read_text()
    assert "minus given, points" in report
    first = report.splitlines()[0]
    found = re.fullmatch(
        r"AutoSlim 0\.5: FLOPs -(\d+) %, parameters [+-]\d+ %, top-1 ([+-][\d.]+) points "
        r"\(([\d.]+) % against ([\d.]+) % of the given network, 360 test images\); "
        r"uniform within the same FLOPs: ([+-][\d.]+) points\.",
        first,
    )
    assert found, first
    saved, apart, slim, given, uniform = found.groups()
    assert float(given) == pytest.approx(100 * top1, abs=0.005) and int(saved) >= 49
    difference = 100 * (rows["autoslim"]["metric"] - top1)
    assert float(slim) == pytest.approx(100 * rows["autoslim"]["metric"], abs=0.005)
    assert float(apart) == pytest.approx(difference, abs=0.005)
    assert float(uniform) == pytest.approx(100 * (rows["uniform"]["metric"] - top1), abs=0.005)


def test_the_given_weights_stay_as_they_are(whole: Outcome, trained: Path) -> None:
    kept = keras.saving.load_model(Path(whole.folders["given"]) / "model.keras").get_weights()
    for mine, theirs in zip(kept, keras.saving.load_model(trained).get_weights(), strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_the_run_ends_with_what_came_out(
    trained: Path, whole: Outcome, capsys: pytest.CaptureFixture[str]
) -> None:
    output = Path(whole.folders["given"]).parent.parent
    run(output, trained)
    last = capsys.readouterr().out.rstrip().splitlines()[-1]
    assert last == (Path(whole.folders["report"]) / "report.md").read_text().splitlines()[0]


def test_what_cannot_be_known_is_said(whole: Outcome) -> None:
    result = json.loads((Path(whole.folders["supernet"]) / "result.json").read_text())
    (text,) = [text for text in result["warnings"] if "dataset.holdout_path" in text]
    assert text in (Path(whole.folders["report"]) / "report.md").read_text()


def test_the_full_network_is_trained_when_asked_for(trained: Path, whole: Outcome) -> None:
    output = Path(whole.folders["given"]).parent.parent
    rows = run(output, trained, baseline__train="true").rows
    assert [row["network"] for row in rows] == ["given", "baseline", "autoslim", "uniform"]


def test_a_forgotten_normalisation_is_said_with_the_way_out(
    trained: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    outcome = run(tmp_path, trained, stages="[baseline,report]", dataset__normalization="pixels")
    (told,) = [
        record.getMessage()
        for record in caplog.records
        if record.name.startswith("autoslim") and record.levelname == "WARNING"
    ]
    assert "The network expects other inputs: give dataset.normalization=symmetric" in told
    for name in ("dataset", "unit", "symmetric", "pixels"):
        assert re.search(rf"{name} [\d.]+ %", told)
    assert told in (Path(outcome.folders["report"]) / "report.md").read_text()
    assert "give dataset.normalization=symmetric" in capsys.readouterr().out.splitlines()[-2]


def test_normalisations_that_the_images_cannot_tell_apart_are_all_named() -> None:
    """1.96 standard errors of 80 % on 120 images are 7 points, on 10,000 less than one."""

    def ranked(images: int) -> list[str]:
        shares = {"dataset": 0.783, "pixels": 0.2, "imagenet": 0.808}
        values = {name: np.arange(images) < share * images for name, share in shares.items()}
        return as_good_as_the_best(
            {name: Evaluation(float(v.mean()), 0.5, v.astype(np.float32), TOP1) for name, v in values.items()}
        )

    assert ranked(120) == ["imagenet", "dataset"]
    assert ranked(10_000) == ["imagenet"]


def test_the_normalisations_are_tried_as_they_are_defined(trained: Path, whole: Outcome) -> None:
    """Against pixels that are normalised by hand, on the same held-out images."""
    data, model = datasets.digits(), keras.saving.load_model(trained)
    output = Path(whole.folders["given"]).parent.parent
    overrides = {**GIVEN, "arch": "keras_file", "arch.path": trained, "output": output}
    index = Experiment(compose(overrides)).images.split[1]
    pixels, labels = data.train_images[index].astype("float64"), data.train_labels[index]
    own = (pixels / 255 - data.mean) / data.std
    inputs = {"dataset": own, "unit": pixels / 255, "symmetric": pixels / 127.5 - 1, "pixels": pixels}
    found = json.loads((Path(whole.folders["given"]) / "result.json").read_text())["normalizations"]
    for name, images in inputs.items():
        top1 = np.mean(model.predict(images, verbose=0).argmax(1) == labels)
        assert found[name] == pytest.approx(top1, abs=2 / len(index)), name
    assert set(found) == {*inputs}  # imagenet is for three channels


def test_a_teacher_that_there_is_not(tmp_path: Path) -> None:
    with pytest.raises(
        AutoslimError, match=r"retrain\.teacher=given needs a network that comes with trained"
    ):
        run_stages(compose({**TINY, "output": tmp_path, "retrain.teacher": "given"}))
    assert list(tmp_path.iterdir()) == []


# -- which weights are trained ------------------------------------------------------------------------------


def loaded(seed: int) -> keras.Model:
    """As of a function that loads its weights."""
    keras.utils.set_random_seed(7)
    return net()


def drawn(seed: int) -> keras.Model:
    keras.utils.set_random_seed(seed)
    return net()


def pretrained_body(seed: int) -> keras.Model:
    model = drawn(seed)
    model.get_layer("conv").set_weights(loaded(0).get_layer("conv").get_weights())
    return model


RULES = [
    (KerasFile("autoslim.archs.keras_file", "mine", path="x.keras"), drawn, "trained"),
    (KerasApplication("autoslim.archs.keras_application", "MobileNet"), drawn, "fresh"),
    (KerasApplication("autoslim.archs.keras_application", "MobileNet", weights="imagenet"), drawn, "partly"),
    (KerasApplication("autoslim.archs.keras_application", "MobileNet", weights="my.h5"), drawn, "trained"),
    (ArchConfig("autoslim.archs.resnet", "resnet"), drawn, "fresh"),
    (CustomArch("my.net", "net"), drawn, "fresh"),
    (CustomArch("my.net", "net"), loaded, "trained"),
    (CustomArch("my.net", "net"), pretrained_body, "partly"),
    (CustomArch("my.net", "net", trained=True), drawn, "trained"),
    (KerasFile("autoslim.archs.keras_file", "mine", path="x.keras", trained=False), loaded, "fresh"),
]


@pytest.mark.parametrize(("arch", "build", "expected"), RULES)
def test_which_weights_are_trained(arch: ArchConfig, build: object, expected: str) -> None:
    assert weights_of(arch, 10, build) == expected  # type: ignore[arg-type]


# -- recipes ------------------------------------------------------------------------------------------------


def test_a_recipe_fills_what_is_null_and_nothing_else() -> None:
    retrain = filled(RetrainConfig(), "trained", OptimizerConfig())
    recipe = RECIPES["trained"]
    assert (retrain.epochs, retrain.learning_rate) == (recipe.epochs["retrain"], recipe.rates["sgd"])
    assert retrain.warmup_epochs == pytest.approx(retrain.length / 10)
    given = RetrainConfig(epochs=7, learning_rate=0.3, warmup_epochs=0)
    assert filled(given, "trained", OptimizerConfig()) == given
    assert filled(RetrainConfig(), "trained", OptimizerConfig(learning_rate=0.3)).learning_rate == 0.3
    assert filled(RetrainConfig(), "fresh", OptimizerConfig(name="adamw")).learning_rate == 1e-3


def test_what_starts_from_trained_weights_is_trained_gently(trained: Path, tmp_path: Path) -> None:
    def rates(**settings: object) -> list[float | None]:
        arch = {"arch": "keras_file", "arch.path": trained, "output": tmp_path}
        experiment = Experiment(compose({**arch, **{k.replace("__", "."): v for k, v in settings.items()}}))
        return [
            stage.learning_rate for stage in (experiment.baseline, experiment.supernet, experiment.retrain)
        ]

    gentle = RECIPES["trained"].rates["sgd"]
    assert rates() == [gentle] * 3
    assert rates(supernet__init="scratch") == [gentle, 0.1, gentle]
    assert rates(supernet__init="scratch", retrain__init="supernet") == [gentle, 0.1, 0.1]
    assert rates(retrain__init="scratch") == [gentle, gentle, 0.1]
    fresh = {"arch__trained": "false"}
    assert rates(**fresh) == [0.1] * 3
    assert rates(**fresh, supernet__init="baseline") == [0.1, gentle, 0.1]
    assert rates(**fresh, supernet__init="baseline", retrain__init="supernet") == [0.1, gentle, gentle]
    assert rates(optimizer__learning_rate=0.3, retrain__learning_rate=0.2) == [0.3, 0.3, 0.2]
    arch = {"arch": "keras_file", "arch.path": trained, "output": tmp_path, "arch.trained": "false"}
    tried = Experiment(compose({**arch, "supernet.init": "baseline"})).candidates  # from that supernet
    assert (tried.init, tried.learning_rate) == ("supernet", gentle)


# -- held-out images ----------------------------------------------------------------------------------------

IMAGES = 300


def numbered() -> datasets.ArrayDataset:
    """Images whose first two pixels say which they are."""
    rng, number = np.random.default_rng(0), np.arange(IMAGES)
    images = rng.integers(0, 256, (IMAGES, 8, 8, 1), np.uint8)
    images[:, 0, 0, 0], images[:, 0, 1, 0] = number // 256, number % 256
    labels = rng.permutation(number % 10)
    return datasets.ArrayDataset("digits", images, labels, images[:50], labels[:50], 10, "unit")


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> Iterator[set[int]]:
    """The numbers of all training images that a training has been given."""
    seen: set[int] = set()
    original = TrainingBatches.dataset

    def recorded(self: TrainingBatches, *args: object, **kwargs: object) -> object:
        for images, _ in original(self, *args, **kwargs):  # the pipeline is stateless: a copy reads the same
            first = np.rint(255 * np.asarray(images)[:, 0, :2, 0]).astype(int)
            seen.update((256 * first[:, 0] + first[:, 1]).tolist())
        return original(self, *args, **kwargs)

    monkeypatch.setattr(TrainingBatches, "dataset", recorded)
    monkeypatch.setattr(datasets, "load", lambda *args, **kwargs: numbered())
    yield seen


PLAIN = {"dataset.pad": 0, "dataset.flip": "false", "dataset.train_images": "null", "train.batch_size": 20}


@pytest.mark.parametrize(
    "asked",
    [
        {"supernet.init": "weights", "stages": "[supernet]"},
        {"supernet.init": "baseline", "stages": "[supernet]"},
        {"slim.finalists": 2, "stages": "[supernet,search]"},  # candidates are trained, and calibrated
    ],
)
def test_no_held_out_image_is_trained_on_before_networks_are_chosen(
    asked: dict[str, object], read: set[int], tmp_path: Path
) -> None:
    settings = {**SMALL, **PLAIN, "output": tmp_path, **asked}
    run_stages(compose(settings))
    held_out = set(Experiment(compose(settings)).images.split[1].tolist())
    assert len(held_out) == 60 and len(read) > 200
    assert not read & held_out
    run_stages(compose({**settings, "stages": "[baseline]"}))  # which trains on all of them
    assert read & held_out


def test_a_supernet_from_a_baseline_is_billed_for_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stages = "[supernet,search,retrain]"
    settings = {**SMALL, "output": tmp_path, "supernet.init": "baseline"}
    outcome = run_stages(compose({**settings, "stages": stages}))
    assert {"pretrain", "supernet"} <= set(outcome.folders)
    result = json.loads((Path(outcome.folders["pretrain"]) / "result.json").read_text())
    assert result["bill"] == pytest.approx(80 / 120)  # two batches of 40 are left of 120 images
    assert "(pretrain 0.667 + supernet " in capsys.readouterr().out


# -- near chance --------------------------------------------------------------------------------------------


def test_near_chance() -> None:
    """By hand: a fifth of the way from chance to 1, at most three times chance; Wilson's lower end."""
    for classes, images, top1, expected in [
        (10, 360, 0.206, True),
        (10, 360, 0.70, False),
        (10, 10_000, 0.27, True),
        (10, 10_000, 0.29, False),
        (10, 30, 0.4, True),
        (2, 10_000, 0.59, True),
        (2, 10_000, 0.62, False),
        (1000, 50_000, 0.002, True),
        (1000, 50_000, 0.01, False),
    ]:
        chance = guessing(np.arange(images) % classes, classes)
        z, level = 1.959964, min(chance + 0.2 * (1 - chance), 3 * chance)
        centre, spread = (
            top1 + z**2 / (2 * images),
            z * np.sqrt(top1 * (1 - top1) / images + z**2 / (4 * images**2)),
        )
        low = (centre - spread) / (1 + z**2 / images)
        assert near_chance(top1, images, chance) == expected == bool(low <= level)
    assert guessing([0] * 90 + [1] * 10, 2) == 0.9 and near_chance(0.9, 10_000, 0.9)


def test_a_failed_training_says_so_and_the_run_repeats_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = {**SMALL, "output": tmp_path, "stages": "[baseline,supernet,report]"}
    outcome = run_stages(compose(settings))  # one epoch of 3 steps: it can't have learned
    capsys.readouterr()
    outcome = run_stages(compose(settings))  # reused, and told again
    told = [
        record.getMessage()
        for record in caplog.records
        if record.name.startswith("autoslim") and record.levelname == "WARNING"
    ]
    baseline, supernet = told[-2:]
    assert told[:2] == told[2:]
    assert re.match(
        r"baseline: top-1 [\d.]+ % on 360 test images is near chance: guessing reaches 10\.\d %\.", baseline
    )
    assert "baseline.warmup_epochs=0.1 now" in baseline
    assert re.match(
        r"supernet: top-1 [\d.]+ % on 20 held-out images, at full width, is near chance", supernet
    )
    report, printed = (Path(outcome.folders["report"]) / "report.md").read_text(), capsys.readouterr().out
    for text in (baseline, supernet):
        assert f"> **Warning**, {text}" in report and f"warning, {text}" in printed


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("seed", [0])
def test_the_default_recipe_trains_a_deep_network(seed: int, tmp_path: Path) -> None:
    settings = {"arch": "resnet56", "seed": seed, "output": tmp_path, "stages": "[baseline]"}
    (row,) = run_stages(compose({**settings, "train.deterministic": "false"})).rows
    assert row["metric"] > 0.95
