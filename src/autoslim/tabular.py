"""Rows of figures as people see them: a table in a terminal or a notebook, a DataFrame of pandas."""

from __future__ import annotations

import html
from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from autoslim.errors import AutoslimError

if TYPE_CHECKING:
    import pandas

RIGHT = ' style="text-align:right"'
MOST_ROWS = 24  # of a table that is shown; the middle of a longer one is left out


def html_table(head: Sequence[str], rows: Iterable[Sequence[str]], text: Collection[int] = (0,)) -> str:
    """A table in HTML; all but the columns of text are right-aligned.

    >>> html_table(["network", "FLOPs"], [["a < b", "3"]])[-77:]
    '<tr><td>a &lt; b</td><td style="text-align:right">3</td></tr></tbody></table>'
    """

    def line(cells: Sequence[str], tag: str) -> str:
        shown = (
            f"<{tag}{'' if place in text else RIGHT}>{html.escape(cell)}</{tag}>"
            for place, cell in enumerate(cells)
        )
        return f"<tr>{''.join(shown)}</tr>"

    body = "".join(line(row, "td") for row in rows)
    return f"<table><thead>{line(head, 'th')}</thead><tbody>{body}</tbody></table>"


def text_table(head: Sequence[str], rows: Iterable[Sequence[str]], text: Collection[int] = (0,)) -> str:
    """A table in plain text; all but the columns of text are right-aligned.

    >>> print(text_table(["network", "FLOPs"], [["mine", "12,345"]]))
    network   FLOPs
    mine     12,345
    """
    lines = [list(head), *map(list, rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    shown = (
        "  ".join(
            cell.ljust(width) if place in text else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    )
    return "\n".join(line.rstrip() for line in shown)


class Tabular:
    """What is shown as a table, in a terminal too; a class of its own says which `rows`."""

    columns: ClassVar[tuple[str, ...]] = ()  # those that are shown; none named: all

    def rows(self) -> list[dict[str, Any]]:
        """A dict for each row: column -> value."""
        raise NotImplementedError

    def caption(self) -> str:
        """A sentence above the table."""
        return ""

    def to_frame(self) -> pandas.DataFrame:
        """The rows as a DataFrame of pandas, which is not installed with autoslim.

        Raises:
            AutoslimError: if pandas is not installed.
        """
        try:
            import pandas
        except ImportError as error:
            raise AutoslimError(
                "to_frame() needs pandas, which is not installed: pip install pandas. rows() returns the "
                "same as a list of dicts."
            ) from error
        return pandas.DataFrame(self.rows())

    def __repr__(self) -> str:
        table = text_table(*self._shown())
        return f"{self.caption()}\n{table}" if self.caption() else table

    def _repr_html_(self) -> str:
        above = f"<p>{html.escape(self.caption())}</p>" if self.caption() else ""
        return above + html_table(*self._shown())

    def _shown(self) -> tuple[list[str], list[list[str]], list[int]]:
        """Head, cells, and places of the columns of text."""
        rows = self.rows()
        head = list(self.columns or (rows[0] if rows else ()))
        numbers = {name for name in head if all(isinstance(row[name], int | float) for row in rows)}
        cells = [[_text(row[name]) for name in head] for row in rows]
        if len(cells) > MOST_ROWS:
            half = MOST_ROWS // 2
            cells = [*cells[:half], ["…"] * len(head), *cells[-half:]]
        return head, cells, [place for place, name in enumerate(head) if name not in numbers]


def _text(value: Any) -> str:
    """A value as it stands in a cell.

    >>> [_text(one) for one in (None, 12345, 0.123456, ("a", "b"))]
    ['', '12,345', '0.1235', 'a, b']
    """
    if value is None:
        return ""
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.4g}"
    return ", ".join(map(str, value)) if isinstance(value, tuple | list) else str(value)
