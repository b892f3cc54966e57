"""What the system refuses becomes one message, by whether a file was read or written."""

import errno
import os

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
