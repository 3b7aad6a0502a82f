"""Tables for notebooks.

In: plain text. Out: HTML in which that text is escaped. Must not know: what the tables show.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence


def table(title: str, head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Returns a table with a title. Every cell is escaped."""
    cells = "".join(f"<th style='text-align:left'>{html.escape(name)}</th>" for name in head)
    body = "".join(
        "<tr>" + "".join(f"<td style='text-align:left'>{html.escape(str(cell))}</td>" for cell in row) + "</tr>"
        for row in rows
    )
    return f"<div><b>{html.escape(title)}</b><table><thead><tr>{cells}</tr></thead><tbody>{body}</tbody></table></div>"
