"""What all static pages share: their style, the HTML document, tables and images.

A page has no script and loads nothing from elsewhere: its security policy allows its own style, and images and videos
that are part of it or next to it. Every text is escaped when it becomes HTML, because it may come from other people.
"""

import base64
import hashlib
import html
import json
import urllib.parse
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parent / "page"


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


def document(title: str, parts: Iterable[str]) -> str:
    """A whole page, with its title as heading and `parts` of HTML one below another."""
    style = (PAGE / "static.css").read_text("utf-8")
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy(style)}">\n'
        f'<meta name="referrer" content="no-referrer">\n<title>{escaped(title)}</title>\n<style>{style}</style>\n'
        f"</head>\n<body>\n<h1>{escaped(title)}</h1>\n" + "\n".join(parts) + "\n</body>\n</html>\n"
    )


def paragraph(value: object, kind: str = "") -> str:
    """A paragraph; `kind` is soft, note, pass, review or fail."""
    return f"<p{_class(kind)}>{escaped(value)}</p>"


def cell(value: object, kind: str = "") -> str:
    """A table cell; `kind` is number, or one of those of a paragraph."""
    return f"<td{_class(kind)}>{escaped(value)}</td>"


def table(head: Sequence[object], rows: Iterable[Sequence[str]]) -> str:
    """A table whose cells are HTML already; the column names are plain text."""
    top = "".join(f'<th scope="col">{escaped(name)}</th>' for name in head)
    body = "\n".join(f"<tr>{''.join(row)}</tr>" for row in rows)
    return f'<div class="scroll"><table><thead><tr>{top}</tr></thead>\n<tbody>\n{body}\n</tbody></table></div>'


def text_table(head: Sequence[object], rows: Iterable[Sequence[object]], numbers: Collection[int] = ()) -> str:
    """A table of plain texts; `numbers` are the columns with numbers."""
    return table(head, [[cell(value, "number" if i in numbers else "") for i, value in enumerate(row)] for row in rows])


def embedded_image(caption: str, jpeg: bytes) -> str:
    """An image that is embedded in the page."""
    data, label = base64.b64encode(jpeg).decode(), escaped(caption)
    return f'<figure><figcaption>{label}</figcaption><img alt="{label}" src="data:image/jpeg;base64,{data}"></figure>'


def _class(kind: str) -> str:
    return f' class="{kind}"' if kind else ""
