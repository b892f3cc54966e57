"""Several replicas give what one gives, to rounding: two logical devices in a process of their own."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from autoslim.config import compose
from autoslim.errors import AutoslimError
from autoslim.stages.experiment import Experiment
from autoslim.training.distribution import check_batch_size, cluster_workers, make_strategy

HERE = Path(__file__).parent
EXACT = ["plain", "sandwich in parts", "joint", "average"]
EXACT_LONG = ["sandwich", "parts", "clipping", "adamw", "teacher", "probabilities", "text", "text in parts"]
DAILY = [*EXACT, "local batch norm", "bfloat16"]


def run(script, *arguments, seconds=300, **environment):
    """What a script of this folder prints, as JSON."""
    done = subprocess.run(
        [sys.executable, str(HERE / script), *arguments],
        capture_output=True,
        text=True,
        timeout=seconds,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2", **environment},
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def found():
    return run("replicas.py", *DAILY)


@pytest.fixture(scope="module")
def found_long():
    return run("replicas.py", *EXACT_LONG, "unsplit", "float16")


def differences(a, b):
    """Largest difference of a loss, of a share of correct answers and of a weight."""
    for x, y in zip(a["losses"], b["losses"], strict=True):
        assert x.keys() == y.keys()
    losses = [abs(x[k] - y[k]) for x, y in zip(a["losses"], b["losses"], strict=True) for k in x]
    weights = [np.abs(np.subtract(x, y)).max() for x, y in zip(a["weights"], b["weights"], strict=True)]
    return max(losses), max(weights)


def assert_two_equal_one(found, case):
    one, two = found[case]["one"], found[case]["two"]
    losses, weights = differences(one, two)
    assert losses < 1e-5 and weights < 1e-5
    first, last = one["losses"][0], one["losses"][-1]
    assert first != last  # weights moved
    for a, b in zip(one["average"], two["average"], strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)
    assert bool(one["average"]) == (case in ("average", "text in parts"))


def assert_close_in_low_precision(found, low, high, most):
    losses, weights = differences(found[low]["one"], found[low]["two"])
    assert losses < most and weights < most
    assert found[low]["one"]["losses"] != found[high]["one"]["losses"]
    losses, _ = differences(found[low]["one"], found[high]["one"])
    assert losses < 4 * most


@pytest.mark.slow
@pytest.mark.parametrize("case", EXACT)
def test_two_replicas_equal_one(found, case):
    assert_two_equal_one(found, case)


@pytest.mark.long
@pytest.mark.parametrize("case", EXACT_LONG)
def test_two_replicas_equal_one_in_more_ways(found_long, case):
    assert_two_equal_one(found_long, case)


@pytest.mark.slow
def test_bfloat16_to_its_own_rounding(found):
    assert_close_in_low_precision(found, "bfloat16", "plain", 0.02)


@pytest.mark.long
def test_float16_to_its_own_rounding(found_long):
    assert_close_in_low_precision(found_long, "float16", "clipping", 2e-3)


@pytest.mark.slow
def test_statistics_of_each_replica_differ_but_all_keep_their_mean(found):
    """Without synchronisation the losses are not one device's; moving statistics agree all the same."""
    one, two = found["local batch norm"]["one"], found["local batch norm"]["two"]
    assert differences(one, two)[0] > 1e-3
    assert len(two["moving"]) == 4
    for first, second in two["moving"]:
        assert first == second
        assert np.any(first)


@pytest.mark.long
def test_accumulated_is_unsplit(found_long):
    """Without batch norm; each part's losses are summed over the images and divided by those of all."""
    parts, whole = found_long["parts"]["one"]["losses"], found_long["unsplit"]["one"]["losses"]
    for a, b in zip(parts, whole, strict=True):
        assert a == pytest.approx(b, abs=1e-6)


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def two_workers(folder, dies=0):
    """What both workers of a training did; the second one dies in a step."""
    return on_two_workers([[str(HERE / "worker.py"), "auto", str(folder), str(dies * i)] for i in range(2)])


def on_two_workers(commands, seconds=120):
    """(exit status, what it printed, its errors) of two commands of Python that join each other."""
    workers = [f"127.0.0.1:{port}" for port in free_ports(2)]
    started = []
    for index, command in enumerate(commands):
        task = {"cluster": {"worker": workers}, "task": {"type": "worker", "index": index}}
        started.append(
            subprocess.Popen(
                [sys.executable, *command],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2", "TF_CONFIG": json.dumps(task)},
            )
        )
    try:
        outputs = [process.communicate(timeout=seconds) for process in started]
    finally:
        for process in started:
            process.kill()
    return [(p.returncode, *output) for p, output in zip(started, outputs, strict=True)]


@pytest.mark.slow
def test_two_workers_equal_one_process_and_outlive_a_lost_one(tmp_path):
    (status, _, errors), (lost, *_) = two_workers(tmp_path / "lost", dies=6)
    assert lost == 9 and status == 2
    message = errors.strip().splitlines()[-1]
    assert message.startswith("Another worker stopped answering (")
    assert message.endswith(
        "). Start all workers again with the same command: the training goes on from the last checkpoint."
    )
    resumed = two_workers(tmp_path / "lost")
    assert [status for status, *_ in resumed] == [0, 0], resumed
    found = [json.loads(output) for _, output, _ in resumed]
    alone = run("worker.py", "single", str(tmp_path / "alone"), "0")
    for kind in ("plain", "sandwich"):
        assert found[0][kind]["bits"] == found[1][kind]["bits"]
        for one, two in zip(alone[kind]["history"], found[0][kind]["history"], strict=True):
            assert two == pytest.approx(one, abs=1e-5)
        for one, two in zip(alone[kind]["weights"], found[0][kind]["weights"], strict=True):
            np.testing.assert_allclose(one, two, atol=1e-5)
    assert len(list((tmp_path / "lost" / "sandwich").glob("**/events.*"))) == 1  # one of them writes


@pytest.mark.long
def test_the_first_worker_reports_and_exports_while_the_other_one_waits(tmp_path):
    settings = {
        "arch.depth": 8,
        "dataset.train_images": 80,
        "train.batch_size": 40,
        "baseline.epochs": 1,
        "train.strategy": "multi_worker",
        "stages": "[baseline,report,export]",
        "export.formats": "[keras]",
        "output": tmp_path,
    }
    command = ["-m", "autoslim", *(f"{key}={value}" for key, value in settings.items())]
    done = on_two_workers([[*command, f"hydra.run.dir={tmp_path}/{i}"] for i in range(2)], seconds=240)
    assert [status for status, *_ in done] == [0, 0], done
    assert len(list(tmp_path.glob("resnet8-digits/*/report.md"))) == 1
    assert len(list(tmp_path.glob("resnet8-digits/*/export.md"))) == 1


@pytest.mark.long
def test_interrupted_in_mid_epoch_has_the_same_bits():
    """With shifts, mirroring, mixed images, dropout, an average of the weights, and clipping."""
    found = run("resuming.py")
    assert found == dict.fromkeys(
        ["plain on one", "sandwich on one", "plain on two", "sandwich on two"], True
    )


@pytest.fixture
def config(monkeypatch):
    def given(text):
        monkeypatch.setenv("TF_CONFIG", text)

    return given


def test_which_strategy(config):
    config("")
    assert make_strategy("auto") is make_strategy("single") is tf.distribute.get_strategy()
    config('{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 0}}')
    assert make_strategy("auto") is tf.distribute.get_strategy()  # one worker is no cluster
    config(
        '{"cluster": {"chief": ["c:1"], "worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": 1}}'
    )
    assert cluster_workers() == ["c:1", "a:1", "b:1"]


EXAMPLE = '{"cluster": {"worker": ["host1:port", "host2:port"]}, "task": {"type": "worker", "index": 0}}.'


def refusal(call, *args):
    with pytest.raises(AutoslimError) as error:
        call(*args)
    return str(error.value)


def test_what_can_not_be_a_cluster(config):
    config("")
    assert refusal(make_strategy, "multi_worker") == (
        f"train.strategy=multi_worker needs the environment variable TF_CONFIG on every worker: {EXAMPLE}"
    )
    assert refusal(make_strategy, "tpu") == (
        "train.strategy='tpu': expected auto, single, mirrored or multi_worker."
    )
    config("{cluster")
    message = refusal(make_strategy, "auto")
    assert message.startswith("The environment variable TF_CONFIG can't be read (Expecting property name ")
    assert message.endswith(f"): expected JSON such as {EXAMPLE}")
    for task in ("", ', "task": {"type": "worker", "index": 2}', ', "task": {"type": "ps", "index": 0}'):
        config('{"cluster": {"worker": ["a:1", "b:1"]}' + task + "}")
        assert refusal(make_strategy, "auto") == (
            f"The environment variable TF_CONFIG can't be read (its task {task[10:] or '{}'} is not in the "
            f"cluster): expected JSON such as {EXAMPLE}"
        )
    config('{"cluster": {"worker": "a:1"}}')
    assert "(its workers are not a list)" in refusal(make_strategy, "auto")
    config('{"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": 0}}')
    tf.zeros([1])
    message = refusal(make_strategy, "auto")
    assert message.startswith("Several workers must be joined before TensorFlow is used (")
    assert message.endswith("). Start each as a process of its own.")


def test_batches_that_can_not_be_cut():
    strategy = tf.distribute.get_strategy()
    check_batch_size(12, strategy, 3)
    assert refusal(check_batch_size, 10, strategy, 4) == (
        "A batch of 10 images can't be cut into 4 equal parts (1 replicas, train.accumulate=4). Set "
        "train.batch_size=8 or 12."
    )
    assert refusal(check_batch_size, 3, strategy, 4).endswith("Set train.batch_size=4.")


def test_several_workers_share_no_sweep(config):
    config('{"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": 0}}')
    experiment = Experiment(compose(), in_sweep=True)
    assert refusal(lambda: experiment.strategy) == (
        "--multirun can't be used with several workers: a process joins the cluster only once. Start one run "
        "after another, or choose train.strategy=single."
    )
    assert Experiment(compose(["train.strategy=single"]), in_sweep=True).strategy
