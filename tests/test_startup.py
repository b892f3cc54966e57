"""What is refused before TensorFlow is loaded."""

import json
import os

import pytest

from autoslim.errors import AutoslimError
from autoslim.startup import check_environment


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
