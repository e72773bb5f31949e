"""A small server on this machine's loopback for people who review: the report, its videos, and review.csv.

The address carries a random token, and every other path is unknown, so that neither another user of the machine nor a
page in the same browser can read or write. Reviews are written to the output at once; videos come from the disk or the
object storage in the ranges for which the browser asks.
"""

import csv
import io
import json
import posixpath
import re
import secrets
import threading
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import chain
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from pipeline.common.csv_cells import cell
from pipeline.common.errors import ClipError, StorageError
from pipeline.common.limits import Limits
from pipeline.common.redaction import redacted
from pipeline.ledger.clip_row import mark_of_take, plan_mark
from pipeline.ledger.columns import ClipRow
from pipeline.media.presets import CONTAINERS
from pipeline.qc.review import COLUMNS, REVIEW, WORDS, Review, read_reviews
from pipeline.report.render_report import REPORT
from pipeline.storage.explained import said_by_us
from pipeline.storage.objects import create_bytes, file_info, filesystem, list_folder, read_bytes, retried
from pipeline.storage.replacing import replace_bytes
from pipeline.storage.untrusted import read_input
from pipeline.storage.uris import join

LARGEST_BODY = 8 << 20
"""Bytes of the largest request: the approval of some 50,000 clips."""
LONGEST_COMMENT = 10_000
CHUNK = 1 << 20
"""Bytes of a video that are read at a time."""
TRIES = 5
"""So often a review is written anew because somebody else has written review.csv meanwhile."""
FOLDERS = ("videos", "qc")
"""Folders of the output whose files the browser may ask for."""
KINDS = {
    **{one.suffix: one.mime for one in CONTAINERS.values()},
    **{".png": "image/png", ".webp": "image/webp", ".gif": "image/gif"},
    **{".jpg": "image/jpeg", ".jpeg": "image/jpeg"},
}
"""By suffix. Everything else is sent as bytes, so that no file of somebody else becomes a page at this address."""
_RANGE = re.compile(r"bytes=(\d*)-(\d*)")


class Reviews:
    """review.csv of an output, for several threads."""

    def __init__(self, output: str, rows: dict[int, ClipRow]) -> None:
        self._output, self._lock = output, threading.Lock()
        done = (row for row in rows.values() if row["status"] == "done")
        self._marks = {row["clip_id"]: plan_mark(row.get("fingerprint") or "") for row in done}

    def all(self) -> list[Review]:
        """The last review of each take. Raises ManifestError for a file that is damaged, and StorageError."""
        ours = (one for one in self._stored() if one.fingerprint in self._of(one))
        return list({(one.clip_id, one.take): one for one in ours}.values())

    def _stored(self) -> list[Review]:
        """The same with those of earlier versions of the clips."""
        found = chain.from_iterable(read_reviews(join(self._output, REVIEW)).values())
        return list({(one.clip_id, one.take, one.fingerprint): one for one in found}.values())

    def _of(self, review: Review) -> tuple[str, ...]:
        """Fingerprints with which a review speaks of a video that the page shows."""
        mark = self._marks.get(review.clip_id)
        return ("", mark_of_take(mark, review.take)) if mark else ("", review.fingerprint)

    def change(self, changes: Any) -> int:
        """Take what the page sends; returns the number of reviews. Raises ValueError for what is no review."""
        wanted = {(one.clip_id, one.take): one for one in map(self._checked, _listed(changes))}
        uri = join(self._output, REVIEW)
        with self._lock:
            for _ in range(TRIES):
                before = read_bytes(uri)
                stays = (one for one in self._stored() if not self._is_replaced(one, wanted))
                reviews = [one for one in (*stays, *wanted.values()) if one.verdict]
                data = _as_csv(reviews)
                if before is None and create_bytes(data, uri):
                    return len(reviews)
                if before is not None and replace_bytes(data, uri, before):
                    return len(reviews)
        raise ValueError("somebody else is writing review.csv at the same time: try again")

    def _is_replaced(self, review: Review, wanted: Mapping[tuple[str, int], Review]) -> bool:
        return (review.clip_id, review.take) in wanted and review.fingerprint in self._of(review)

    def _checked(self, change: Any) -> Review:
        clip_id, take = change.get("clip_id"), change.get("take")
        verdict, comment = change.get("verdict") or "", change.get("comment") or ""
        if clip_id not in self._marks:
            raise ValueError("there is no such clip in this output: reload the page")
        if not isinstance(take, int) or isinstance(take, bool) or take < 1:
            raise ValueError("a review needs the number of a take")
        if verdict not in ("", *WORDS) or not isinstance(comment, str) or len(comment) > LONGEST_COMMENT:
            raise ValueError(f"a verdict is one of {', '.join(WORDS)}, with at most {LONGEST_COMMENT:,} characters")
        mark = self._marks[clip_id]
        return Review(clip_id, take, verdict, comment, mark_of_take(mark, take) if mark else "")


class ReviewServer(ThreadingHTTPServer):
    """Serves one output until `shutdown`."""

    daemon_threads = True

    def __init__(self, output: str, rows: dict[int, ClipRow], limits: Limits, port: int = 0) -> None:
        """`rows` are those of the output table by their number. Raises OSError if the port is taken."""
        super().__init__(("127.0.0.1", port), _Handler)
        self.output, self.rows, self.limits = output, rows, limits
        self.reviews = Reviews(output, rows)
        self.token = secrets.token_urlsafe(24)

    @property
    def address(self) -> str:
        """What to open in a browser."""
        return f"http://127.0.0.1:{self.server_port}/{self.token}/"


class _Handler(BaseHTTPRequestHandler):
    server: ReviewServer
    _body: bytes | None = None
    server_version, sys_version = "Floatcast", ""
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Answer with the page, a file or the reviews."""
        self._answered(self._get)

    def do_POST(self) -> None:
        """Take reviews."""
        length = self.headers.get("Content-Length", "")
        size = int(length) if length.isdecimal() and len(length) < 16 else -1
        # Read in any case: a browser that is still sending would not see the answer.
        self._body = self.rfile.read(size) if 0 <= size <= LARGEST_BODY else None
        self.close_connection = self._body is None
        self._answered(self._post)

    def log_message(self, format: str, *args: Any) -> None:
        """Print nothing: the terminal belongs to the person who reviews."""

    def _answered(self, answer: Any) -> None:
        try:
            path = self._path()
            if self.path == "/favicon.ico":  # every browser asks for it, and would show an error
                self._send(HTTPStatus.NO_CONTENT, b"")
            elif path is None:
                self._send(HTTPStatus.NOT_FOUND, b"not found")
            else:
                answer(path)
        except (BrokenPipeError, ConnectionResetError):  # a browser that seeks lets go of what it has asked for
            self.close_connection = True
        except FileNotFoundError:
            self._send(HTTPStatus.NOT_FOUND, b"not found")
        except (ValueError, ClipError, StorageError) as error:
            said = said_by_us(error) or "the request cannot be read: load the page again"
            self._send(HTTPStatus.BAD_REQUEST, redacted(said).encode())

    def _path(self) -> str | None:
        """The path below the token; None without the token, or for a name of this machine that is not its own."""
        host = self.headers.get("Host", "")
        ours = host in (f"127.0.0.1:{self.server.server_port}", f"localhost:{self.server.server_port}")
        _, token, path = [*self.path.split("/", 2), ""][:3]
        return path if ours and secrets.compare_digest(token.encode(), self.server.token.encode()) else None

    def _get(self, path: str) -> None:
        url = urlsplit(path)
        folder, _, name = unquote(url.path).rpartition("/")
        if url.path == "reviews":
            reviews = [vars(one) for one in self.server.reviews.all()]
            self._send(HTTPStatus.OK, json.dumps(reviews).encode(), "application/json")
        elif url.path == "portrait":
            self._portrait(parse_qs(url.query))
        elif not folder and (not name or re.fullmatch(r"report[\w.-]*\.html", name)):
            self._page(name or REPORT)
        elif folder in FOLDERS and name and not name.startswith("."):
            self._file(join(self.server.output, folder, name))
        else:
            raise FileNotFoundError(path)

    def _post(self, path: str) -> None:
        known = secrets.compare_digest(self.headers.get("X-Floatcast-Token", "").encode(), self.server.token.encode())
        if path != "reviews" or not known:
            raise FileNotFoundError(path)
        if self._body is None:
            raise ValueError("that is too much at once: choose fewer clips")
        count = self.server.reviews.change(json.loads(self._body))
        self._send(HTTPStatus.OK, json.dumps({"reviews": count}).encode(), "application/json")

    def _page(self, name: str) -> None:
        pages = sorted(n for n in list_folder(self.server.output) if n.startswith("report.") and n.endswith(".html"))
        found = name if name in pages else pages[0] if pages and name == REPORT else ""
        data = read_bytes(join(self.server.output, found)) if found else None
        if data is None:
            raise FileNotFoundError(name)
        head, mark, rest = data.partition(b"<title>")
        head = head.replace(b"default-src 'none'", b"default-src 'none'; connect-src 'self'", 1)
        meta = f'<meta name="floatcast-review" content="{self.server.token}">\n'.encode()
        self._send(HTTPStatus.OK, head + meta + mark + rest, "text/html; charset=utf-8")

    def _portrait(self, query: dict[str, list[str]]) -> None:
        row = self.server.rows.get(int(query.get("row", ["0"])[0]))
        if row is None or not row.get("image"):
            raise FileNotFoundError("portrait")
        data = read_input(row["image"], self.server.limits)
        self._send(HTTPStatus.OK, data, _kind(row["image"]))

    def _file(self, uri: str) -> None:
        size = int(file_info(uri)["size"])
        wanted = _RANGE.fullmatch(self.headers.get("Range", ""))
        first, last = 0, size - 1
        if wanted and any(wanted.groups()):
            begin, end = wanted.groups()
            first = int(begin) if begin else max(0, size - int(end))
            last = min(last, int(end)) if begin and end else last
        if size and first > last:
            self._send(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, b"", more={"Content-Range": f"bytes */{size}"})
            return
        part = {"Content-Range": f"bytes {first}-{last}/{size}"} if wanted else {}
        status = HTTPStatus.PARTIAL_CONTENT if wanted else HTTPStatus.OK
        self._head(status, last - first + 1, _kind(uri), {"Accept-Ranges": "bytes", **part})
        try:
            for chunk in _chunks(uri, first, last + 1):
                self.wfile.write(chunk)
        except Exception:  # of any storage: the answer has begun, so all that can be said is that it ends here
            self.close_connection = True

    def _send(
        self, status: HTTPStatus, data: bytes, kind: str = "text/plain", more: dict[str, str] | None = None
    ) -> None:
        self._head(status, len(data), kind, more or {})
        self.wfile.write(data)

    def _head(self, status: HTTPStatus, size: int, kind: str, more: dict[str, str]) -> None:
        self.send_response(status)
        fixed = {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "Cache-Control": "no-store"}
        for name, value in {"Content-Type": kind, "Content-Length": str(size), **fixed, **more}.items():
            self.send_header(name, value)
        self.end_headers()


def _kind(name: str) -> str:
    return KINDS.get(posixpath.splitext(name)[1].lower(), "application/octet-stream")


def _chunks(uri: str, first: int, end: int) -> Iterator[bytes]:
    fs, path = filesystem(uri)
    for start in range(first, end, CHUNK):
        yield retried(lambda start=start: fs.cat_file(path, start=start, end=min(end, start + CHUNK)))  # type: ignore[misc]


def _listed(changes: Any) -> list[dict[str, Any]]:
    if not isinstance(changes, list) or not all(isinstance(one, dict) for one in changes):
        raise ValueError("reviews are a list of objects")
    return changes


def _as_csv(reviews: list[Review]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(COLUMNS)
    writer.writerows([cell(one.clip_id), one.take, one.verdict, cell(one.comment), one.fingerprint] for one in reviews)
    return text.getvalue().encode()
