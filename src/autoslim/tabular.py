"""Rows of figures as a notebook shows them: a table in HTML, a DataFrame of pandas."""

from __future__ import annotations

import html
from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from autoslim.errors import AutoslimError

if TYPE_CHECKING:
    import pandas

RIGHT = ' style="text-align:right"'
MOST_ROWS = 24  # of a table in a notebook; the middle of a longer one is left out


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


class Tabular:
    """What is a table to a notebook and to pandas; a class of its own says which `rows`."""

    columns: ClassVar[tuple[str, ...]] = ()  # those that a notebook shows; none named: all

    def rows(self) -> list[dict[str, Any]]:
        """A dict for each row: column -> value."""
        raise NotImplementedError

    def caption(self) -> str:
        """A sentence above the table in a notebook."""
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

    def _repr_html_(self) -> str:
        rows = self.rows()
        head = list(self.columns or (rows[0] if rows else ()))
        numbers = {name for name in head if all(isinstance(row[name], int | float) for row in rows)}
        cells = [[_text(row[name]) for name in head] for row in rows]
        if len(cells) > MOST_ROWS:
            half = MOST_ROWS // 2
            cells = [*cells[:half], ["…"] * len(head), *cells[-half:]]
        above = f"<p>{html.escape(self.caption())}</p>" if self.caption() else ""
        text = [place for place, name in enumerate(head) if name not in numbers]
        return above + html_table(head, cells, text)


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
