"""TensorFlow without the notes that it prints about the processor and its converters."""

import json
import logging
import os
import re
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO

from autoslim.errors import AutoslimError
from autoslim.interruption import before_a_sudden_end, deferred_interruption

NOISE = re.compile(
    r"WARNING: All log messages before absl::InitializeLog"
    r"|[IW]\d{4} "  # the processor, a graphics card that is not there, what a converter leaves out
    r"|To enable the following instructions: "
    r"|INFO: Created TensorFlow Lite XNNPACK delegate"
    r"|fully_quantize: \d, inference_type: "
)
"""Lines that say nothing about a user's command; ``TF_CPP_MIN_LOG_LEVEL=0`` in the environment shows them."""

KERAS_SETTINGS = {"floatx": "float32", "image_data_format": "channels_last"}
"""Global settings of Keras that decide what a network computes, and the only values that are taken."""

NO_DRIVER = re.compile(r"E\d{4} .*cuda")
"""What TensorFlow prints on a machine without a graphics card of NVIDIA's."""


@contextmanager
def _filtered_errors() -> Iterator[None]:
    """Hold back what is written to the standard error stream, by C++ too, and pass it on without `NOISE`."""
    if os.environ.get("TF_CPP_MIN_LOG_LEVEL") == "0":
        yield
        return
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            with _last_words(held, kept):
                yield
        finally:
            sys.stderr.flush()
            os.dup2(kept, 2)
            os.close(kept)
            for line in _worth_reading(held):
                print(line, file=sys.stderr)


def _worth_reading(held: IO[bytes]) -> list[str]:
    """The lines that were held back, without `NOISE`."""
    held.seek(0)
    lines = held.read().decode(errors="replace").splitlines()
    return [one for one in lines if not (NOISE.match(one) or (NO_DRIVER.match(one) and not _has_nvidia()))]


@contextmanager
def _last_words(held: IO[bytes], stream: int) -> Iterator[None]:
    """Within the block a copy of this process waits; if this one dies, it passes on what was held back.

    TensorFlow ends the process itself where it is set up wrongly, such as by `XLA_FLAGS`.
    """
    if "tensorflow" in sys.modules or threading.active_count() > 1:  # a copy of many threads could hang
        yield
        return
    read, write = os.pipe()
    copy = os.fork()
    if copy == 0:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        os.close(write)
        if not os.read(read, 1):  # closed, with nothing written: the process died
            lines = [
                *_worth_reading(held),
                "autoslim: error: the process ended while TensorFlow was loaded.",
            ]
            os.write(stream, "".join(f"{line}\n" for line in lines).encode())
        os._exit(0)
    os.close(read)
    try:
        with before_a_sudden_end(lambda: os.write(write, b".")):
            yield
    finally:
        os.write(write, b".")
        os.close(write)
        os.waitpid(copy, 0)


def _has_nvidia() -> bool:
    """Whether there is a driver of NVIDIA's, so that what CUDA complains of matters."""
    return any(Path("/dev").glob("nvidia*"))


@contextmanager
def quiet() -> Iterator[None]:
    """Within the block, leave `NOISE` and what TensorFlow logs below errors out where that can be done."""
    logger = logging.getLogger("tensorflow")
    with ExitStack() as stack:
        stack.callback(logger.setLevel, logger.level)
        logger.setLevel(logging.ERROR)
        with suppress(OSError):  # no standard error stream, or nowhere to hold it back
            stack.enter_context(_filtered_errors())
        yield


def not_our_retracing(record: logging.LogRecord) -> bool:
    """Leave out where TensorFlow says that a step of ours is traced again: each network has its own."""
    text = record.getMessage()
    ours = "autoslim." in text or "traced.<locals>" in text
    return not (ours and "triggered tf.function retracing" in text)


def check_environment() -> None:
    """Refuse settings outside the configuration under which a run would compute something else.

    Raises:
        AutoslimError: for another backend of Keras than TensorFlow, and for another number format or order
            of axes in its global settings, which no stage's name would tell apart.
    """
    backend = os.environ.setdefault("KERAS_BACKEND", "tensorflow") or "tensorflow"
    if backend != "tensorflow":
        raise AutoslimError(
            f"KERAS_BACKEND={backend}: autoslim computes with TensorFlow. Unset KERAS_BACKEND, or set it to "
            "tensorflow."
        )
    folder = Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras")
    try:
        settings = json.loads((folder / "keras.json").read_text())
        given = {name: settings.get(name, usual) for name, usual in KERAS_SETTINGS.items()}
    except (OSError, ValueError, AttributeError):  # Keras goes without it too
        return
    for name, usual in KERAS_SETTINGS.items():
        if given[name] != usual:
            raise AutoslimError(
                f"{folder / 'keras.json'} sets {name} to {given[name]!r}: every network would be another. "
                f"Set it to {usual!r} for autoslim (KERAS_HOME=FOLDER names another folder); train.precision "
                "chooses number formats."
            )


def import_tensorflow() -> None:
    """Import TensorFlow; ``TF_CPP_MIN_LOG_LEVEL=0`` in the environment shows all it has to say.

    Raises:
        AutoslimError: as :func:`check_environment`.
    """
    check_environment()
    with deferred_interruption() as interruption:  # within an import it would end in another error
        _import_tensorflow()
    if interruption.requested:
        raise KeyboardInterrupt


def _import_tensorflow() -> None:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    logging.getLogger("tensorflow").addFilter(not_our_retracing)
    try:
        with _filtered_errors():
            import tensorflow

            tensorflow.config.list_physical_devices("GPU")  # CUDA complains here, and not later
    except OSError:  # no standard error stream, or nowhere to hold it back
        import tensorflow  # noqa: F401
