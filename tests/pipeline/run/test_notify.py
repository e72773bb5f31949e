"""Events of a run: what is sent, signed and where to; what a bad receiver costs; what the next run sends."""

import base64
import datetime
import json
import re
import shutil
import socket
import ssl
import time
from pathlib import Path

import pytest
import s3fs
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from pipeline.api.rendering import render_dataset
from pipeline.common.errors import ClipError, RefusedError
from pipeline.common.limits import Limits
from pipeline.common.options import SettingError
from pipeline.ledger.clip_row import clip_row, error_row
from pipeline.ledger.ledger import Ledger
from pipeline.manifest.reader import read_manifest
from pipeline.run import notify
from pipeline.run.notify import Notifier, notifying
from pipeline.run.notify_receiver import (
    SECRET,
    Receiver,
    RefusedEventError,
    UnreachableError,
    address_problem,
    read_key,
)
from pipeline.run.notify_settings import NotifySettings
from pipeline.run.run import Run
from pipeline.run.selection import Selection
from pipeline.run.tables import write_tables
from pipeline.storage.run_lock import LockedError
from tests import media
from tests.messages import faults
from tests.receiver import ReceiverServer
from tests.running import run_job
from tests.slow_server import SlowServer

ROOT = Path(__file__).parents[3]
KEY = "a key of a test, which is long"
CLIPS = 3
ALL = ["run.started", "clip.done", "clip.failed", "clip.done", "run.finished"]


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch):
    monkeypatch.setattr(notify, "PAUSE", 0.01)
    monkeypatch.setattr(notify, "LONGEST_PAUSE", 0.05)


def settings(url="https://hooks.example.com/x", **more):
    values = {"allowed_hosts": ["localhost", "hooks.example.com"], "allow_loopback": True, "wait_seconds": 60.0}
    return NotifySettings(url=url, **(values | more))


def receiver(url, **more):
    return Receiver(settings(url, **more), KEY.encode())


def new_run(folder, name="run-1", output=""):
    row = {"image": str(media.PORTRAIT), "audio": str(media.SPEECH)}
    (folder / "m.jsonl").write_text("\n".join(json.dumps(row | {"clip_id": f"c{i}"}) for i in range(CLIPS)))
    ledger = Ledger(output or str(folder / "out"), name)
    return Run(ledger, read_manifest(str(folder / "m.jsonl")), Selection(), Limits(), {})


def rows_of(run, committed=5.0):
    """Rows of all clips; the second one fails."""
    for i, clip in enumerate(run.plan.clips):
        if i == 1:
            yield error_row(clip, ClipError("encode_failed", "the encoder stopped: try again"))
        else:
            yield clip_row(clip) | {"status": "done", "committed": committed, "frames": 25, "duration": 1.0}


def report(folder, to, name="run-1", rows=rows_of, output=""):
    """A run whose clips end in the order of the manifest; returns what is told at its end."""
    run = new_run(folder, name, output)
    with notifying(run, to) as notifier:
        run.make_plan()
        notifier.start()
        run.begin()
        run.collect(rows(run), lambda row: None)
        run.close("finished", 1)
        return notifier.finish()


def unsent(folder):
    file = folder / "out" / "events" / "unsent.jsonl"
    return [json.loads(line)["type"] for line in file.open()] if file.exists() else []


def until(happened):
    """Wait; a minute is more than enough."""
    end = time.monotonic() + 60
    while not happened():
        assert time.monotonic() < end
        time.sleep(0.01)


def delivered(folder):
    return sorted(json.loads(file.read_text())["type"] for file in (folder / "out" / "events").glob("*.json"))


# --- What is sent ----------------------------------------------------------------------------------------------


def test_events_come_in_order_and_say_what_became_of_clips_and_run(tmp_path):
    with ReceiverServer() as server:
        assert report(tmp_path, receiver(server.url)) == ""
    assert server.types == ALL
    assert {one.path for one in server.got} == {"/hook?room=1"}
    started, done, failed, _, finished = (one.event for one in server.got)
    assert started["summary"]["to_render"] == CLIPS
    assert done["clip"]["clip_id"] == "c0"
    assert (done["run"], done["output"]) == ("run-1", str(tmp_path / "out"))
    assert failed["clip"]["error_code"] == "encode_failed"
    assert (finished["summary"]["exit_code"], finished["summary"]["done"], finished["summary"]["failed"]) == (1, 2, 1)
    ids = [one.headers["webhook-id"] for one in server.got]
    assert ids == [one.event["id"] for one in server.got]
    assert len(set(ids)) == len(ids)
    assert delivered(tmp_path) == sorted(ALL)
    assert unsent(tmp_path) == []


def test_the_receiver_of_the_readme_takes_what_is_signed_and_nothing_else(tmp_path):
    section = (ROOT / "jobs" / "README.md").read_text("utf-8").split("\n## Events\n")[1].split("\n## ")[0]
    (code,) = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    names: dict = {}
    exec(code, names)
    verified = names["verified"]
    with ReceiverServer() as server:
        report(tmp_path, receiver(server.url))
    for one in server.got:
        assert verified(one.headers, one.body, KEY.encode()) == one.event
    one = server.got[1]
    old = one.headers | {"webhook-timestamp": str(int(one.headers["webhook-timestamp"]) - 1000)}
    wrong = [
        (one.headers, one.body.replace(b"c0", b"c9"), KEY.encode()),
        (one.headers, one.body, b"another key, as long as it"),
        (one.headers | {"webhook-id": server.got[2].headers["webhook-id"]}, one.body, KEY.encode()),
        (old, one.body, KEY.encode()),
    ]
    for arguments in wrong:
        with pytest.raises(ValueError, match="not sent by our renderer"):
            verified(*arguments)


def test_a_value_that_json_does_not_have_is_null_and_credentials_are_removed(tmp_path):
    def rows(run):
        clip = next(iter(run.plan.clips))
        yield clip_row(clip) | {"status": "done", "tags": {"x": float("nan"), "y": "https://me:pass@h/x"}}

    with ReceiverServer() as server:
        report(tmp_path, receiver(server.url), rows=rows)
    assert server.got[1].event["clip"]["tags"] == {"x": None, "y": "https://***h/x"}


# --- Once, and by which run ------------------------------------------------------------------------------------


def test_an_event_is_tried_again_after_a_500_under_the_same_id(tmp_path):
    with ReceiverServer(lambda event, before: 500 if before < 2 and event["type"] == "clip.failed" else 200) as server:
        assert report(tmp_path, receiver(server.url)) == ""
    assert server.types == [*ALL[:2], *["clip.failed"] * 3, *ALL[3:]]
    assert len({(one.headers["webhook-id"], one.body) for one in server.got[2:5]}) == 1


def test_an_event_that_the_receiver_cannot_take_does_not_hold_up_the_others_and_is_sent_by_the_next_run(tmp_path):
    with ReceiverServer(lambda event, before: 500 if event["type"] == "clip.failed" else 200) as server:
        told = report(tmp_path, receiver(server.url))
    assert told == "1 event was not delivered: localhost answered 500; the next run sends it"
    assert list(dict.fromkeys(server.types)) == ["run.started", "clip.done", "clip.failed", "run.finished"]
    assert unsent(tmp_path) == ["clip.failed"]
    with ReceiverServer() as server:
        assert report(tmp_path, receiver(server.url), "run-2") == ""
    assert server.types == ["clip.failed", "run.started", "clip.failed", "run.finished"]  # c0 and c2 are known
    assert [one.event["run"] for one in server.got] == ["run-1", "run-2", "run-2", "run-2"]
    assert unsent(tmp_path) == []


@pytest.mark.parametrize("status", [302, 400, 401, 410])
def test_a_refused_event_is_not_repeated_in_the_same_run(status, tmp_path):
    with (
        ReceiverServer() as elsewhere,
        ReceiverServer(
            lambda event, before: status if event["type"] == "run.started" else 200, [("Location", elsewhere.url)]
        ) as server,
    ):
        told = report(tmp_path, receiver(server.url))
    assert f"1 event was not delivered: localhost answered {status}" in told
    assert list(faults(told)) == []
    assert server.types == ALL
    assert elsewhere.got == []


def test_a_receiver_that_never_answers_holds_up_nothing_and_the_next_run_sends_everything(tmp_path):
    with SlowServer() as silent:
        url = silent.url.replace("127.0.0.1", "localhost")
        told = report(tmp_path, receiver(url, timeout_seconds=300, wait_seconds=0.0))
    assert told == "5 events were not delivered: localhost did not take them in time; the next run sends them"
    assert unsent(tmp_path) == ALL
    with ReceiverServer() as server:
        assert report(tmp_path, receiver(server.url), "run-2") == ""
        assert server.types == [*ALL, "run.started", "clip.failed", "run.finished"]
        assert report(tmp_path, receiver(server.url), "run-3") == ""
    assert server.types[8:] == ["run.started", "clip.failed", "run.finished"]


def test_nobody_waits_at_the_end_for_a_receiver_that_is_not_there(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    told = report(tmp_path, receiver(f"http://localhost:{port}/", wait_seconds=3600.0))  # longer than a test may take
    assert told == "5 events were not delivered: localhost refused the connection; the next run sends them"


def test_after_a_crash_only_what_was_not_delivered_is_sent(tmp_path):
    run = new_run(tmp_path)
    with ReceiverServer() as server:
        crashed = Notifier(run, receiver(server.url))
        run.make_plan()
        crashed.start()
        run.begin()
        run.on_end(next(iter(rows_of(run))))
        until(lambda: len(delivered(tmp_path)) == 2)
        crashed.abandon()  # which writes nothing
        assert report(tmp_path, receiver(server.url), "run-2") == ""
    assert server.types == ["run.started", "clip.done", *ALL[:1], *ALL[2:]]


def test_a_clip_that_was_rendered_anew_is_told_anew(tmp_path):
    with ReceiverServer() as server:
        report(tmp_path, receiver(server.url))
        report(tmp_path, receiver(server.url), "run-2", rows=lambda run: rows_of(run, committed=6.0))
    assert server.types == ALL * 2


@pytest.mark.slow
def test_an_output_in_object_storage_keeps_events_as_well(tmp_path, s3):
    output = f"{s3}/events-of-a-run"
    with ReceiverServer(lambda event, before: 400 if event["run"] == "run-1" and before == 0 else 200) as server:
        told = report(tmp_path, receiver(server.url), output=output)
        assert told == "5 events were not delivered: localhost answered 400; the next run sends them"
        assert report(tmp_path, receiver(server.url), "run-2", output=output) == ""
    assert server.types == [*ALL, *ALL, "run.started", "clip.failed", "run.finished"]
    assert not s3fs.S3FileSystem().exists(f"{output}/events/unsent.jsonl")


def test_a_clip_that_was_not_tried_has_no_event_and_one_whose_video_is_lost_has_another(tmp_path):
    run = new_run(tmp_path)
    with ReceiverServer() as server, notifying(run, receiver(server.url)) as notifier:
        run.make_plan()
        notifier.start()
        run.begin()
        lost = next(rows_of(run)) | {"uri": run.ledger.video_uri("lost.mp4")}
        run.collect([lost], lambda row: None)
        write_tables(run, "stopped")
        run.close("stopped", 1)
        assert notifier.finish() == ""
    assert server.types == ["run.started", "clip.done", "clip.failed", "run.finished"]
    assert server.got[2].event["clip"]["error_code"] == "video_lost"
    assert server.got[3].event["summary"]["errors"] == {"stopped": 2, "video_lost": 1}


def test_a_run_that_lost_its_output_leaves_the_events_to_the_other_one(tmp_path):
    def lost(run):
        yield next(rows_of(run))
        raise LockedError("another run has taken over the output: wait for it")

    with ReceiverServer(lambda event, before: 500) as server:
        with pytest.raises(LockedError):
            report(tmp_path, receiver(server.url), rows=lost)
        assert unsent(tmp_path) == []


def test_damaged_lines_of_undelivered_events_are_left_out(tmp_path, caplog):
    file = tmp_path / "out" / "events" / "unsent.jsonl"
    file.parent.mkdir(parents=True)
    good = {"id": "a" * 32, "type": "run.finished", "body": '{"type": "run.finished"}'}
    bad = ["{", "[]", "7", json.dumps(good | {"id": "../../x"}), json.dumps(good | {"body": 7}), '{"id": "b"}']
    file.write_text("\n".join([*bad, json.dumps(good)]) + "\n")
    with ReceiverServer() as server:
        assert report(tmp_path, receiver(server.url)) == ""
    assert server.types == ["run.finished", *ALL]
    assert "6 of its lines are damaged" in caplog.text
    file.mkdir()
    with ReceiverServer(lambda event, before: 400) as server:
        report(tmp_path, receiver(server.url), "run-2")
    assert unsent(tmp_path) == ["run.started", "clip.failed", "run.finished"]


# --- Where to --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "more", "says"),
    [
        ("https://evil.example.com/x", {}, "evil.example.com is not among the allowed hosts"),
        ("https://hooks.example.com.evil.org/x", {}, "not among the allowed hosts"),
        ("https://hooks.example.com/x", {"allowed_hosts": []}, "(notify.allowed_hosts): none"),
        ("http://hooks.example.com/x", {}, "https only"),
        ("http://localhost/x", {"allow_loopback": False}, "https only"),
        ("ftp://hooks.example.com/x", {}, "https only"),
        ("https://me:secret@hooks.example.com/x", {}, "contains a user"),
        ("https://hooks.example.com@evil.org/x", {}, "contains a user"),
        ("https://hooks.example.com/x#y", {}, "after #"),
        ("https://hooks.example.com/x y", {}, "%XX"),
        ("https://hooks.example.com:99999/x", {}, "not an address"),
        ("hooks.example.com/x", {}, "not an address"),
        ("https://[::1/x", {}, "not an address"),
        ("https://hööks.example.com/x", {}, "not an address"),
    ],
)
def test_an_address_that_is_not_allowed_is_refused(url, more, says):
    with pytest.raises(SettingError) as refused:
        settings(url, **more)
    assert refused.value.key == "url"
    assert says in refused.value.problem
    assert "secret" not in refused.value.problem
    assert list(faults(f"notify.{refused.value}")) == []


@pytest.mark.parametrize("host", ["*.example.com", "https://a.example.com", "a:443", "a/b", "", 7])
def test_an_allowed_host_is_one_name(host):
    with pytest.raises(SettingError, match=r"^allowed_hosts: .* is not the name of a host"):
        NotifySettings(allowed_hosts=[host])


@pytest.mark.parametrize(
    ("address", "loopback", "private"),
    [
        ("8.8.8.8", "", ""),
        ("2606:4700::1111", "", ""),
        ("127.0.0.1", "", "notify.allow_loopback"),
        ("::1", "", "notify.allow_loopback"),
        ("::ffff:127.0.0.1", "", "notify.allow_loopback"),
        ("10.1.2.3", "notify.allow_private", ""),
        ("192.168.0.1", "notify.allow_private", ""),
        ("fd00::1", "notify.allow_private", ""),
        ("64:ff9b::a00:1", "notify.allow_private", ""),
        ("2002:a00:1::", "notify.allow_private", ""),
        ("100.64.0.1", "notify.allow_private", ""),
        ("169.254.169.254", "never", "never"),
        ("::ffff:169.254.169.254", "never", "never"),
        ("fe80::1%eth0", "never", "never"),
        ("0.0.0.0", "never", "never"),
        ("224.0.0.1", "never", "never"),
        ("255.255.255.255", "never", "never"),
    ],
)
def test_addresses_are_allowed_by_what_they_are(address, loopback, private):
    for wanted, allowed in ((loopback, {"allow_loopback": True}), (private, {"allow_private": True})):
        found = address_problem(address, settings(**({"allow_loopback": False} | allowed)))
        assert wanted in found
        assert bool(wanted) == bool(found)


def test_a_name_is_refused_if_one_of_its_addresses_is_and_is_resolved_once(tmp_path, monkeypatch):
    asked = []

    real = socket.getaddrinfo

    def resolve(host, port, *arguments, **options):
        if host != "localhost":  # an address, which nobody needs to be asked for
            return real(host, port, *arguments, **options)
        asked.append(host)
        found = ["127.0.0.1", "10.0.0.1"] if len(asked) == 1 else ["127.0.0.1"]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in found]

    event = notify.run_event("run.started", new_run(tmp_path))
    with ReceiverServer() as server:
        monkeypatch.setattr(socket, "getaddrinfo", resolve)
        to = receiver(server.url)
        with pytest.raises(RefusedEventError, match=r"localhost has the address 10.0.0.1, which is not public"):
            to.post(event)
        assert server.got == []
        to.post(event)
    assert (server.types, asked) == (["run.started"], ["localhost", "localhost"])


def test_events_go_over_tls_to_a_certificate_that_is_trusted_only(tmp_path, monkeypatch):
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    names = x509.SubjectAlternativeName([x509.DNSName("localhost")])
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(1).add_extension(names, False)
    builder = builder.add_extension(x509.BasicConstraints(True, None), True)
    day = datetime.timedelta(days=1)
    certificate = builder.not_valid_before(now - day).not_valid_after(now + day).sign(key, hashes.SHA256())
    pem, kind = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    (tmp_path / "c.pem").write_bytes(certificate.public_bytes(pem))
    (tmp_path / "k.pem").write_bytes(key.private_bytes(pem, kind, serialization.NoEncryption()))
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(tmp_path / "c.pem", tmp_path / "k.pem")
    event = notify.run_event("run.started", new_run(tmp_path))
    with ReceiverServer(tls=tls) as server:
        with pytest.raises(UnreachableError, match="certificate that is not trusted"):
            receiver(server.url).post(event)
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "c.pem"))
        receiver(server.url).post(event)
        other = f"https://127.0.0.1:{server.port}/"
        with pytest.raises(UnreachableError, match="certificate that is not trusted"):
            receiver(other, allowed_hosts=["127.0.0.1"]).post(event)
    assert server.types == ["run.started"]


# --- The key ---------------------------------------------------------------------------------------------------


def test_the_key_comes_from_the_environment_or_a_file_and_is_in_no_message(tmp_path, monkeypatch):
    monkeypatch.delenv(SECRET, raising=False)
    with pytest.raises(SettingError, match="events need a key"):
        read_key(settings())
    monkeypatch.setenv(SECRET, f" {KEY}\n")
    assert read_key(settings()) == KEY.encode()
    file = tmp_path / "key"
    file.write_text("whsec_" + base64.b64encode(b"0123456789abcdef").decode() + "\n")
    assert read_key(settings(secret_file=str(file))) == b"0123456789abcdef"
    assert KEY not in repr(receiver("https://hooks.example.com/x"))
    for wrong, says in (
        ("short key", "has 9 bytes"),
        ("whsec_!!!!!!!!!!!!!!!!!!!!", "not base64"),
        ("", "has 0 bytes"),
    ):
        file.write_text(wrong)
        with pytest.raises(SettingError, match=says) as refused:
            read_key(settings(secret_file=str(file)))
        assert not wrong or wrong not in str(refused.value)
        assert list(faults(f"notify.{refused.value}")) == []
    with pytest.raises(SettingError, match="this is a key, and not the name of a file") as refused:
        settings(secret_file="whsec_0123456789")
    assert "0123456789" not in str(refused.value)


def test_a_graph_of_ones_own_refuses_events(tmp_path):
    with pytest.raises(RefusedError, match=r"^notify.url: a graph of your own is no run"):
        render_dataset(None, output=tmp_path, notify={"url": "https://localhost/x", "allowed_hosts": ["localhost"]})


# --- The job ---------------------------------------------------------------------------------------------------


def arguments(url, output, manifest, model):
    return [
        *(f"notify.url={url}", "notify.allowed_hosts=[localhost]", "notify.allow_loopback=true"),
        *(f"manifest={manifest}", f"output={output}", f"model={model}", "executor=serial"),
    ]


def test_a_job_sends_events_and_ends_as_without_a_receiver(tmp_path, tiny_model):
    manifest = tmp_path / "m.csv"
    manifest.write_text("clip_id,image,audio,seed\na,p.png,s.wav,x\nb,p.png,s.wav,y\n")
    given = (tmp_path / "out", manifest, tiny_model.path)
    refused = run_job("render", *arguments("http://localhost:1/", *given), **{SECRET: ""})
    assert (refused.returncode, "notify.secret_file: events need a key" in refused.stderr) == (2, True)
    assert not (tmp_path / "out").exists()
    dead = run_job("render", *arguments("http://localhost:1/", *given), **{SECRET: KEY})
    assert dead.returncode == 1
    assert "4 events were not delivered: localhost refused the connection; the next run sends them" in dead.stdout
    with ReceiverServer() as server:
        dry = run_job("render", "--dry-run", *arguments(server.url, *given), **{SECRET: KEY})
        assert (dry.returncode, server.got) == (1, [])
        alive = run_job("render", *arguments(server.url, *given), **{SECRET: KEY})
    assert alive.returncode == 1
    assert "not delivered" not in alive.stdout
    of_one = ["run.started", "clip.rejected", "clip.rejected", "run.finished"]
    assert server.types == [*of_one, "run.started", "run.finished"]
    everything = b"".join(file.read_bytes() for file in (tmp_path / "out").rglob("*") if file.is_file())
    said = dead.stdout + dead.stderr + alive.stdout + alive.stderr
    assert KEY.encode() not in everything
    assert KEY not in said


@pytest.mark.slow
def test_clips_that_were_done_before_are_told_once(tmp_path, rendered_demo, tiny_model):
    shutil.copytree(rendered_demo.output, tmp_path / "out")
    given = (tmp_path / "out", ROOT / "jobs" / "demo" / "manifest.jsonl", tiny_model.path)
    with ReceiverServer() as server:
        first = run_job("render", *arguments(server.url, *given), **{SECRET: KEY})
        clips = [one.event["clip"] for one in server.got if one.event["type"] == "clip.done"]
        count = len(server.got)
        second = run_job("render", *arguments(server.url, *given), **{SECRET: KEY})
    assert first.returncode == second.returncode == rendered_demo.ended.returncode
    lines = (tmp_path / "out" / "clips.csv").read_text("utf-8-sig").count("\n")
    assert len(clips) == lines - 1
    assert all(Path(clip["uri"]).exists() and clip["qc_status"] for clip in clips)
    assert server.types[count:] == ["run.started", "run.finished"]
