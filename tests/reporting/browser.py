"""A headless Chromium, for tests that look at pages as people see them."""

import shutil
import subprocess
from pathlib import Path

import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")


def shown(address: str, profile: Path, milliseconds: int = 5000) -> str:
    """The page as HTML after its scripts ran, and it was given some time; fails with the browser's errors.

    Args:
        address: of the page, a file's or a server's.
        profile: folder for the browser's own files.
        milliseconds: of the page's own clock, which waits for what is loaded.
    """
    command = [str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={profile}"]
    command += [f"--virtual-time-budget={milliseconds}", "--dump-dom", address]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and done.stdout, done.stderr
    return done.stdout
