"""A web page in one file: text, tables and pictures, with nothing to fetch and nothing to run.

Readable on a phone and on paper, in light and dark. Wide pictures and tables scroll sideways by themselves, so that the
page never does.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape
from pathlib import Path

STYLE = """
:root { color-scheme: light dark; --text: #1a1a1a; --soft: #555; --page: #fff; --card: #f5f5f3; --line: #d5d5d0; }
@media (prefers-color-scheme: dark) {
  :root { --text: #e8e8e4; --soft: #a8a8a2; --page: #16181a; --card: #212427; --line: #3a3e42; }
  figure img { filter: brightness(.87); }
}
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1rem; max-width: 54rem; background: var(--page); color: var(--text);
       font: 1rem/1.55 system-ui, sans-serif; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 1rem 0 .5rem; }
h2 { font-size: 1.2rem; margin: 2.2rem 0 .6rem; }
.lead { font-size: 1.1rem; }
.note { border-left: .3rem solid #d55e00; background: var(--card); padding: .6rem .9rem; margin: .6rem 0; }
.wide { overflow-x: auto; border: 1px solid var(--line); border-radius: .5rem; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { padding: .35rem .7rem; text-align: left; vertical-align: top; border-bottom: 1px solid var(--line); }
tr:last-child > * { border-bottom: 0; }
thead th { color: var(--soft); font-weight: 600; }
.numbers td, .numbers thead th + th { text-align: right; white-space: nowrap; }
.facts th { color: var(--soft); font-weight: 400; width: 11rem; }
.facts td { overflow-wrap: anywhere; }
figure { margin: 0; }
figure .wide { background: #fff; }
figure img { display: block; width: 100%; min-width: 36rem; height: auto; }
figcaption { color: var(--soft); margin: .5rem 0 0; }
code { font: .9em ui-monospace, monospace; background: var(--card); padding: .1em .3em; border-radius: .25em; }
"""


def document(title: str, parts: Sequence[str]) -> str:
    """Return a whole page.

    Parameters
    ----------
    title : str
        For the window; plain text.
    parts : sequence of str
        HTML, from the functions below.
    """
    body = "\n".join(parts)
    return (f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
            f'<meta name="viewport" content="width=device-width, initial-scale=1">\n<title>{escape(title)}</title>\n'
            f"<style>{STYLE}</style>\n</head>\n<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n")


def heading(text: str, level: int = 2) -> str:
    """Return a heading."""
    return f"<h{level}>{escape(text)}</h{level}>"


def paragraph(text: str, kind: str = "") -> str:
    """Return a paragraph; ``kind`` is "lead" or "note", or nothing."""
    return f'<p class="{kind}">{escape(text)}</p>' if kind else f"<p>{escape(text)}</p>"


def command(text: str) -> str:
    """Return a line to be typed."""
    return f"<p><code>{escape(text)}</code></p>"


def facts(rows: Sequence[tuple[str, str]]) -> str:
    """Return a table of names and values."""
    lines = "\n".join(f'<tr><th scope="row">{escape(name)}</th><td>{escape(value)}</td></tr>' for name, value in rows)
    return f'<div class="wide"><table class="facts">\n{lines}\n</table></div>'


def numbers(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table of figures under a head; the first column names the rows."""
    top = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in head)
    cells = [(escape(row[0]), "".join(f"<td>{escape(cell)}</td>" for cell in row[1:])) for row in rows]
    lines = "\n".join(f'<tr><th scope="row">{first}</th>{rest}</tr>' for first, rest in cells)
    return (f'<div class="wide"><table class="numbers">\n<thead><tr>{top}</tr></thead>\n<tbody>\n{lines}\n'
            "</tbody></table></div>")


def picture(path: Path, finding: str, caption: str) -> str:
    """Return a PNG file, inside the page, with its caption; ``finding`` is what it says to who cannot see it."""
    data = base64.b64encode(path.read_bytes()).decode("ascii")
    return (f'<figure><div class="wide"><img alt="{escape(finding)}" src="data:image/png;base64,{data}"></div>\n'
            f"<figcaption>{escape(caption)}</figcaption></figure>")
