"""The server for reviewers: ranges, reviews in review.csv, and nothing for anybody without the token."""

import csv
import http.client
import io
import json
import shutil
import threading
from urllib.parse import urlsplit

import pytest

from pipeline.common.limits import Limits
from pipeline.qc.review import read_reviews
from pipeline.report.review_server import Reviews, ReviewServer
from pipeline.storage import objects
from tests import chromium

CSP = "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; img-src 'self'\">"
VIDEO = bytes(range(256)) * 10_000


@pytest.fixture
def served(output, tmp_path):
    """A server for an output with one video, whose portrait is a page of somebody else."""
    objects.write_bytes(f"<html><head>{CSP}<title>r</title></head><body>".encode(), f"{output}/report.html")
    objects.write_bytes(VIDEO, f"{output}/videos/a b.0123456789ab.mp4")
    objects.write_bytes(b"key", f"{output}/run.lock")
    (tmp_path / "portrait.html").write_text("<script>alert(1)</script>")
    rows = {
        1: {"clip_id": "a", "row": 1, "status": "done", "take": 2, "image": str(tmp_path / "portrait.html")},
        2: {"clip_id": "=b", "row": 2, "status": "done", "take": 1, "image": None},
        3: {"clip_id": "c", "row": 3, "status": "rejected"},
    }
    with ReviewServer(output, rows, Limits()) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def ask(server, path, method="GET", body=None, **headers):
    """(status, headers, body) of a request below the token."""
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port)
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request(method, f"/{server.token}/{path}", body, given)
    answer = connection.getresponse()
    data = answer.read()
    connection.close()
    return answer.status, dict(answer.headers), data


def post(server, changes, **headers):
    return ask(server, "reviews", "POST", json.dumps(changes), X_Floatcast_Token=server.token, **headers)


def test_the_page_gets_the_token_and_may_call_the_server(served):
    status, headers, page = ask(served, "")
    assert (status, headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert f'<meta name="floatcast-review" content="{served.token}">'.encode() in page
    assert b"default-src 'none'; connect-src 'self'; img-src" in page


@pytest.mark.parametrize(
    ("wanted", "status", "part", "told"),
    [
        (None, 200, VIDEO, None),
        ("bytes=10-19", 206, VIDEO[10:20], f"bytes 10-19/{len(VIDEO)}"),
        ("bytes=2000000-", 206, VIDEO[2_000_000:], f"bytes 2000000-{len(VIDEO) - 1}/{len(VIDEO)}"),
        ("bytes=-5", 206, VIDEO[-5:], f"bytes {len(VIDEO) - 5}-{len(VIDEO) - 1}/{len(VIDEO)}"),
        ("bytes=0-99999999", 206, VIDEO, f"bytes 0-{len(VIDEO) - 1}/{len(VIDEO)}"),
        ("bytes=99999999-", 416, b"", f"bytes */{len(VIDEO)}"),
    ],
)
def test_videos_come_in_the_ranges_that_a_browser_asks_for(served, wanted, status, part, told):
    given = {"Range": wanted} if wanted else {}
    found, headers, data = ask(served, "videos/a%20b.0123456789ab.mp4", **given)
    assert (found, data, headers.get("Content-Range")) == (status, part, told)


def test_a_review_is_in_the_file_at_once_and_can_be_taken_back(served):
    changes = [
        {"clip_id": "a", "take": 2, "verdict": "retake", "comment": "=looks away"},
        {"clip_id": "=b", "take": 1, "verdict": "approved", "comment": ""},
    ]
    assert post(served, changes)[0] == 200
    found = read_reviews(f"{served.output}/review.csv")
    assert [(one.take, one.verdict, one.comment) for one in found["a"]] == [(2, "retake", "=looks away")]
    raw = objects.read_bytes(f"{served.output}/review.csv").decode()
    assert list(csv.reader(io.StringIO(raw)))[2][0] == "'=b"  # which a spreadsheet would run
    assert {one["clip_id"] for one in json.loads(ask(served, "reviews")[2])} == {"a", "=b"}
    assert post(served, [{"clip_id": "a", "take": 2, "verdict": None}])[0] == 200
    assert set(read_reviews(f"{served.output}/review.csv")) == {"=b"}


def test_a_review_of_an_earlier_version_is_not_shown_and_stays(served):
    old = {"clip_id": "a", "take": 2, "verdict": "approved"}
    assert post(served, [old])[0] == 200
    served.reviews = Reviews(served.output, {1: served.rows[1] | {"fingerprint": "ba9876543210-2"}})
    assert json.loads(ask(served, "reviews")[2])[0]["fingerprint"] == ""  # as a person writes it: for any version
    assert post(served, [old])[0] == 200
    served.reviews = Reviews(served.output, {1: served.rows[1] | {"fingerprint": "0123456789ab-2"}})
    assert json.loads(ask(served, "reviews")[2]) == []
    assert post(served, [old | {"verdict": "retake"}])[0] == 200
    found = read_reviews(f"{served.output}/review.csv")["a"]
    assert [(one.fingerprint, one.verdict) for one in found] == [
        ("ba9876543210-2", "approved"),
        ("0123456789ab-2", "retake"),
    ]


def test_what_somebody_else_has_written_meanwhile_stays(served):
    objects.write_bytes(b"clip_id,take,verdict,comment\na,1,retake,first take\n", f"{served.output}/review.csv")
    assert post(served, [{"clip_id": "a", "take": 2, "verdict": "approved"}])[0] == 200
    found = read_reviews(f"{served.output}/review.csv")["a"]
    assert [(one.take, one.verdict) for one in found] == [(1, "retake"), (2, "approved")]


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"clip_id": "nobody", "take": 1, "verdict": "approved"}, "no such clip"),
        ({"clip_id": "c", "take": 1, "verdict": "approved"}, "no such clip"),  # it is not done
        ({"clip_id": "a", "take": 0, "verdict": "approved"}, "number of a take"),
        ({"clip_id": "a", "take": True, "verdict": "approved"}, "number of a take"),
        ({"clip_id": "a", "take": 2, "verdict": "fine"}, "approved, retake"),
        ({"clip_id": "a", "take": 2, "verdict": "retake", "comment": "x" * 10_001}, "10,000"),
        ("a", "list of objects"),
    ],
)
def test_what_is_no_review_is_refused_and_nothing_is_written(served, change, problem):
    status, _, data = post(served, [change])
    assert status == 400
    assert problem in data.decode()
    assert objects.read_bytes(f"{served.output}/review.csv") is None


def test_nobody_without_the_token_sees_or_writes_anything(served):
    connection = http.client.HTTPConnection("127.0.0.1", served.server_port)
    for path in ("/", "/report.html", "//", f"/{served.token[:-1]}x/", "/x/videos/a%20b.0123456789ab.mp4"):
        connection.request("GET", path)
        answer = connection.getresponse()
        assert (answer.status, answer.read()) == (404, b"not found")
    change = json.dumps([{"clip_id": "a", "take": 2, "verdict": "approved"}])
    assert ask(served, "reviews", "POST", change)[0] == 404  # as a form of another site could send it
    assert ask(served, "", Host="evil.example")[0] == 404  # a name that was pointed to this machine
    assert objects.read_bytes(f"{served.output}/review.csv") is None


@pytest.mark.parametrize(
    "path", ["run.lock", "done/x.json", "videos/../run.lock", "videos/%2e%2e/run.lock", "videos/.x", "videos/", "../x"]
)
def test_only_the_page_and_what_it_shows_can_be_read(served, path):
    assert ask(served, path)[0] == 404


def test_a_portrait_is_never_a_page_of_this_address(served):
    status, headers, data = ask(served, "portrait?row=1")
    assert (status, headers["Content-Type"], headers["X-Content-Type-Options"]) == (
        *(200, "application/octet-stream"),
        "nosniff",
    )
    assert data.startswith(b"<script>")
    assert ask(served, "portrait?row=2")[0] == 404
    assert ask(served, "portrait?row=x")[0] == 400


@pytest.mark.slow
@pytest.mark.skipif(chromium.NAME is None, reason="no Chromium here: apt-get install chromium")
def test_a_person_reviews_in_a_browser_and_the_file_has_it(rendered_demo, tmp_path):
    from pipeline.ledger.table import table_rows

    output = shutil.copytree(rendered_demo.output, tmp_path / "out")
    rows = {row["row"]: row for row in table_rows(f"{output}/clips.parquet")}
    with ReviewServer(str(output), rows, Limits()) as server, chromium.Browser() as page:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            page.open(server.address)
            page.wait("document.querySelectorAll('tr[data-clip]').length > 1")
            page.run("document.querySelector('tr[data-clip] .open').click()")
            name = page.run("document.querySelector('#p-title').textContent")
            page.wait("document.querySelector('.media video').readyState >= 1")
            page.wait("document.querySelector('.portrait img').naturalWidth > 0")
            page.key("a")
            page.wait("document.querySelector('#marked').textContent.includes('saved in review.csv')")
            assert [one.verdict for one in read_reviews(f"{output}/review.csv")[name]] == ["approved"]
            page.reload()
            page.wait("document.querySelector('#marked').textContent.startsWith('1 approved')")
            assert page.errors == []
        finally:
            server.shutdown()
            thread.join()
    assert urlsplit(server.address).hostname == "127.0.0.1"
