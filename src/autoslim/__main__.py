"""``python -m autoslim``: see :mod:`autoslim.cli`."""

from autoslim.cli import main

if __name__ == "__main__":
    main()
