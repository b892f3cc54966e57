"""What a task is, in words that are the same in every process."""

import functools
import json

import keras
import numpy as np
import pytest

from autoslim.tasks import Outputs
from autoslim.tasks.configured import given_task
from autoslim.tasks.identity import identity
from autoslim.tasks.kinds import TASKS
from autoslim.tasks.losses import with_class_weights


@pytest.mark.parametrize("task", [None, *TASKS, {"a": "classification", "b": "regression"}])
def test_no_address_in_memory(task):
    text = json.dumps(identity(given_task(task)))
    assert " at 0x" not in text and "autoslim.tasks" in text


def test_what_functions_close_over_counts():
    weighted = [
        identity(Outputs(with_class_weights(TASKS["classification"], {0: weight}))) for weight in (1, 1, 2)
    ]
    assert weighted[0] == weighted[1] != weighted[2]
    losses = [identity(given_task(None, loss=keras.losses.Huber(delta))) for delta in (1.0, 1.0, 2.0)]
    assert losses[0] == losses[1] != losses[2]
    assert identity(functools.partial(round, ndigits=1)) != identity(functools.partial(round, ndigits=2))
    assert identity(np.zeros(2)) != identity(np.ones(2))


def test_a_function_that_holds_itself():
    def again():
        return again

    assert identity(again)["over"] == ["itself"]
