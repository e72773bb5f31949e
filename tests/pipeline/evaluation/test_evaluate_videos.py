"""An evaluation's stages on real videos, without Ray: single videos, pairs, videos side by side."""

from dataclasses import replace
from fractions import Fraction
from functools import partial

import av
import numpy as np
import pytest
import torch
from PIL import Image

from models.pixels import to_tensor
from pipeline.common.errors import ClipError
from pipeline.common.limits import Limits
from pipeline.common.options import SettingError
from pipeline.evaluation.compare import compare
from pipeline.evaluation.comparison import STRIP, ComparisonStage
from pipeline.evaluation.files import RowFile, features, put_features
from pipeline.evaluation.networks import KINDS, Network, Networks, aligned, upright, whole
from pipeline.evaluation.pixel_metrics import luma
from pipeline.evaluation.stage import PairStage, VideoStage
from pipeline.evaluation.systems import distances
from pipeline.evaluation.tables import complete_notes
from pipeline.evaluation.watch import Watcher, probe
from pipeline.face.detector import Face, FaceDetector
from pipeline.measure.loudness import levels
from pipeline.measure.syncnet import SyncNet
from pipeline.measure.video_pass import Frame, decoded
from pipeline.storage.untrusted import input_file
from tests import media, reels
from tests.running import results
from tests.synthetic_videos import FPS, RATE, SIZE, SyntheticVideo, portrait, speech
from tests.toys import exported

pytestmark = pytest.mark.slow  # the videos take some seconds to make

SECONDS = 2.0
SHAPES = {kind.key: kind.shapes[0] for kind in KINDS}


def opening(wave, late=0):
    """Of the mouth, as the video's own, some frames late."""
    frames = -(-len(wave) * FPS // RATE)
    level = np.clip((levels((wave * 2**15).astype(np.int16), FPS, frames) + 50) / 35, 0, 1)
    return np.concatenate([np.full(late, level[0]), level[: frames - late]])


@pytest.fixture(scope="module")
def video_files(tmp_path_factory):
    """One that is real, and others of the same words."""
    torch.set_num_threads(1)  # as the stages do; threads that share cores with others wait for one another
    folder = tmp_path_factory.mktemp("films")
    wave = speech(SECONDS)
    made = {
        "real": SyntheticVideo(wave=wave),
        "late": SyntheticVideo(wave=wave, opening=opening(wave, late=4)),
        "dark": SyntheticVideo(wave=wave, edit=lambda number, picture: (picture * 0.8).astype(np.uint8)),
        "small": SyntheticVideo(wave=wave, size=128),
        "short": SyntheticVideo(wave=wave[: RATE * 8 // 5]),
        "silent": SyntheticVideo(wave=np.zeros_like(wave)),
        "faceless": SyntheticVideo(wave=wave, edit=lambda number, picture: np.full_like(picture, 90)),
    }
    for name, one in made.items():
        one.write(folder / f"{name}.mp4", speed="ultrafast")
    (folder / "text.mp4").write_bytes(media.TEXT)
    (folder / "sound.mp4").write_bytes(media.m4a(*media.speech()))
    return folder


@pytest.fixture(scope="module")
def networks(tmp_path_factory):
    """Toys: means of the colours over the whole picture, of a clip, of the face; the identity has a fourth number."""
    folder = tmp_path_factory.mktemp("networks")
    for key, shape in SHAPES.items():
        (folder / key).write_bytes(exported(shape, one=key == "identity_model", constant=key == "identity_model"))
    return {key: str(folder / key) for key in SHAPES}


@pytest.fixture(scope="module")
def output(tmp_path_factory):
    return str(tmp_path_factory.mktemp("output"))


@pytest.fixture(scope="module")
def videos(video_files, networks, output):
    """Rows of all videos, by name."""
    names = sorted(path.stem for path in video_files.iterdir())
    rows = results(VideoStage(output, networks, Limits()), [{"uri": f"{video_files}/{name}.mp4"} for name in names])
    return dict(zip(names, rows, strict=True))


@pytest.fixture
def pair(video_files, videos, output):
    def pair(generated, reference):
        item = {"row": 1, "system": "ours", "videos": [videos[generated], videos[reference]]}
        item |= {"generated": f"{video_files}/{generated}.mp4", "reference": f"{video_files}/{reference}.mp4"}
        (row,) = results(PairStage(output, Limits()), [item])
        return row

    return pair


# --- Single videos ---------------------------------------------------------------------------------------------


def test_a_video_has_metrics_and_features_of_every_frame(videos, output):
    row = videos["real"]
    frames = round(SECONDS * FPS)
    assert row["status"] == "done"
    metrics = row["figures"]
    assert [metrics[name] for name in ("frames", "fps", "duration", "width", "height")] == [
        *(frames, FPS, SECONDS, SIZE, SIZE)
    ]
    assert metrics["face_share"] == 1
    assert 1 < metrics["motion_range_deg"] < 10
    shapes = {}
    for kind in row["features"]:
        with features(output, row["name"], kind) as kept:
            shapes[kind] = kept.shape
            assert np.isfinite(kept).all()
    assert shapes == {
        "times": (frames,),
        "landmarks": (frames, 468, 2),
        "mouth": (frames,),
        "poses": (frames, 3),
        "inception": (frames, 3),
        "i3d": (frames // 16, 3),
        "identity": (frames, 4),
        "expression": (frames, 3),
        "pose_model": (frames, 3),
    }


def test_features_are_those_of_the_network_on_the_decoded_frames(videos, video_files, output):
    means = [whole(to_tensor(frame.rgb), 299).mean((2, 3))[0].numpy() for frame in decoded(video_files / "real.mp4")]
    with features(output, videos["real"]["name"], "inception") as kept:
        np.testing.assert_allclose(kept, means, atol=1e-5)
    with features(output, videos["real"]["name"], "i3d") as kept:
        clips = np.reshape(means[: 16 * len(kept)], (-1, 16, 3)).mean(1)
        np.testing.assert_allclose(kept, clips, atol=1e-3)  # 224 px instead of 299


@pytest.mark.parametrize(
    ("name", "code", "words"),
    [
        ("text", "video_unreadable", "and not a video"),
        ("sound", "video_unreadable", "no video stream"),
    ],
)
def test_bad_videos_are_rows_with_a_code_and_a_sentence(videos, name, code, words):
    row = videos[name]
    assert (row["status"], row["error_code"]) == ("rejected", code)
    assert words in row["error_message"]


def test_a_video_without_a_face_has_everything_that_needs_none(videos, output):
    row, real = videos["faceless"], videos["real"]
    assert row["status"] == "done"
    figures = row["figures"]
    sizes = ("frames", "fps", "duration", "width", "height")
    assert [figures[name] for name in sizes] == [real["figures"][name] for name in sizes]
    assert (figures["face_share"], figures["motion_range_deg"], figures["pause_motion"]) == (0, None, None)
    why = "face_not_found: none of its 50 frames shows a face"
    assert row["notes"] == [f"motion_range_deg: {why}", f"pause_motion: {why}"]
    assert row["features"] == ["i3d", "inception", "landmarks", "mouth", "times"]
    pairs = [
        {"row": i, "status": "done", "system": "ours", "reference": "real", "generated": name}
        for i, name in enumerate(("faceless", "dark"))
    ]
    found = {result.figure: result for result in distances(pairs, videos, output, {}, seed=0)}
    assert (found["fid"].count, found["fvd"].count) == (100, 6)
    assert found["e_fid"].count == 50
    for figure in ("e_fid", "p_fid", "pose_distance_landmarks"):
        assert found[figure].note.startswith("1 of 2 generated videos show no face (face_not_found)")


def test_a_pair_without_a_face_is_compared_by_its_pictures(pair):
    row = pair("faceless", "real")
    assert row["status"] == "done"
    assert 5 < row["psnr"] < 30
    assert 0 < row["ssim"] < 1
    assert (row["frames_compared"], row["duration_mismatch_s"], row["reference_face_share"]) == (50, 0, 1)
    columns = ("lmd", "m_lmd", "mouth_correlation", "mouth_lag_ms", "csim")
    assert [row[column] for column in columns] == [None] * 5
    why = "face_not_found: no frame of the generated video shows a face"
    assert {f"{column}: {why}" for column in columns} < set(row["notes"])
    assert not any("face_not_found" in note for note in row["notes"] if note.startswith("reference:"))
    without = complete_notes(row, {"csim": "identity_model= was not given"})["notes"]
    assert [note for note in without if note.startswith("csim:")] == ["csim: identity_model= was not given"]
    both = pair("faceless", "faceless")
    assert (both["psnr"], both["ssim"]) == (None, 1)
    assert "lmd: face_not_found: no frame of the generated and of the reference video shows a face" in both["notes"]


def test_a_video_without_sound_that_is_heard_leaves_its_cells_empty_with_a_reason(
    videos, video_files, tmp_path, networks
):
    assert videos["silent"]["figures"]["pause_motion"] is None
    assert videos["silent"]["notes"] == ["pause_motion: there is no pause of 0.5 s with a face"]
    mute = tmp_path / "mute.mp4"
    with av.open(video_files / "real.mp4") as source, av.open(mute, "w") as target:
        copy = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = copy
                target.mux(packet)
    seen = Watcher(Networks({}), Limits()).watch(mute, tmp_path)
    assert seen.metrics["pause_motion"] is None
    assert seen.notes == ["pause_motion: no audio: the file contains no audio stream: export it with audio"]
    assert sorted(seen.features) == ["landmarks", "mouth", "poses", "times"]


def test_sound_counts_from_the_first_frame(tmp_path):
    """A film whose pictures begin later than its sound has the same pauses as the film without what comes before."""
    wave = speech(3.0, pause=(1.0, 2.0))
    pictures = list(SyntheticVideo(wave=wave).pictures())
    times = [Fraction(n, FPS) + Fraction(3, 5) for n in range(len(pictures))]
    early = np.concatenate([speech(0.6), wave])
    paths = [
        reels.write(tmp_path / "right.mp4", pictures, wave),
        reels.write(tmp_path / "early.mp4", pictures, early, times=times),
    ]
    seen = [Watcher(Networks({}), Limits()).watch(path, tmp_path).metrics["pause_motion"] for path in paths]
    assert seen[0] is not None
    assert seen[1] == pytest.approx(seen[0], abs=0.02)


def test_lse_comes_from_syncnet_where_its_weights_are_given(video_files, tmp_path):
    torch.manual_seed(0)
    torch.save(SyncNet().state_dict(), tmp_path / "syncnet.model")
    seen = Watcher(Networks({"syncnet": str(tmp_path / "syncnet.model")}), Limits()).watch(
        video_files / "real.mp4", tmp_path
    )
    assert seen.metrics["lse_d"] > 0
    assert seen.metrics["lse_c"] >= 0
    assert abs(seen.metrics["lse_offset"]) <= 15
    assert seen.notes == ["pause_motion: there is no pause of 0.5 s with a face"]


def test_a_damaged_video_says_how_far_it_was_read(video_files, tmp_path):
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(media.cut((video_files / "real.mp4").read_bytes(), 0.5))  # the index comes first: it opens
    with pytest.raises(ClipError) as caught:
        Watcher(Networks({}), Limits()).watch(cut, tmp_path)
    assert caught.value.code == "video_unreadable"


def test_huge_images_are_refused_by_the_header(video_files):
    with pytest.raises(ClipError, match=r"256 x 256 pixels exceed limits.max_image_megapixels = 0.01"):
        probe(video_files / "real.mp4", replace(Limits(), max_image_megapixels=0.01))


@pytest.mark.parametrize(("uri", "code"), [("none.mp4", "input_not_found"), ("", "input_not_found")])
def test_files_that_do_not_exist(video_files, uri, code):
    with pytest.raises(ClipError) as caught, input_file(f"{video_files}/{uri}", Limits()):
        pass
    assert caught.value.code == code


def test_an_object_is_fetched_and_features_are_kept_in_object_storage(s3, video_files, tmp_path):
    import s3fs  # its credentials come with the fixture

    s3fs.S3FileSystem().put_file(str(video_files / "real.mp4"), f"{s3}/evaluate/real.mp4")
    with input_file(f"{s3}/evaluate/real.mp4", Limits()) as path:
        assert path.read_bytes() == (video_files / "real.mp4").read_bytes()
    assert not path.exists()
    with (
        pytest.raises(ClipError, match=r"more than limits\.max_file_megabytes"),
        input_file(f"{s3}/evaluate/real.mp4", replace(Limits(), max_file_megabytes=0.001)),
    ):
        pass
    rows = RowFile(tmp_path, "mouth")
    rows.add(np.arange(6.0).reshape(3, 2))
    put_features(f"{s3}/evaluation", "video-x", "mouth", rows.save())
    with features(f"{s3}/evaluation", "video-x", "mouth") as kept:
        assert kept.tolist() == [[0, 1], [2, 3], [4, 5]]


# --- Networks --------------------------------------------------------------------------------------------------


def test_what_networks_get_is_cropped_as_documented():
    x = np.tile(np.arange(200, dtype=np.uint8), (100, 1))
    picture = to_tensor(np.stack([x, x, x], axis=-1))
    face = Face((60.0, 30.0, 100.0, 70.0), 1.0, np.zeros((468, 3), np.float32))
    seen = (upright(picture, face, 112)[0, 0, 50] + 1) * 127.5
    wanted = 80 + ((np.arange(112) + 0.5) / 112 - 0.5) * 60 - 0.5  # the face's middle, 1.5 sizes; pixel centres
    np.testing.assert_allclose(seen, wanted, atol=1e-3)
    assert whole(picture, 299).shape == (1, 3, 299, 299)
    found = FaceDetector().detect(portrait())[0]
    large, small = (aligned(to_tensor(portrait()), found, side) for side in (224, 112))
    np.testing.assert_allclose(large.reshape(1, 3, 112, 2, 112, 2).mean((3, 5)), small, atol=0.3)
    assert float((large.reshape(1, 3, 112, 2, 112, 2).mean((3, 5)) - small).abs().mean()) < 0.01


def test_a_network_of_one_image_at_a_time_gives_the_same(networks):
    batch = torch.rand(5, 3, 299, 299)
    many, one = (Network(KINDS[0], exported(SHAPES["inception"], one=one)) for one in (False, True))
    np.testing.assert_allclose(many(batch), one(batch), atol=1e-6)
    assert (many.fixed, one.fixed) == (False, True)


@pytest.mark.parametrize(
    ("key", "file", "words"),
    [
        ("inception", b"weights", "not written by torch.export.save"),
        (
            "i3d",
            lambda: exported((3, 299, 299)),
            r"its input is \(.*, 3, 299, 299\), but it must be \(B,3,16,224,224\)",
        ),
        ("pose_model", lambda: exported((3, 64, 64)), r"must be \(B,3,112,112\) or \(B,3,224,224\)"),
        ("syncnet", b"weights", "does not contain SyncNet's weights"),
        ("expression", None, "does not exist"),
    ],
)
def test_a_file_that_is_no_such_network_is_refused_by_name(tmp_path, key, file, words):
    place = tmp_path / key
    if file is not None:
        place.write_bytes(file() if callable(file) else file)
    with pytest.raises(SettingError, match=words) as caught:
        Networks({key: str(place)})
    assert caught.value.key == key


# --- Pairs -----------------------------------------------------------------------------------------------------


def test_a_video_against_itself_is_perfect(pair):
    row = pair("real", "real")
    assert row["status"] == "done"
    assert row["frames_compared"] == 50
    assert row["psnr"] is None
    assert "psnr: all frames are identical, so it is infinite" in row["notes"]
    assert row["ssim"] == pytest.approx(1)
    assert (row["lmd"], row["m_lmd"], row["duration_mismatch_s"]) == (0, 0, 0)
    assert (row["mouth_correlation"], row["mouth_lag_ms"]) == (pytest.approx(1), 0)
    assert row["csim"] == pytest.approx(1)
    assert row["motion_range_deg"] == row["reference_motion_range_deg"]


def test_a_mouth_that_is_late_is_found_late_and_elsewhere(pair):
    row = pair("late", "real")
    assert row["mouth_lag_ms"] == 160
    assert row["mouth_correlation"] > 0.9
    assert row["m_lmd"] > 2 * pair("dark", "real")["m_lmd"]
    assert row["lmd"] > 0


def test_a_darker_video_has_the_psnr_and_the_csim_of_its_images(pair, video_files, videos, output):
    row = pair("dark", "real")
    ours, theirs = (
        [luma(frame).astype(float) for frame in decoded(video_files / f"{n}.mp4")] for n in ("dark", "real")
    )
    error = np.mean([(a - b) ** 2 for a, b in zip(ours, theirs, strict=True)])
    assert row["psnr"] == pytest.approx(10 * np.log10(255**2 / error), abs=1e-4)
    assert row["mouth_lag_ms"] == 0
    with (
        features(output, videos["dark"]["name"], "identity") as a,
        features(output, videos["real"]["name"], "identity") as b,
    ):
        np.testing.assert_allclose(np.linalg.norm(a, axis=1), 1, atol=1e-5)
        assert row["csim"] == pytest.approx(float((a * b).sum(1).mean()), abs=1e-6)
    assert 0.5 < row["csim"] < 0.999


def test_luma_is_in_full_range():
    for level, wanted in ((16, 0), (235, 255), (126, 128)):
        plane = np.full((24, 16), 128, np.uint8)
        plane[:16] = level
        frame = Frame(0, av.VideoFrame.from_ndarray(plane, format="yuv420p"))
        assert luma(frame).tolist() == np.full((16, 16), wanted).tolist()
        assert luma(frame, (8, 8)).shape == (8, 8)


def test_a_reference_of_another_size_is_resized_and_the_row_says_so(pair):
    row = pair("small", "real")
    assert "psnr, ssim: the reference was resized from 256x256 to 128x128" in row["notes"]
    assert row["ssim"] > 0.8
    assert row["lmd"] < 0.05


def test_different_lengths_are_cut_to_the_shorter_and_noted(pair):
    row = pair("short", "real")
    assert (row["frames"], row["reference_frames"], row["frames_compared"]) == (40, 50, 40)
    assert row["duration_mismatch_s"] == pytest.approx(-0.4)
    assert "the generated video ends sooner: 10 frames of the reference are not compared" in row["notes"]
    assert "the reference ends sooner: only 40 of 50 frames are compared" in pair("real", "short")["notes"]


def test_a_mouth_that_stands_still_has_no_high_correlation(pair):
    assert pair("silent", "real")["mouth_correlation"] < 0.7


def test_a_second_measurement_reads_the_first(pair, videos, video_files, networks, output, monkeypatch):
    first = pair("late", "real")
    monkeypatch.setattr("pipeline.evaluation.stage.compared", None)
    monkeypatch.setattr("pipeline.evaluation.stage.watched", None)
    assert pair("late", "real") == first
    (row,) = results(VideoStage(output, networks, Limits()), [{"uri": f"{video_files}/real.mp4"}])
    assert row == videos["real"]
    other = results(VideoStage(output, {}, Limits()), [{"uri": f"{video_files}/real.mp4"}])  # other networks: anew
    assert other[0]["status"] == "failed"


def test_fid_of_toy_features_is_the_distance_of_their_means_and_spreads(videos, output):
    rows = [{"row": 1, "system": "dark", "generated": "dark", "reference": "real", "status": "done"}]
    found = {r.figure: r for r in distances(rows, videos, output, {}, seed=0)}
    samples = []
    for name in ("real", "dark"):
        with features(output, videos[name]["name"], "inception") as kept:
            samples.append(np.array(kept, dtype=np.float64))
    away = samples[0].mean(0) - samples[1].mean(0)
    one, other = (np.cov(rows, rowvar=False) for rows in samples)
    root = np.sqrt(np.linalg.eigvals(one @ other).real.clip(0)).sum()
    wanted = away @ away + np.trace(one) + np.trace(other) - 2 * root
    assert found["fid"].value == pytest.approx(wanted, rel=1e-6)
    assert found["fid"].value > 0.1
    assert found["fvd"].count == 3
    assert "3 generated samples and 3 real samples for 3 dimensions" in found["fvd"].note
    assert found["pose_distance_landmarks"].value < 0.5


# --- Side by side ----------------------------------------------------------------------------------------------


def comparison(video_files, videos, output, names, **settings):
    tiles = [{"label": name, "uri": f"{video_files}/{name}.mp4", "name": videos[name]["name"]} for name in names]
    item = {"reference": f"{video_files}/{names[0]}.mp4", "tiles": tiles, "file": f"{'-'.join(names)}.mp4"}
    (row,) = results(ComparisonStage(output, 128, Limits()), [item])
    return row


def test_a_side_by_side_video_has_all_tiles_labels_and_the_references_sound(video_files, videos, output):
    row = comparison(video_files, videos, output, ["real", "late", "dark"])
    assert (row["status"], row["frames"], row["notes"]) == ("done", 50, [])
    frames = media.pictures(row["uri"])
    assert frames.shape == (50, 128 + STRIP, 3 * 128, 3)
    tiles = [frames[20, STRIP:, 128 * k : 128 * (k + 1)].astype(float) for k in range(3)]
    shrunk = Image.fromarray(media.pictures(f"{video_files}/real.mp4")[20]).resize((128, 128), Image.Resampling.BOX)
    assert np.abs(tiles[0] - np.asarray(shrunk, float)).mean() < 4
    assert tiles[2].mean() == pytest.approx(0.8 * tiles[0].mean(), rel=0.05)
    for k in range(3):
        strip = frames[20, :STRIP, 128 * k : 128 * (k + 1)]
        assert strip.max() > 200  # letters
        assert np.median(strip) < 40
    with av.open(row["uri"]) as file:
        sound, video = file.streams.audio[0], file.streams.video[0]
        assert (sound.codec_context.name, video.codec_context.name) == ("aac", "h264")
        assert float(sound.duration * sound.time_base) == pytest.approx(SECONDS, abs=0.1)


def test_videos_of_different_length_and_rate_are_cut_and_it_is_noted(video_files, videos, output):
    row = comparison(video_files, videos, output, ["real", "short"])
    assert row["frames"] == 40
    assert row["notes"] == ["cut to 1.60 s, the length of the shortest video"]
    with av.open(row["uri"]) as file:
        sound = file.streams.audio[0]
        assert float(sound.duration * sound.time_base) == pytest.approx(1.6, abs=0.1)


def test_five_tiles_take_two_rows_and_long_names_are_cut(video_files, videos, output):
    names = ["real", "late", "dark", "small", "real"]
    tiles = [
        {"label": f"{n} {'long name ' * 9}", "uri": f"{video_files}/{n}.mp4", "name": videos[n]["name"]} for n in names
    ]
    item = {"reference": "r", "tiles": tiles, "file": "five.mp4"}
    (row,) = results(ComparisonStage(output, 64, Limits()), [item])
    assert media.pictures(row["uri"]).shape == (50, 2 * (64 + STRIP), 4 * 64, 3)


def test_pairs_compare_without_a_stage_too(video_files, videos, output):
    kept = [partial(features, output, videos[name]["name"]) for name in ("late", "real")]
    metrics, notes = compare(
        video_files / "late.mp4", video_files / "real.mp4", *kept, fps=25.0, embedded=(), limits=Limits()
    )
    assert metrics["csim"] is None
    assert metrics["psnr"] > 20
    assert notes == []
