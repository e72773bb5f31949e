"""`python -m jobs.research.corpus` as a person runs it: videos, their truth, and what jobs.prepare makes of them."""

import csv

import av
import numpy as np
import pyarrow.parquet as pq
import pytest

from pipeline.research.corpus.stage import VERSION, CorpusSettings
from pipeline.research.speech_encoders.corpus import read_corpus
from pipeline.run.fingerprint import fingerprint
from pipeline.training_data.settings import SplitSettings
from pipeline.training_data.videos import read_source
from tests import media
from tests.running import run_job

SMALL = ("corpus.clips=1", "corpus.size=128", "corpus.sentences=1", "corpus.languages=[en,de]", "workers=1")


def truth(output, number):
    return pq.read_table(output / "truth" / f"speaker-{number:05d}.parquet").to_pylist()


@pytest.mark.slow
def test_a_corpus_grows_by_what_is_new_and_can_be_prepared(tmp_path, opengl, local_ray):
    output = tmp_path / "my corpus"
    done = run_job("research.corpus", f"output={output}", *SMALL, "corpus.speakers=1", "executor=serial")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 speakers to generate, 0 done before" in done.stdout
    before = {file: file.stat().st_mtime_ns for file in output.rglob("*.mp4")}
    more = run_job("research.corpus", f"output={output}", *SMALL, "corpus.speakers=2", "executor=serial")
    assert more.returncode == 0, more.stdout + more.stderr
    assert "1 speakers to generate, 1 done before" in more.stdout
    assert {file: file.stat().st_mtime_ns for file in before} == before
    rows = list(csv.DictReader((output / "corpus.csv").open()))
    assert [(row["speaker"], row["language"]) for row in rows] == [("speaker-00000", "en"), ("speaker-00001", "de")]
    for number, row in enumerate(rows):
        [known] = truth(output, number)
        frames = known["frames"]
        pictures = media.pictures(row["video"])
        assert pictures.shape == (frames, 128, 128, 3)
        assert np.abs(np.diff(pictures.astype(int), axis=0)).mean() > 0.1  # it moves
        with av.open(row["video"]) as file:
            sound = sum(frame.samples for frame in file.decode(audio=0)) / file.streams.audio[0].rate
        assert sound == pytest.approx(frames / 25, abs=0.2)
        units = np.frombuffer(known["action_units"], np.float32).reshape(frames, 52)
        assert 0 <= units.min() < units.max() <= 1
        boxes = np.frombuffer(known["components"], np.float32).reshape(frames, 3, 4)
        assert (boxes[..., 2:] > boxes[..., :2]).all()
        assert np.frombuffer(known["pose"], np.float32).reshape(frames, 6).std(0).max() > 0
        assert known["phonemes"][-1]["end"] <= frames / 25 + 0.01
        assert known["emotion"] == row["emotion"]
    again = run_job("research.corpus", f"output={tmp_path / 'again'}", *SMALL, "corpus.speakers=1", "executor=ray")
    assert again.returncode == 0, again.stdout + again.stderr
    assert truth(tmp_path / "again", 0) == truth(output, 0)  # the same seeds, the same person and words, on Ray too
    assert len(read_source(str(output / "corpus.csv"))) == 2
    keys = [f"source={output / 'corpus.csv'}", f"output={tmp_path / 'data'}", "clips.size=64", "clips.min_face=40"]
    prepared = run_job("prepare", *keys, "clips.min_seconds=1.5", "executor=serial")
    assert prepared.returncode == 0, prepared.stdout + prepared.stderr
    accepted = [row for row in pq.read_table(tmp_path / "data" / "samples.parquet").to_pylist() if not row["reason"]]
    assert len(accepted) >= 2


def test_what_cannot_be_generated_is_refused(tmp_path):
    for key, said in [
        ("corpus.size=100", "100 is not one of"),
        ("corpus.languages=[xx]", "xx"),
        ("corpus.stills=4", "4 is below 10"),
        ("corpus.voices=[xx]", "choose from joe, kokoro"),
        ("output=", "output: give a folder"),
    ]:
        done = run_job("research.corpus", f"output={tmp_path}", key)
        assert done.returncode == 2, done.stdout + done.stderr
        assert said in done.stderr


def test_speech_alone_is_a_corpus_for_the_speech_encoders(tmp_path):
    keys = ("corpus.clips=1", "corpus.sentences=1", "corpus.languages=[en,de]", "workers=1", "executor=serial")
    asked = (*keys, "corpus.pictures=false", "corpus.speakers=3", "corpus.shuffled=0.5")
    done = run_job("research.corpus", f"output={tmp_path}", *asked)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "jobs.research.encoders" in done.stdout
    assert not (tmp_path / "videos").exists()
    assert not (tmp_path / "sheet.jpg").exists()
    corpus = read_corpus(str(tmp_path), SplitSettings(validation=0.4))
    clips = [*corpus.train, *corpus.held_out]
    assert {clip.voice for clip in clips} == {"espeak"}
    for clip in clips:
        [known] = truth(tmp_path, int(clip.speaker[-5:]))
        assert len(clip.wave) == 640 * known["frames"]
        loud = np.abs(clip.wave.astype(float)).reshape(-1, 640).mean(1)
        assert loud[: int(known["phonemes"][0]["end"] * 25)].max() < 0.3 * np.percentile(loud, 90)


def test_settings_that_are_not_used_leave_an_older_corpus_valid():
    known = ("clips", "sentences", "size", "languages", "seed")
    older = {name: getattr(CorpusSettings(), name) for name in known}
    speech = CorpusSettings(pictures=False)
    assert speech.fingerprint() == fingerprint(older | {"pictures": False, "version": VERSION})
    assert CorpusSettings(natural=0.5).fingerprint() != CorpusSettings().fingerprint()
    assert CorpusSettings(pictures=False).fingerprint() != CorpusSettings().fingerprint()
