"""What all static pages share: their style, the HTML document, what it was made from, tables and images.

A page has no script and loads nothing from elsewhere: its security policy allows its own style, and images and videos
that are part of it or next to it. Every text is escaped when it becomes HTML, because it may come from other people.
"""

import base64
import hashlib
import html
import json
import urllib.parse
from collections.abc import Collection, Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pipeline import __version__

PAGE = Path(__file__).parent / "page"

NARROW = 4
"""Tables with more columns than this are not squeezed on a phone."""


def escaped(value: object) -> str:
    """A value as the text of an element or attribute."""
    return html.escape(str(value))


def json_text(value: Any) -> str:
    """JSON that cannot end a script block, because every `<` is escaped."""
    text = json.dumps(value, ensure_ascii=False, default=str, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def relative(uri: str, output: str) -> str:
    """Link from a page in the output folder to a file in it."""
    return urllib.parse.quote(uri.removeprefix(output).lstrip("/"))


def policy(style: str, script: str = "") -> str:
    """The security policy of a page that allows only this style and this script."""
    allowed = {
        "default-src": "'none'",
        "style-src": _hash(style),
        **({"script-src": _hash(script)} if script else {}),
        "img-src": "'self' file: data:",
        "media-src": "'self' file:",
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    return "; ".join(f"{key} {value}" for key, value in allowed.items())


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def style_of(name: str) -> str:
    """A style sheet of this folder, after the colours that all pages share."""
    return "".join((PAGE / part).read_text("utf-8") for part in ("colours.css", name))


def document(title: str, parts: Iterable[str], about: Iterable[tuple[str, object]] = ()) -> str:
    """A whole page: its title as heading, `about` as `facts` says, and `parts` of HTML one below another."""
    style = style_of("static.css")
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy(style)}">\n'
        f'<meta name="referrer" content="no-referrer">\n<title>{escaped(title)}</title>\n<style>{style}</style>\n'
        f"</head>\n<body>\n<header>\n<h1>{escaped(title)}</h1>\n{facts(about)}\n</header>\n<main>\n"
        + "\n".join(parts)
        + "\n</main>\n</body>\n</html>\n"
    )


def facts(pairs: Iterable[tuple[str, object]]) -> str:
    """Names with their values, such as what a page was made from; pairs whose value is empty are left out."""
    known = [(name, value) for name, value in pairs if value not in (None, "")]
    lines = "".join(f"<dt>{escaped(name)}</dt><dd>{escaped(value)}</dd>" for name, value in known)
    return f'<dl class="facts">{lines}</dl>' if known else ""


def made_now() -> tuple[str, str]:
    """For `facts`: when, and by which version, a page is made."""
    now = datetime.now(UTC)
    return "made", f"{now:%Y-%m-%d %H:%M} UTC by Floatcast {__version__}"


def paragraph(value: object, kind: str = "") -> str:
    """A paragraph; `kind` is soft, note, pass, review or fail."""
    return f"<p{_class(kind)}>{escaped(value)}</p>"


def cell(value: object, kind: str = "") -> str:
    """A table cell; `kind` is number, or one of those of a paragraph."""
    return f"<td{_class(kind)}>{escaped(value)}</td>"


def table(name: str, head: Sequence[object], rows: Iterable[Sequence[str]]) -> str:
    """A table whose cells are HTML already; its name, which a screen reader says, and the column names are plain text.

    Where a screen is too narrow, it scrolls in its own box, also by keyboard.
    """
    top = "".join(f'<th scope="col">{escaped(name)}</th>' for name in head)
    body = "\n".join(f"<tr>{''.join(row)}</tr>" for row in rows)
    wide = ' class="wide"' if len(head) > NARROW else ""
    return scrolling(
        name,
        f'<table{wide} aria-label="{escaped(name)}"><thead><tr>{top}</tr></thead>\n<tbody>\n{body}\n</tbody></table>',
    )


def scrolling(name: str, content: str) -> str:
    """A box in which wide content scrolls, so that the page does not."""
    return f'<div class="scroll" role="region" aria-label="{escaped(name)}" tabindex="0">{content}</div>'


def text_table(
    name: str, head: Sequence[object], rows: Iterable[Sequence[object]], numbers: Collection[int] = ()
) -> str:
    """A table of plain texts; `numbers` are the columns with numbers."""
    cells = [[cell(value, "number" if i in numbers else "") for i, value in enumerate(row)] for row in rows]
    return table(name, head, cells)


def embedded_image(caption: str, jpeg: bytes) -> str:
    """An image that is embedded in the page."""
    data, label = base64.b64encode(jpeg).decode(), escaped(caption)
    return picture(caption, f'<img alt="{label}" src="data:image/jpeg;base64,{data}">')


def picture(caption: str, image: str) -> str:
    """An `<img>` with its caption; on a phone it keeps its size and scrolls in its own box."""
    return f"<figure><figcaption>{escaped(caption)}</figcaption>{scrolling(caption, image)}</figure>"


def _class(kind: str) -> str:
    return f' class="{kind}"' if kind else ""
