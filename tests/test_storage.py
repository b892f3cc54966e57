"""What the system refuses becomes one message, by whether a file was read or written."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from autoslim.config import compose
from autoslim.errors import AutoslimError
from autoslim.storage import files_needed
from autoslim.writing import system_reason


def raised(error: Exception, **keys: str) -> str:
    with pytest.raises(AutoslimError) as found, files_needed("outputs", compose(keys)):
        raise error
    return str(found.value)


def test_what_is_read_is_not_written():
    denied = PermissionError(errno.EACCES, os.strerror(errno.EACCES), "images/train/ant")
    assert raised(denied, **{"dataset": "cifar10", "dataset.path": "images"}) == (
        "images/train/ant can't be read: Permission denied. Give leave to read it, or correct dataset.path."
    )
    assert raised(denied) == (
        "cannot write images/train/ant: Permission denied. Make room or choose another folder with "
        "output=FOLDER; the same command then goes on where it stopped."
    )


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EFBIG, errno.EROFS, errno.ENOTDIR])
def test_reasons_that_libraries_pass_on_as_text(number):
    text = f"Can't write data (errno = {number}, error message = '{os.strerror(number)}', buf = 0x1)"
    assert system_reason(RuntimeError(text)) == os.strerror(number)
    assert raised(OSError(text)).startswith(f"cannot write outputs: {os.strerror(number)}. ")


def test_other_errors_stay_as_they_are():
    with pytest.raises(KeyError), files_needed("outputs"):
        raise KeyError("no file")
    assert system_reason(ValueError(os.strerror(errno.EIO))) is None


LIMITED = """
import resource, sys
from pathlib import Path
from types import SimpleNamespace
import keras
from autoslim.stages.weights import save_weights
model = keras.Sequential([keras.Input((100,)), keras.layers.Dense(1000)])
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
try:
    save_weights(model, SimpleNamespace(path=Path(sys.argv[1])))
except OSError as error:
    print(error.strerror)
"""


@pytest.mark.slow
def test_weights_that_find_no_room_are_an_error_and_no_crash(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "File too large\n"), done.stderr
    assert not list(tmp_path.iterdir())
