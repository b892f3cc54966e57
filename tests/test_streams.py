"""A run's words, and what ends it: closed streams, lost readers, signals in the wrong place."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

PLACE = Path(__file__).parent


def program(text: str, command: str = "exec {python} -c {text}") -> subprocess.CompletedProcess[str]:
    """A Python program, started by a shell."""
    line = command.format(python=sys.executable, text='"$TEXT"')
    environment = {**os.environ, "TEXT": text}
    return subprocess.run(
        ["bash", "-c", line], env=environment, capture_output=True, text=True, timeout=60, check=False
    )


SPEAKING = """
import sys, time
from autoslim.streams import keep_streams
keep_streams()
for number in range(2000):
    print("ü" * 20, number, flush=True)
print("ended", file=sys.stderr)
"""


def test_a_reader_that_leaves_ends_nothing():
    done = program(SPEAKING, "{python} -c {text} | head -1")
    assert done.stderr == "ended\n" and len(done.stdout.splitlines()) == 1


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams(closed, tmp_path):
    path = tmp_path / "file"
    text = SPEAKING + f"open({str(path)!r}, 'w').write('mine'); sys.stdout.flush()"
    done = program(text, f"{{python}} -c {{text}} {closed}")
    assert done.returncode == 0 and path.read_text() == "mine" and "Traceback" not in done.stderr


def test_the_command_line_begins_without_streams():
    """What is imported before `keep_streams` needs none either."""
    done = program("import autoslim.cli, autoslim.reporting.terminal", "{python} -c {text} <&- >&- 2>&-")
    assert done.returncode == 0


def test_streams_that_take_ascii_alone():
    done = program(SPEAKING, "PYTHONIOENCODING=ascii {python} -c {text}")
    assert done.returncode == 0 and done.stdout.startswith(r"\xfc")


LOST = """
import os, signal, sys, time
from autoslim.interruption import deferred_interruption, interruptible
class Thing:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.01)
try:
    with interruptible():
        Thing()
        time.sleep(20)
        print("lost")
except KeyboardInterrupt:
    print("heard")
"""


def test_an_interruption_in_a_destructor_comes_again():
    done = program(LOST)
    assert done.stdout == "heard\n" and done.stderr == ""


MANY = """
import os, signal, time
from autoslim.interruption import deferred_interruption, interruptible
with interruptible():
    with deferred_interruption() as asked:
        os.kill(os.getpid(), signal.SIGTERM)
        print(asked.requested, flush=True)
    try:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(20)
    except KeyboardInterrupt:
        print("second", flush=True)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(20)
"""


def test_the_third_signal_ends_the_process_without_a_traceback():
    done = program(MANY)
    assert (done.returncode, done.stdout) == (130, "True\nsecond\n")
    assert done.stderr == "\nautoslim: stopped. The same command goes on where it stopped.\n"


LATE = """
import atexit, signal
atexit.register(lambda: print(signal.getsignal(signal.SIGINT).name, signal.getsignal(signal.SIGTERM).name))
from autoslim.interruption import end_at_signals, exit_at_signals
end_at_signals()
exit_at_signals(0)
"""


def test_signals_are_ignored_when_python_is_about_to_forget_their_handlers():
    assert program(LATE).stdout == "SIG_IGN SIG_IGN\n"


def test_what_was_there_before_comes_back():
    before = signal.getsignal(signal.SIGINT), sys.unraisablehook
    from autoslim.interruption import interruptible

    with interruptible():
        assert signal.getsignal(signal.SIGINT) is not before[0]
    assert (signal.getsignal(signal.SIGINT), sys.unraisablehook) == before


def test_last_words_of_a_process_that_dies_while_tensorflow_is_loaded(tmp_path):
    (tmp_path / "tensorflow.py").write_text(
        "import os\nos.write(2, b'E0000 cuda\\nUnknown flag: nosuch\\n')\nos.abort()\n"
    )
    text = "from autoslim.startup import import_tensorflow; import_tensorflow()"
    done = program(text, f"cd {tmp_path} && exec {{python}} -c {{text}}")
    assert done.returncode == -signal.SIGABRT
    assert "Unknown flag: nosuch\nautoslim: error: the process ended while TensorFlow was" in done.stderr
