"""``python -m autoslim``, and the command ``autoslim``: see :mod:`autoslim.cli`."""

from autoslim.interruption import end_at_signals


def main() -> None:
    """Run the command line, whose imports take a second."""
    end_at_signals()
    from autoslim import cli

    cli.main()


if __name__ == "__main__":
    main()
