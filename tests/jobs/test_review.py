"""`jobs.review` as a person starts it: an address, the page, Ctrl-C, and what to do next."""

import json
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from pipeline.ledger.table import RowSpool, write_table
from tests.running import run_job

ROOT = Path(__file__).parents[2]


@pytest.fixture
def finished(tmp_path):
    out = tmp_path / "out"
    (out / "done").mkdir(parents=True)
    write_table(RowSpool([{"clip_id": "a", "row": 1, "status": "done", "take": 1}]), str(out))
    (out / "report.html").write_text("<html><head><title>report</title></head></html>")
    return out


@pytest.mark.slow
def test_it_prints_an_address_takes_reviews_and_ends_with_ctrl_c(finished):
    command = [sys.executable, "-m", "jobs.review", f"output={finished}", "browser=false"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as job:
        address = re.fullmatch(r"open (http://127\.0\.0\.1:\d+/(.+)/)\n", job.stdout.readline())
        page = urllib.request.urlopen(address[1]).read().decode()
        assert f'content="{address[2]}"' in page
        body = json.dumps([{"clip_id": "a", "take": 1, "verdict": "retake", "comment": "blinks"}]).encode()
        headers = {"X-Floatcast-Token": address[2], "Content-Type": "application/json"}
        urllib.request.urlopen(urllib.request.Request(f"{address[1]}reviews", body, headers)).read()
        job.send_signal(signal.SIGINT)
        told = job.stdout.read()
    assert job.returncode == 0
    assert "1 reviews (1 more than before), 1 of them ask for a retake" in told
    assert "run the render command again to render the retakes" in told
    assert "a,1,retake,blinks" in (finished / "review.csv").read_text()


def test_an_output_without_a_report_and_a_port_that_is_taken_are_refused(finished):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        refused = run_job("review", f"output={finished}", f"port={taken.getsockname()[1]}")
    assert refused.returncode == 2
    assert "port: " in refused.stderr
    (finished / "report.html").unlink()
    refused = run_job("review", f"output={finished}")
    assert refused.returncode == 2
    assert "run jobs.report on it first" in refused.stderr
