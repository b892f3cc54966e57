"""What TensorBoard shows of a training that was killed and goes on."""

import time

from tensorboard.backend.event_processing import plugin_event_accumulator as accumulator

from autoslim.training.curves import Curves


def steps_shown(folder):
    events = accumulator.EventAccumulator(str(folder), tensor_size_guidance={"scalars": 0})
    events.Reload()
    return [event.step for event in events.Tensors("loss")]


def test_no_step_is_shown_twice(tmp_path):
    killed = Curves(tmp_path)
    for step in range(1, 8):
        killed.write(step, {"loss": 1.0})
    for begin in (4, 5):  # after the checkpoints of these steps
        time.sleep(1.2)  # files are read in the order of the second in which they were begun
        again = Curves(tmp_path, begin)
        for step in range(begin + 1, begin + 3):
            again.write(step, {"loss": 2.0})
        again.close()
    assert steps_shown(tmp_path) == [1, 2, 3, 4, 5, 6, 7]
