"""Checkpoints: bit for bit, and a clear word for what can't be used."""

import re

import keras
import numpy as np
import pytest
import tensorflow as tf
from small import bits, images, network, sgd

from autoslim.errors import AutoslimError
from autoslim.graph import ChannelGraph
from autoslim.training.checkpoint import Checkpoints
from autoslim.training.steps import plain_step


def trained(steps=2, seed=0, optimizer=None, **kwargs):
    model, optimizer = network(seed, dropout=0.3, **kwargs), optimizer or sgd()
    step = plain_step(ChannelGraph(model), optimizer)
    for number in range(steps):
        step(*map(tf.constant, images(8, number)), number)
    return model, optimizer


def saved(folder, times=2):
    model, optimizer = trained()
    checkpoints = Checkpoints(folder, model, optimizer)
    for number in range(1, times + 1):
        checkpoints.save({"step": number})
    return model, optimizer


def refusal(call, *args):
    with pytest.raises(AutoslimError) as error:
        call(*args)
    message = str(error.value)
    assert "\n" not in message and "Traceback" not in message and 'File "' not in message
    return message


def data_file(folder, number):
    return folder / f"ckpt-{number}.data-00000-of-00001"


def test_bit_for_bit(tmp_path):
    model, optimizer = trained()
    Checkpoints(tmp_path, model, optimizer).save({"step": 2, "sums": {"loss": 0.1 + 0.2}})
    other, fresh = trained(0, seed=1)
    assert any("seed" in v.path for v in other.variables)  # dropout's state
    assert bits(other, fresh) != bits(model, optimizer)
    assert Checkpoints(tmp_path, other, fresh).restore() == {"step": 2, "sums": {"loss": 0.1 + 0.2}}
    assert bits(other, fresh) == bits(model, optimizer)


def test_nothing_there(tmp_path):
    assert Checkpoints(tmp_path / "new" / "er", *trained(0)).restore() is None


def test_two_are_kept(tmp_path):
    model, optimizer = trained(0)
    checkpoints = Checkpoints(tmp_path, model, optimizer)
    for number in range(4):
        checkpoints.save({"step": number})
    assert sorted(p.name for p in tmp_path.glob("*.index")) == ["ckpt-3.index", "ckpt-4.index"]


DAMAGE = [
    "truncated",
    "flipped",
    "missing",
    "empty index",
    "half an index",
    "index of noise",
    "flipped index",
]
UNFINISHED = DAMAGE[3:6]


def harm(folder, number, damage):
    data, index = data_file(folder, number), folder / f"ckpt-{number}.index"
    content, table = bytearray(data.read_bytes()), bytearray(index.read_bytes())
    if damage == "truncated":
        data.write_bytes(content[: len(content) // 2])
    elif damage == "flipped":
        content[len(content) // 2] ^= 0x10
        data.write_bytes(content)
    elif damage == "missing":
        data.unlink()
    elif damage == "flipped index":
        table[10] ^= 0x10
        index.write_bytes(table)
    else:
        index.write_bytes({"e": b"", "h": table[: len(table) // 2], "i": bytes(range(256))}[damage[0]])


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_one_beside_a_whole_older_one(tmp_path, caplog, damage):
    model, optimizer = saved(tmp_path)
    good = bits(model, optimizer)
    harm(tmp_path, 2, damage)
    checkpoints = Checkpoints(tmp_path, *(fresh := trained(0, seed=1)))
    assert checkpoints.restore() == {"step": 1}
    assert bits(*fresh) == good
    what = r"was not written to its end" if damage in UNFINISHED else r"is damaged \(.+\)"
    assert re.fullmatch(
        rf"Checkpoint {tmp_path}/ckpt-2 {what} and is removed. Going on from {tmp_path}/ckpt-1.",
        caplog.messages[-1],
    )
    assert not list(tmp_path.glob("ckpt-2.*"))
    checkpoints.save({"step": 2})
    assert Checkpoints(tmp_path, model, optimizer).restore() == {"step": 2}


@pytest.mark.parametrize("damage", DAMAGE)
def test_none_is_whole(tmp_path, caplog, damage):
    model, optimizer = saved(tmp_path, 1)
    harm(tmp_path, 1, damage)
    checkpoints = Checkpoints(tmp_path, model, optimizer)
    if damage in UNFINISHED:
        assert checkpoints.restore() is None
        assert caplog.messages[-1].endswith(
            "was not written to its end and is removed. Training begins at its first step."
        )
        return
    message = refusal(checkpoints.restore)
    assert message.startswith(f"Checkpoint {tmp_path}/ckpt-1 is damaged (")
    assert message.endswith(
        f"). Put back the file as it was, or remove the folder {tmp_path} to train this stage from its "
        "beginning."
    )
    assert list(tmp_path.glob("ckpt-1.*"))


def test_another_worker_leaves_the_files_alone(tmp_path):
    model, optimizer = saved(tmp_path)
    harm(tmp_path, 2, "empty index")
    assert Checkpoints(tmp_path, model, optimizer, writes=False).restore() == {"step": 1}
    assert (tmp_path / "ckpt-2.index").exists()


@pytest.mark.parametrize("left", ["gone", "empty", "noise"])
def test_the_list_of_checkpoints_is_not_needed(tmp_path, left):
    """A kill before it is written, or a damaged one, does not throw the training away."""
    model, optimizer = saved(tmp_path)
    path = tmp_path / "checkpoint"
    path.unlink()
    if left != "gone":
        path.write_bytes(b"" if left == "empty" else bytes(range(256)))
    checkpoints = Checkpoints(tmp_path, model, optimizer)
    assert checkpoints.restore() == {"step": 2}
    checkpoints.save({"step": 3})
    assert sorted(p.name for p in tmp_path.glob("*.index")) == ["ckpt-2.index", "ckpt-3.index"]


def test_other_network(tmp_path):
    saved(tmp_path, 1)
    message = refusal(Checkpoints(tmp_path, *trained(0, width=6)).restore)
    assert message == (
        f"Checkpoint {tmp_path}/ckpt-1 is of another network or optimizer: it holds conv1/kernel of shape "
        "[3, 3, 2, 8], this one has conv1/kernel of shape [3, 3, 2, 6]. Remove the folder "
        f"{tmp_path}, or choose another with output=FOLDER."
    )


def test_other_optimizer(tmp_path):
    saved(tmp_path, 1)
    model, optimizer = trained(0, optimizer=keras.optimizers.Adam())
    before = bits(model, optimizer)
    assert "is of another network or optimizer" in refusal(Checkpoints(tmp_path, model, optimizer).restore)
    assert bits(model, optimizer) == before


def test_a_fixed_learning_rate_is_the_callers(tmp_path):
    saved(tmp_path, 1)
    model, optimizer = trained(0, optimizer=sgd(0.001))
    Checkpoints(tmp_path, model, optimizer).restore()
    assert float(optimizer.learning_rate) == pytest.approx(0.001)


@pytest.mark.parametrize("where", ["weight", "optimizer"])
def test_weights_that_are_not_finite(tmp_path, where):
    model, optimizer = saved(tmp_path, 1)
    good = bits(model, optimizer)
    variable = model.get_layer("conv2").kernel if where == "weight" else optimizer.variables[-1]
    variable.assign(np.full(variable.shape, np.nan))
    message = refusal(Checkpoints(tmp_path, model, optimizer).save, {"step": 7})
    assert message == (
        "Weights became NaN or infinite in or before step 7. The last good checkpoint is kept in "
        f"{tmp_path}. "
        "Lower optimizer.learning_rate, or set optimizer.clipnorm."
    )
    assert Checkpoints(tmp_path, model, optimizer).restore() == {"step": 1}
    assert bits(model, optimizer) == good


def test_unfinished_files_are_swept(tmp_path):
    model, optimizer = saved(tmp_path, 1)
    (tmp_path / "ckpt-2_temp").mkdir()
    (tmp_path / "ckpt-2_temp" / "part-00000-of-00001.data-00000-of-00001").write_bytes(b"half")
    (tmp_path / "checkpoint.tmpab12").write_bytes(b"half")
    assert Checkpoints(tmp_path, model, optimizer).restore() == {"step": 1}
    assert not list(tmp_path.glob("*temp*")) and not list(tmp_path.glob("*tmp*"))


def test_what_a_save_could_not_remove_is_swept_by_the_save(tmp_path):
    model, optimizer = saved(tmp_path, 1)
    checkpoints = Checkpoints(tmp_path, model, optimizer)
    (tmp_path / "ckpt-2_temp").mkdir()
    checkpoints.save({"step": 2})
    assert not list(tmp_path.glob("*temp*")) and checkpoints.restore() == {"step": 2}


def test_folder_that_can_not_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    message = refusal(Checkpoints, tmp_path / "file" / "checkpoints", *trained(0))
    assert message.startswith(f"Can't write checkpoints into {tmp_path}/file/checkpoints (Not a directory).")


@pytest.mark.parametrize(
    "error",
    [
        OSError(28, "No space left on device"),
        tf.errors.ResourceExhaustedError(None, None, "disk full\n at x"),
    ],
)
def test_full_disk(tmp_path, monkeypatch, error):
    def fail(*args, **kwargs):
        raise error

    model, optimizer = saved(tmp_path, 1)
    checkpoints = Checkpoints(tmp_path, model, optimizer)
    with monkeypatch.context() as patch:
        patch.setattr(tf.train.CheckpointManager, "save", fail)
        assert "goes on from the last good checkpoint" in refusal(checkpoints.save, {"step": 2})
    assert checkpoints.restore() == {"step": 1}
