"""What is refused before TensorFlow is loaded."""

import json
import logging
import os

import pytest

from autoslim.errors import AutoslimError
from autoslim.startup import check_environment, not_our_retracing


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.delenv("KERAS_BACKEND", raising=False)
    return tmp_path / "keras.json"


def test_another_backend(monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    with pytest.raises(AutoslimError) as error:
        check_environment()
    assert str(error.value) == (
        "KERAS_BACKEND=jax: autoslim computes with TensorFlow. Unset KERAS_BACKEND, or set it to tensorflow."
    )


@pytest.mark.parametrize("key, value", [("floatx", "float64"), ("image_data_format", "channels_first")])
def test_global_settings_that_change_results(home, key, value):
    home.write_text(json.dumps({"floatx": "float32", key: value, "backend": "tensorflow"}))
    with pytest.raises(AutoslimError) as error:
        check_environment()
    assert str(error.value).startswith(
        f"{home} sets {key} to {value!r}: every network would be another. Set it to "
    )


@pytest.mark.parametrize("text", [None, "", "[]", '{"epsilon": 1e-7}', '{"floatx": "float32"}'])
def test_what_is_taken(home, monkeypatch, text):
    if text is not None:
        home.write_text(text)
    check_environment()
    assert os.environ["KERAS_BACKEND"] == "tensorflow"


@pytest.mark.parametrize(
    "text, shown",
    [
        (
            "5 out of the last 12 calls to <bound method ArmsStep._first_pass of <autoslim.training.steps",
            False,
        ),
        ("5 out of the last 21 calls to <function traced.<locals>.call at 0x7f9edc762160>", False),
        ("5 out of the last 21 calls to <function my_step at 0x7f9edc762160>", True),
    ],
)
def test_own_steps_that_are_traced_again(text, shown):
    """TensorFlow warns of it where several networks are trained in one notebook; of the user's own it may."""
    text += " triggered tf.function retracing. Tracing is expensive"
    assert not_our_retracing(logging.makeLogRecord({"msg": text})) == shown
    assert not_our_retracing in logging.getLogger("tensorflow").filters
