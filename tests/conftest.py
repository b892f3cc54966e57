"""For all tests: interruptions are heard, also where the tests run in the background."""

import signal

# Scripts that tests start as processes of their own; nothing in them is to be collected.
collect_ignore = [
    "slimming/searching.py",
    "training/replicas.py",
    "training/resuming.py",
    "training/worker.py",
]

# A job that a shell started in the background ignores SIGINT, and so would all that it starts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
