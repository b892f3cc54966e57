"""report.html: the text of report.md as one file that needs nothing else, its tables sorted by a click."""

from __future__ import annotations

import base64
import html
import re
import urllib.parse
from pathlib import Path

from markdown_it import MarkdownIt

_STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #8881; --accent: #0072b2; }
body { font: 16px/1.55 system-ui, sans-serif; max-width: 66rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.2rem; margin-top: 2.2rem; }
body > p:first-of-type { font-size: 1.15rem; border-left: 4px solid var(--accent); padding-left: 1rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .88rem; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .5rem; border-bottom: 1px solid var(--line); white-space: nowrap; }
th { white-space: normal; vertical-align: bottom; }
th { cursor: pointer; user-select: none; background: var(--soft); }
th:hover { color: var(--accent); }
th[aria-sort=ascending]::after { content: " \\25B2"; } th[aria-sort=descending]::after { content: " \\25BC"; }
img { max-width: 100%; background: #fff; border-radius: 6px; }
pre { background: var(--soft); padding: .8rem; overflow-x: auto; border-radius: 6px; }
blockquote { margin: 1rem 0; padding: .4rem 1rem; border-left: 4px solid #d55e00; background: var(--soft); }
"""

# Cells are compared as amounts ("1.5 MiB", "-2.00", "48.0 %") where they are, else as text. Rows
# whose first cell is bold, totals, stay last.
_SCRIPT = """
const UNITS = {k: 1e3, M: 1e6, G: 1e9, T: 1e12, P: 1e15,
  KiB: 2 ** 10, MiB: 2 ** 20, GiB: 2 ** 30, TiB: 2 ** 40, PiB: 2 ** 50};
const amount = (text) => {
  const found = text.replace(/,/g, "").match(/^([-+]?[\\d.]+(?:e[-+]?\\d+)?)\\s*([kKMGTP]i?B?|B)?/);
  return found ? parseFloat(found[1]) * (UNITS[found[2]] || 1) : NaN;
};
const compare = (a, b, way) => {
  const [x, y] = [amount(a), amount(b)];
  if (isNaN(x) !== isNaN(y)) return isNaN(x) ? 1 : -1;
  return way * (isNaN(x) ? a.localeCompare(b) : x - y);
};
document.querySelectorAll("th").forEach((head) => {
  head.title = "sort by this column";
  head.addEventListener("click", () => {
    const way = head.ariaSort === "ascending" ? -1 : 1;
    const table = head.closest("table"), place = head.cellIndex, body = table.tBodies[0];
    const total = (row) => row.cells[0].querySelector("strong") !== null;
    const rows = [...body.rows];
    rows.sort((a, b) => total(a) - total(b)
      || compare(a.cells[place].textContent, b.cells[place].textContent, way));
    table.querySelectorAll("th").forEach((other) => other.removeAttribute("aria-sort"));
    head.ariaSort = way === 1 ? "ascending" : "descending";
    body.append(...rows);
  });
});
"""


def report_page(text: str, folder: Path) -> str:
    """A report in HTML.

    Args:
        text: of report.md.
        folder: of its figures: each PNG is replaced by the SVG of the same name where there is one, and put
            into the page.
    """
    body = MarkdownIt("commonmark", {"html": False}).enable("table").render(text)
    body = body.replace("<table>", '<div class="wide"><table>').replace("</table>", "</table></div>")
    body = re.sub(r'<img src="([^"]*)"', lambda found: f'<img src="{_inline(found[1], folder)}"', body)
    titles = re.findall(r"^# (.*)$", text, re.M) or ["autoslim"]
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{html.escape(titles[0])}'
        f'</title>\n<meta name="viewport" content="width=device-width">\n<style>{_STYLE}</style>\n</head>\n'
        f"<body>\n{body}<script>{_SCRIPT}</script>\n</body>\n</html>\n"
    )


def _inline(source: str, folder: Path) -> str:
    """An image as a data URI."""
    path = folder / urllib.parse.unquote(html.unescape(source))
    svg = path.with_suffix(".svg")
    kind, file = ("svg+xml", svg) if svg.exists() else ("png", path)
    return f"data:image/{kind};base64,{base64.b64encode(file.read_bytes()).decode()}"
