"""A programme in the executors: one work unit, in its order, which a worker that dies does not change."""

import json
import os
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest

from pipeline.cluster.ray_data import RayExecutor
from pipeline.cluster.serial import SerialExecutor
from pipeline.cluster.work_units import Units
from pipeline.common.attempts import PutOff
from pipeline.common.limits import Limits
from pipeline.common.stage import Pool, Resources, Stage
from pipeline.ledger.ledger import Ledger
from pipeline.manifest.reader import read_manifest
from pipeline.render.feature_stage import FeatureStage
from pipeline.render.render_stage import RenderStage
from pipeline.render.settings import EngineSettings, FeatureSettings
from pipeline.run.plan_rows import Identity
from pipeline.run.programmes import Programmes
from tests import media
from tests.pipeline.render.test_full_frames import pasted

VIDEO = media.lossless()


def test_the_clips_of_a_programme_are_one_unit_in_their_order_and_others_are_as_before():
    clips, seconds = list("abcdefgh"), [3.0, 1.0, 2.0, 9.0, 1.0, 1.0, 4.0, 1.0]
    together = {1: ("x", 2), 4: ("x", 0), 6: ("x", 1), 0: ("y", 1), 5: ("y", 0)}
    units = [unit.items for unit in Units(clips, seconds, 2.5, 1, together)]
    assert units == [["e", "g", "b"], ["f", "a"], ["d"], ["c"], ["h"]]
    assert [unit.items for unit in Units(clips, seconds, 2.5)] == [["d"], ["g"], ["a"], ["c"], ["b", "e"], ["f", "h"]]
    assert [unit.items for unit in Units("ab", [1, 1], 9.0, 1, {0: ("x", 1), 1: ("x", 0)})] == [["b", "a"]]
    assert len(Units([], [], 1.0, 1, {})) == 0


class Leaves(Stage):
    """Leaves all items but the first to another worker, as one unit."""

    name, resources = "leaves", Resources()

    def process(self, items):
        yield (items[0], len(items))
        if len(items) > 1:
            yield PutOff(list(items[1:]))


def test_what_is_put_off_together_comes_back_together():
    units = Units(list("abcd"), [1.0] * 4, 9.0)
    assert list(SerialExecutor().run(units, [Pool(Leaves())])) == [("a", 4), ("b", 3), ("c", 2), ("d", 1)]


class Dies(RenderStage):
    """Its first worker dies when the second clip of a programme is done and the third one is under way."""

    def process(self, items):
        for row in super().process(items):
            flag = Path(self.ledger.output) / "died"
            if not isinstance(row, PutOff) and row["clip_id"] == "c1" and not flag.exists():
                flag.touch()
                os._exit(1)
            yield row


@pytest.fixture
def programme(tmp_path):
    """Clips of a programme of four rows, as the plan hands them out."""
    samples, rate = media.speech()
    rows = []
    for number in range(4):
        (tmp_path / f"{number}.wav").write_bytes(media.wav(samples[:, number * 9_001 : (number + 1) * 9_001], rate))
        row = {"clip_id": f"c{number}", "image": str(media.PORTRAIT), "audio": f"{number}.wav", "emotion": "happy"}
        rows.append(row | {"programme": "show", "order": number})
    return planned(tmp_path, rows)


def planned(folder, rows):
    """The clips of rows, those of programmes as the plan hands them out."""
    (folder / "m.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    clips = read_manifest(str(folder / "m.jsonl")).clips
    programmes = Programmes(clips)
    found = programmes.identities(lambda chosen: ((one, Identity(one[1].clip_id, "{}", 1.0)) for one in chosen))
    places = programmes.places
    return [
        replace(c, programme=places[c.row], fingerprint=found[c.row].fingerprint)
        if c.programme
        else replace(c, fingerprint=f"{c.row:012x}")
        for c in clips
    ]


def others(folder):
    """A dialogue, and a row with a preset of its own."""
    pasted(320, 180, ("2022", 10, 20, 140), ("2016", 165, 30, 130)).save(folder / "two.png")
    faces = [{"face": 1, "audio": "0.wav"}, {"face": 2, "audio": "1.wav"}]
    talk = {"clip_id": "talk", "image": "two.png", "frame": "full", "faces": faces, "emotion": "happy"}
    film = {"clip_id": "film", "image": str(media.PORTRAIT), "audio": "2.wav", "preset": "ffv1", "emotion": "sad"}
    return planned(folder, [talk, film])


def pictures(uri):
    """RGB of all frames (T,H,W,3), whatever the file is."""
    with av.open(uri) as file:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)]).astype(int)


@pytest.mark.slow
def test_a_worker_that_dies_in_the_middle_of_a_programme_changes_nothing(local_ray, tiny_model, tmp_path, programme):
    """Beside it a dialogue and a file of another preset are rendered, as they are in one process."""
    together = {i: ("show", i) for i in range(4)}
    units = Units([*programme, *others(tmp_path)], [1.0] * 6, 9.0, 1, together)
    rows = {}
    for name, executor, stage in (("serial", SerialExecutor(), RenderStage), ("ray", RayExecutor(), Dies)):
        ledger, model = Ledger(str(tmp_path / name), "run"), str(tiny_model.path)
        (tmp_path / name).mkdir()
        settings = EngineSettings(device="cpu", num_gpus=0, mode="eager", slots=2)
        features = FeatureStage(model, FeatureSettings(), Limits(), VIDEO, ledger)
        pools = [Pool(features), Pool(stage(model, settings, VIDEO, ledger))]
        rows[name] = {row["clip_id"]: row for row in executor.run(units, pools)}
    assert (tmp_path / "ray" / "died").exists()
    assert len(rows["ray"]) == len(rows["serial"]) == 6
    assert len(json.loads(rows["ray"]["talk"]["faces_animated"])) == 2
    assert (rows["ray"]["film"]["preset"], rows["ray"]["film"]["uri"][-4:]) == ("ffv1", ".mxf")
    for name, row in rows["serial"].items():
        other = rows["ray"][name]
        assert (row["status"], other["status"]) == ("done", "done"), other["error_message"]
        assert [row[column] for column in ("fingerprint", "frames", "continues")] == [
            other[column] for column in ("fingerprint", "frames", "continues")
        ]
        if name in ("talk", "film"):
            assert np.abs(pictures(row["uri"]) - pictures(other["uri"])).max() <= 3  # rounding, and that of colours
            continue
        difference = media.planes(row["uri"]).astype(int) - media.planes(other["uri"])
        assert np.abs(difference).max() <= 1  # of 255: rounding
