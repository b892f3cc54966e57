"""The typed configuration: defaults, documentation, ranges, and messages for what is refused."""

import dataclasses
from configparser import ConfigParser
from pathlib import Path

import pytest
from omegaconf import OmegaConf

import autoslim.conf
from autoslim import schema
from autoslim.config import Config, compose, documentation, validate
from autoslim.errors import AutoslimError

CONF = Path(autoslim.conf.__file__).parent


def options(group: str) -> list[str]:
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))


def refusal(*overrides: str) -> str:
    with pytest.raises(AutoslimError) as caught:
        compose(overrides)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_defaults() -> None:
    config = compose()
    assert type(config) is Config and type(config.arch) is schema.ResNet
    assert config.arch.arguments() == {"depth": 20, "width": 16}
    assert (config.dataset.name, config.optimizer.name, config.slim.targets) == ("digits", "sgd", (0.5,))
    assert config.stages == ["baseline", "supernet", "search", "retrain", "uniform", "report"]


def test_every_key_is_documented_in_one_line() -> None:
    docs = documentation()
    assert len(docs) > 60
    for key, doc in docs.items():
        assert doc and "\n" not in doc and not doc.endswith("."), key


GIVEN = ("custom", "keras_application", "keras_file")  # files that name no network of their own


@pytest.mark.parametrize("name", [name for name in options("arch") if name not in GIVEN])
def test_arch_files_are_named_as_their_network(name: str) -> None:
    arch = compose([f"arch={name}"]).arch
    assert arch.name == name
    assert arch._target_.startswith("autoslim.archs.")
    assert arch.arguments()


def test_name_follows_depth() -> None:
    assert compose(["arch=resnet20", "arch.depth=32"]).arch.name == "resnet32"
    assert compose(["arch=wresnet40_4", "arch.widen=2"]).arch.name == "wresnet40_2"


@pytest.mark.parametrize("group", ["dataset", "optimizer"])
def test_group_files_are_named_as_what_they_set(group: str) -> None:
    for name in options(group):
        given = {
            "tfds": "dataset.name=tfds",
            "custom": "dataset._target_=my.load",
            "npz": "dataset.path=a.npz",
        }
        overrides = [f"{group}={name}", *([given[name]] if name in given else [])]
        assert getattr(compose(overrides), group).name == name
    assert set(options("dataset")) == {*schema.DATASETS, *schema.SOURCES} - {"arrays"}


@pytest.mark.parametrize("method", schema.METHODS)
def test_slimming_options_restate_the_schema(method: str) -> None:
    assert compose([f"slimming={method}"]).slim == schema.SlimConfig(method=method)
    assert set(options("slimming")) == set(schema.METHODS)


def test_custom_arch_takes_any_arguments() -> None:
    config = compose(
        ["arch=custom", "arch._target_=my.module.net", "+arch.args.depth=3", "+arch.args.wide=true"]
    )
    assert config.arch == schema.CustomArch("my.module.net", "custom", args={"depth": 3, "wide": True})
    assert config.arch.arguments() == {"depth": 3, "wide": True}


def test_stages_run_in_their_order() -> None:
    assert compose(["stages=[report,search,supernet]"]).stages == ["supernet", "search", "report"]


def test_overrides_as_a_mapping() -> None:
    config = compose({"slim.target": [0.3, 0.7], "dataset.path": None, "train.checkpoint_seconds": 0})
    assert config.slim.targets == (0.7, 0.3)
    assert config.dataset.path is None and config.train.checkpoint_seconds == 0.0


def test_own_folder_and_recipe(tmp_path: Path) -> None:
    (tmp_path / "pair").mkdir()
    (tmp_path / "recipe").mkdir()
    text = "# @package _global_\nbaseline: {epochs: 7}\nslim: {levels: 5}\n"
    (tmp_path / "pair" / "resnet56_cifar100.yaml").write_text(text)
    (tmp_path / "recipe" / "mine.yaml").write_text("# @package _global_\nslim: {levels: 7}\n")
    pair = ["arch=resnet56", "dataset=cifar100"]

    def chosen(*overrides: str) -> tuple[int, int]:
        config = compose(overrides, config_dir=str(tmp_path))
        return config.baseline.epochs, config.slim.levels

    assert chosen(*pair) == (7, 5)
    assert chosen(*pair, "slim.levels=6") == (7, 6)
    assert chosen("arch=resnet20", "dataset=cifar100") == (30, 8)
    assert chosen(*pair, "+recipe=mine") == (7, 7)  # what is typed wins over what is found
    assert chosen(*pair, "+recipe=mine", "slim.levels=6") == (7, 6)


OUT_OF_RANGE = [
    ("seed=-1", "seed=-1 is out of range: a whole number in [0, 2147483647]."),
    ("stages=[]", "stages=[] is out of range: some of: describe, baseline, supernet, search, "),
    ("lock_wait=-1", "lock_wait=-1.0 is out of range: seconds, 0 or more, or null."),
    ("output=' '", "output=' ' is out of range: the name of a folder."),
    (
        "arch.name=a/b",
        "arch.name=a/b is out of range: it names folders: up to 100 characters, no slash, blank or leading "
        "dot.",
    ),
    (
        "arch.depth=21",
        "arch.depth=21 is out of range: a residual network has 6n + 2 layers: 8, 14, 20, ... 56, at most "
        "2000.",
    ),
    ("arch.width=0", "arch.width=0 is out of range: a whole number in [1, 4096]."),
    (
        "dataset.name=mnist",
        "unknown dataset.name 'mnist'. There are: digits, fashion_mnist, cifar10, cifar100.",
    ),
    (
        "dataset.shape=[8,8]",
        "dataset.shape=[8, 8] is out of range: expected [height, width, channels], each ",
    ),
    ("dataset.classes=1", "dataset.classes=1 is out of range: a classifier needs at least 2 classes."),
    ("dataset.holdout=0.6", "dataset.holdout=0.6 is out of range: a share in (0, 0.5]."),
    (
        "dataset.source=web",
        "unknown dataset.source 'web'. There are: arrays, npz, image_folder, tfrecord, tfds, custom.",
    ),
    ("dataset.name=' '", "unknown dataset.name ' '. There are: digits, "),
    ("dataset.classes=null", "dataset.classes=null is out of range: only image files can be counted."),
    ("dataset.eval_crop=0", "dataset.eval_crop=0.0 is out of range: a share in (0, 1]."),
    ("dataset.crop=some", "unknown dataset.crop 'some'. There are: none, resized."),
    (
        "dataset.scale=[0.5,1.5]",
        "dataset.scale=[0.5, 1.5] is out of range: expected shares [low, high], 0 < low <= high <= 1.",
    ),
    ("dataset.ratio=[2,1]", "dataset.ratio=[2.0, 1.0] is out of range: expected [low, high], 0 < low <= "),
    (
        "dataset.color=[1,2,0]",
        "dataset.color=[1.0, 2.0, 0.0] is out of range: expected [brightness, contrast, saturation], 0 to 1",
    ),
    (
        "dataset.randaugment=[2,11]",
        "dataset.randaugment=[2.0, 11.0] is out of range: expected [1 to 14 operations, magnitude 0 to 10], ",
    ),
    ("dataset.mixup=-1", "dataset.mixup=-1.0 is out of range: a number of 0 or more."),
    ("dataset.cutmix=-1", "dataset.cutmix=-1.0 is out of range: a number of 0 or more."),
    ("dataset.max_broken=1", "dataset.max_broken=1.0 is out of range: a share in [0, 1)."),
    ("dataset.pad=-1", "dataset.pad=-1 is out of range: pixels, 0 or more."),
    ("dataset.train_images=9", "dataset.train_images=9 is out of range: at least one per class."),
    ("optimizer.name=adam", "unknown optimizer.name 'adam'. Did you mean adamw? There are: sgd, adamw."),
    (
        "optimizer.learning_rate=nan",
        "optimizer.learning_rate=nan is out of range: a number above 0, or null.",
    ),
    ("optimizer.momentum=1", "optimizer.momentum=1.0 is out of range: a number in [0, 1)."),
    ("optimizer.weight_decay=-1", "optimizer.weight_decay=-1.0 is out of range: a number of 0 or more."),
    ("optimizer.clipnorm=0", "optimizer.clipnorm=0.0 is out of range: a number above 0, or null."),
    (
        "slim.target=0",
        "slim.target=0 is outside (0, 1]: it is the share of the full network's flops to keep.",
    ),
    ("slim.target=[0.5,1.2]", "slim.target=1.2 is outside (0, 1]: it is the share of the full network's "),
    (
        "slim.target=[]",
        "slim.target=[] names no target: it is the share of the full network's flops to keep.",
    ),
    (
        "slim.target=true",
        "slim.target=True is not a number or a list of numbers: it is the share of the full ",
    ),
    (
        "slim.target=null",
        "slim.target=None is not a number or a list of numbers: it is the share of the full ",
    ),
    ("slim.resource=power", "unknown slim.resource 'power'. There are: flops, params, memory, latency."),
    ("slim.limits.params=0", "slim.limits.params=0 is out of range: an amount above 0, base, or null."),
    ("supernet.init=zero", "unknown supernet.init 'zero'. There are: weights, scratch, baseline."),
    ("dataset.normalization=no", "unknown dataset.normalization 'no'. There are: dataset, unit, "),
    ("slim.convention=mac", "unknown slim.convention 'mac'. Did you mean macs? There are: macs, "),
    ("slim.search=fast", "unknown slim.search 'fast'. There are: naive, exact, halving."),
    ("slim.first=0", "slim.first=0.0 is out of range: a share in (0, 1]."),
    ("slim.refresh=0", "slim.refresh=0 is out of range: a number of steps, at least 1."),
    ("slim.exchange=-1", "slim.exchange=-1 is out of range: a number of moves, 0 or more."),
    ("slim.method=genetic", "unknown slim.method 'genetic'. There are: greedy, uniform, random, evolution, "),
    (
        "slim={method: random, target: [0.5, 0.3], passes: 2}",
        "slim.passes=2.0 is out of range: at least 3, one for the full network and one for each target.",
    ),
    ("slim.score=acc", "unknown slim.score 'acc'. There are: loss, metric."),
    ("slim.levels=1", "slim.levels=1 is out of range: a group needs at least 2 widths to choose from."),
    ("slim.step=0", "slim.step=0 is out of range: channels, at least 1, or null for levels."),
    ("slim.min_width=0", "slim.min_width=0.0 is out of range: a share in (0, 1]."),
    ("slim.divisor=0", "slim.divisor=0 is out of range: a whole number of 1 or more."),
    ("slim.images=1", "slim.images=1 is out of range: at least 2, or null for all."),
    ("slim.batch_size=1", "slim.batch_size=1 is out of range: batch statistics need at least 2 images."),
    ("train.batch_size=0", "train.batch_size=0 is out of range: a whole number of 1 or more."),
    ("train.checkpoint_seconds=-1", "train.checkpoint_seconds=-1.0 is out of range: seconds, 0 or more."),
    ("train.strategy=tpu", "unknown train.strategy 'tpu'. There are: auto, single, mirrored, multi_worker."),
    (
        "train.precision=float16",
        "unknown train.precision 'float16'. Did you mean float32? There are: float32, ",
    ),
    ("train.accumulate=0", "train.accumulate=0 is out of range: a whole number of 1 or more."),
    (
        "train.execution=masked",
        "unknown train.execution 'masked'. Did you mean mask? There are: ",
    ),
    ("train.jit=yes", "unknown train.jit 'yes'. There are: auto, on, off."),
    (
        "train.steps_per_execution=0",
        "train.steps_per_execution=0 is out of range: a whole number of 1 or more.",
    ),
    (
        "train.evaluate_epochs=-1",
        "train.evaluate_epochs=-1 is out of range: a whole number of 0 or more, or ",
    ),
    ("optimizer.ema=1", "optimizer.ema=1.0 is out of range: a number in (0, 1), or null."),
    ("baseline.epochs=0", "baseline.epochs=0 is out of range: a whole number of 1 or more."),
    (
        "supernet.schedule=cos",
        "unknown supernet.schedule 'cos'. Did you mean cosine? There are: constant, cosine, ",
    ),
    (
        "baseline.warmup_epochs=31",
        "baseline.warmup_epochs=31.0 is out of range: epochs, at most baseline.epochs=30.",
    ),
    ("retrain.learning_rate=0", "retrain.learning_rate=0.0 is out of range: a number above 0, or null."),
    ("baseline.label_smoothing=1", "baseline.label_smoothing=1.0 is out of range: a share in [0, 1)."),
    (
        "supernet.arms=1",
        "supernet.arms=1 is out of range: 2, the largest and the smallest width, to 1000: each is a training "
        "step of its own.",
    ),
    ("retrain.init=random", "unknown retrain.init 'random'. There are: baseline, supernet, scratch."),
    ("retrain.teacher=me", "unknown retrain.teacher 'me'. There are: none, given, baseline, supernet."),
    ("retrain.distill_weight=2", "retrain.distill_weight=2.0 is out of range: a share in [0, 1]."),
    ("retrain.temperature=0", "retrain.temperature=0.0 is out of range: a number above 0."),
    (
        "retrain={joint: true, teacher: baseline}",
        "retrain.teacher=baseline is out of range: none with retrain.joint: the largest network teaches.",
    ),
]


@pytest.mark.parametrize(
    ("override", "message"), OUT_OF_RANGE, ids=[override for override, _ in OUT_OF_RANGE]
)
def test_out_of_range(override: str, message: str) -> None:
    assert refusal(override).startswith(message)


def test_keys_that_exclude_each_other() -> None:
    assert refusal("train.steps_per_execution=2", "train.accumulate=2") == (
        "train.steps_per_execution=2 is out of range: 1 where train.accumulate cuts the batches into parts."
    )
    assert refusal("train.jit=on", "train.sync_batch_norm=true") == (
        "train.jit=on is out of range: off or auto with train.sync_batch_norm: devices can't exchange values "
        "within an XLA step."
    )


def test_image_files_have_one_or_three_channels_and_a_name() -> None:
    assert refusal("dataset=image_folder", "dataset.shape=[8,8,4]").startswith(
        "dataset.shape=[8, 8, 4] is out of range: files give 1 (grey) or 3 channels."
    )
    assert refusal("dataset=tfrecord", "dataset.name=' '").startswith(
        "dataset.name=' ' is out of range: it names folders."
    )
    assert refusal("dataset=tfds").startswith(
        "dataset.name='' is out of range: as tensorflow-datasets calls it, such as mnist."
    )
    assert compose(["dataset=image_folder"]).dataset.classes is None


def test_other_architectures_have_ranges_too() -> None:
    assert "6n + 4 layers" in refusal("arch=wresnet40_4", "arch.depth=20")
    assert "arch.widen=0 is out of range" in refusal("arch=wresnet40_4", "arch.widen=0")
    assert "arch.width=0.0 is out of range" in refusal("arch=mobilenet_v2", "arch.width=0")


def test_keys_that_do_not_exist() -> None:
    assert refusal("slimming.target=0.3").startswith("unknown key slimming.target. Did you mean slim.target?")
    assert refusal("arch.dept=14").startswith("unknown key arch.dept. Did you mean arch.depth?")
    assert refusal("+nosuch=1").startswith("unknown key nosuch.")
    assert refusal("++arch.x=1").startswith("unknown key arch.x.")
    assert refusal("+baseline.nosuch=1").startswith("unknown key baseline.nosuch.")


def test_values_of_the_wrong_type() -> None:
    assert refusal("seed=3.5").startswith(
        "seed: Value '3.5' of type 'float' could not be converted to Integer."
    )
    assert refusal("train=3").startswith(
        "train: Invalid type assigned: int is not a subclass of TrainConfig."
    )
    assert refusal("arch.name=${nosuch}").startswith("arch.name: Interpolation key 'nosuch' not found.")
    assert "A list is typed so: 'slim.freeze=[a,b]'." in refusal("slim.freeze=stem")
    assert refusal("retrain.joint=2") == "retrain.joint=2: expected true or false."
    assert refusal("+recipe=economy", "slim.lazy=-1") == "slim.lazy=-1: expected true or false."
    assert refusal("~slim") == "~slim: no key can be left out. Give it another value: slim=VALUE."
    assert refusal("~seed").startswith("~seed: no key can be left out.")
    assert compose(["slim.lazy=0", "retrain.joint=1"]).retrain.joint is True


def test_a_folder_that_may_not_be_read_is_no_empty_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.access", lambda path, mode: False)  # root may read everything
    with pytest.raises(AutoslimError, match=r"cannot read the configuration folder .*: permission denied\."):
        compose(config_dir=str(tmp_path))


@pytest.mark.slow
def test_the_schema_lists_what_there_is() -> None:
    """It restates these, so that a mistake is answered without importing TensorFlow."""
    from autoslim.datasets import SOURCES
    from autoslim.datasets.dataset import CONSTANTS
    from autoslim.training.optimizers import make_schedule

    assert tuple(SOURCES) == schema.DATASETS
    assert ("dataset", *CONSTANTS) == schema.NORMALIZATIONS
    for name in schema.SCHEDULES:
        make_schedule(name, 0.1, steps=10)


def test_validate_takes_only_the_schema() -> None:
    config = compose()
    assert validate(config) is config
    with pytest.raises(
        AutoslimError, match=r"expected a configuration composed from autoslim's schema, got dict\."
    ):
        validate({"seed": 1})
    with pytest.raises(AutoslimError, match="got DictConfig"):
        validate(OmegaConf.create({"seed": 1}))


def test_dataclasses_check_themselves_in_python() -> None:
    assert schema.SlimConfig(target=(0.5, 0.7)).targets == (0.7, 0.5)
    with pytest.raises(AutoslimError, match=r"retrain\.epochs=0 is out of range"):
        dataclasses.replace(compose().retrain, epochs=0)


def test_packages_are_all_listed() -> None:
    root = Path(__file__).parents[1]
    listed = ConfigParser()
    listed.read(root / "setup.cfg")
    names = set(listed["options"]["packages"].split())
    source = root / "src"
    found = {
        ".".join(path.parent.relative_to(source).parts) for path in source.glob("autoslim/**/__init__.py")
    }
    assert names == found | {"autoslim.conf"}
