"""Find the images that cannot be decoded, once, before anything is trained.

One pass decodes every image, in parallel and at an eighth of its size, and keeps what it found next to the
outputs. So the images that are left, their split and every batch are the same from the first step to the last
and in every later run, which no handling of errors on the way could promise.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import tensorflow as tf
from filelock import FileLock

from autoslim.datasets.images import EncodedImages, decoded
from autoslim.errors import AutoslimError
from autoslim.sealing import sealed_json, unsealed
from autoslim.writing import write_whole

log = logging.getLogger(__name__)

NAMED = 20  # broken images that a message names
_AT_ONCE = 10_000


def broken_images(images: EncodedImages, state: str, cache: Path | None = None) -> dict[int, str]:
    """The images that cannot be decoded: index -> reason.

    Args:
        images: to look at.
        state: hash of all files' names, sizes and times; what was found for the same state is used again.
        cache: folder that keeps what was found; None: nothing is kept.
    """
    if cache is None:
        return _decode_all(images)
    cache.mkdir(parents=True, exist_ok=True)
    path = cache / f"verified-{state}.json"
    with FileLock(f"{path}.lock"):  # several workers begin together: one of them looks
        found = _kept(path)
        if found is None:
            found = _decode_all(images)
            write_whole(path, sealed_json({"images": len(images), "broken": found}))
    return found


def _kept(path: Path) -> dict[int, str] | None:
    """What an earlier run found; None: nothing that can be used."""
    try:
        broken = unsealed(path.read_text(encoding="utf-8"))["broken"]
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        log.warning("%s can't be used (%s): the images are looked at again.", path, error)
        return None
    return {int(index): reason for index, reason in broken.items()}


def check_broken(broken: dict[int, str], images: EncodedImages, what: str, limit: float) -> None:
    """Name the broken images in the log, or stop if there are too many.

    Args:
        broken: index -> reason.
        images: all, the broken ones among them.
        what: is counted, such as "training images".
        limit: share of the images that may be broken.

    Raises:
        AutoslimError: above the limit.
    """
    if not broken:
        return
    shown = [f"{images.name(index)} ({broken[index]})" for index in sorted(broken)[:NAMED]]
    more = f" and {len(broken) - NAMED} more" if len(broken) > NAMED else ""
    count = f"{len(broken)} of {len(images)} {what} cannot be decoded"
    if len(broken) > limit * len(images):
        raise AutoslimError(
            f"{count}, more than the share dataset.max_broken={limit:g}: {', '.join(shown)}{more}. Replace "
            "or remove them, or raise dataset.max_broken."
        )
    log.warning("%s and are left out: %s%s.", count, ", ".join(shown), more)


@contextmanager
def lost_images_reported(name: str) -> Iterator[None]:
    """Within the block, turn what TensorFlow raises for an image that broke meanwhile into a message.

    Args:
        name: of the dataset.
    """
    try:
        yield
    except tf.errors.OpError as error:
        if "IteratorGetNext" not in error.message:
            raise
        raise AutoslimError(
            f"An image of {name} can't be read ({_reason(error)}). Mend or remove its file: the "
            "same command then looks at all files again, and names what is broken (dataset.verify=true)."
        ) from error


def _reason(error: tf.errors.OpError) -> str:
    """What is wrong with an image: the one line of TensorFlow's message that tells it."""
    lines = error.message.splitlines()
    place = next((at for at, line in enumerate(lines) if "[[" in line), 1)  # below it
    noise = r"\{\{.*?\}\} ?|Error in user-defined function .* with iterator: \S+: | \[Op:\w+\]| name: ?$"
    return re.sub(noise, "", lines[max(place - 1, 0)]).rstrip(".")[:120]


def _decode_all(images: EncodedImages) -> dict[int, str]:
    log.info("Decoding %d images once to find broken ones (dataset.verify=false leaves it out).", len(images))
    read = images.reader()
    channels = images.shape[-1]

    def reason(index: int) -> str | None:
        try:
            stored = read(tf.constant(index, tf.int64))
            if tf.io.is_jpeg(stored):
                tf.io.decode_jpeg(stored, channels, ratio=8)
            else:
                decoded(stored, channels)
        except tf.errors.OpError as error:
            return _reason(error)
        return None

    def reasons() -> Iterator[str | None]:
        with ThreadPoolExecutor(os.cpu_count()) as threads:
            for start in range(0, len(images), _AT_ONCE):
                yield from threads.map(reason, range(start, min(start + _AT_ONCE, len(images))))

    return {index: text for index, text in enumerate(reasons()) if text is not None}
