"""Files of networks of every task are checked by their own metric."""

import numpy as np
import pytest
import task_cases

import autoslim
from autoslim.errors import AutoslimError
from autoslim.exporting.comparison import compare, demand
from autoslim.exporting.formats import FORMATS
from autoslim.tasks import objective_of


def given(data):
    (x, y), _ = data(30)
    return x.astype(np.float32) / 255, y


@pytest.mark.parametrize(
    ("task", "data", "network", "count"),
    [
        ("segmentation", task_cases.segmentation, task_cases.unet, 3),
        pytest.param("regression", task_cases.regression, task_cases.regressor, 1, marks=pytest.mark.long),
        ("multilabel", task_cases.multilabel, task_cases.sigmoids, 3),
    ],
)
def test_a_file_of_every_task(task, data, network, count, tmp_path):
    x, y = given(data)
    model = network(x.shape[1:], count)
    (found,) = autoslim.export(model, tmp_path, "keras", images=x, labels=y, task=task)
    assert found.metric == pytest.approx(autoslim.evaluate(model, (x, y), task=task).metric, rel=1e-5)
    assert found.agreement == (None if task == "regression" else 1.0)


def test_a_quantised_file_of_values_is_refused_by_its_error():
    y = np.linspace(0, 1, 40)[:, None]
    reference, objective = y + 0.1, objective_of("regression", None)
    for error, refused in ((0.105, False), (0.12, True)):
        found = compare((y + error).astype(np.float32), reference.astype(np.float32), y, objective)
        if refused:
            with pytest.raises(AutoslimError, match="mean absolute error on 40 images is 0.12, and"):
                demand("litert_int8", FORMATS["litert_int8"], found)
        else:
            demand("litert_int8", FORMATS["litert_int8"], found)
