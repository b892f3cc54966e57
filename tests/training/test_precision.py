"""What is said where a shorter number format is the slower one."""

import pytest
from small import given, network, running, sgd

from autoslim.graph import ChannelGraph
from autoslim.training import precision
from autoslim.training.loop import train
from autoslim.training.steps import plain_step


@pytest.fixture
def times(monkeypatch):
    """Seconds that gradients take in each number format, in place of what this machine takes."""
    found = {"float32": 1.0, "bfloat16": 20.0, "float16": 2.0}
    monkeypatch.setattr(precision, "_gradient_seconds", found.__getitem__)
    precision.warn_where_slow.cache_clear()
    yield found
    precision.warn_where_slow.cache_clear()


def test_it_is_said_once_where_gradients_are_much_slower(times, caplog):
    model = network()
    for epochs in (1, 2):
        train(running(plain_step(ChannelGraph(model), sgd()), precision="mixed_bfloat16"), given(), epochs)
    assert [m for m in caplog.messages if "20 times as long as in float32" in m] == caplog.messages
    assert len(caplog.messages) == 1


def test_nothing_is_said_where_they_are_little_slower_or_in_float32(times, caplog):
    times["bfloat16"] = 0.5
    for name in ("float32", "mixed_float16", "mixed_bfloat16"):
        precision.warn_where_slow(name)
    assert not caplog.messages


def test_gradients_are_timed():
    assert 0 < precision._gradient_seconds("float32") < 10
