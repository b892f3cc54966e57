"""Tables in Markdown, and the numbers in them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def table(head: Sequence[str], rows: Iterable[Sequence[str]], text_columns: int = 1) -> str:
    """A Markdown table whose source lines up too; all but the first columns are right-aligned."""
    lines = [[cell.replace("|", "\\|") for cell in line] for line in (head, *rows)]
    wide = [max(3, *(len(line[i]) for line in lines)) for i in range(len(head))]
    left = [i < text_columns for i in range(len(head))]
    rule = ["-" * w if to_left else "-" * (w - 1) + ":" for w, to_left in zip(wide, left, strict=True)]
    padded = [
        [
            cell.ljust(w) if to_left else cell.rjust(w)
            for cell, w, to_left in zip(line, wide, left, strict=True)
        ]
        for line in lines
    ]
    return "\n".join("| " + " | ".join(line) + " |" for line in (padded[0], rule, *padded[1:]))
