"""Every check on videos made for it: one that is right, and one that is wrong in just that way."""

import io
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter

from pipeline.common.limits import Limits
from pipeline.measure import face_track
from pipeline.measure.container import Container
from pipeline.measure.loudness import Sound, levels, measure
from pipeline.measure.metrics import METRICS
from pipeline.measure.video_pass import Delivery, watch
from pipeline.media.audio import load_audio
from pipeline.media.mp4 import write_video
from pipeline.media.slot import Slot
from pipeline.qc import judge as curves_of_judge
from pipeline.qc.judge import Judge
from pipeline.qc.verdict import judge
from tests import media
from tests.pipeline.media.test_sound_reader import two_streams
from tests.synthetic_videos import FPS, RATE, SIZE, SyntheticVideo, planes_of, portrait, speech

pytestmark = pytest.mark.slow  # each test makes and measures a video of seconds


@pytest.fixture(scope="module")
def video_judge():
    return Judge()


@pytest.fixture
def inspect(video_judge, tmp_path):
    def inspect(video, **settings):
        return video_judge.inspect(video.write(tmp_path / "film.mp4", **settings))

    return inspect


@pytest.fixture(scope="module")
def right(video_judge, tmp_path_factory):
    """What is found in a video that is right."""
    return video_judge.inspect(SyntheticVideo().write(tmp_path_factory.mktemp("right") / "film.mp4"))


def reasons(inspection):
    return set(judge(inspection.metrics).reasons)


def test_a_correct_video_passes_and_all_its_metrics_are_measured(right):
    found = right
    assert judge(found.metrics).status == "pass", judge(found.metrics).messages
    networks = {"qc_identity", "qc_dlib_distance", "qc_lse_c", "qc_lse_d", "qc_lse_offset"}
    missing = {f.column for f in METRICS if found.metrics.get(f.column) is None}
    whole = {"qc_seam_visibility", "qc_rim_motion", "qc_upscale", "qc_emotion_span"}  # of full frames, of spans
    assert missing == networks | whole | {"qc_blinks_per_minute"}  # it is too short for blinks
    assert found.labels[0] == "first 0.00 s"
    assert {label.rsplit(" ", 2)[0] for label in found.labels} == {
        *("first", "middle", "largest change", "seam before", "seam after")
    }
    sheet = Image.open(io.BytesIO(found.sheet))
    assert sheet.size == (5 * 160, 160)
    assert len(found.curves["mouth"]) == len(found.curves["speech"]) == 150


def test_frames_dropped_with_their_time_are_missing_and_leave_a_gap(inspect):
    found = inspect(SyntheticVideo(wave=speech(3.0), skip=frozenset({40, 41, 42})))
    assert found.metrics["qc_frames_missing"] == 3
    assert found.metrics["qc_frame_gap_ms"] == pytest.approx(120)
    assert reasons(found) >= {"frames_missing_high", "frame_gap_ms_high"}


def test_a_file_of_another_format_is_reported_in_words(inspect):
    found = inspect(SyntheticVideo(wave=speech(2.0)), fps="30")
    assert "frame rate is 30 instead of 25" in found.notes
    assert "format_faults_high" in reasons(found)


def test_a_profile_that_players_do_not_know_is_a_fault(tmp_path):
    video = SyntheticVideo(wave=speech(0.4))
    delivery = video.write(tmp_path / "film.mp4", crf=1)
    assert faults(delivery) == []
    aac = load_audio(media.wav(video.wave[None]), Limits()).sound
    write_video(map(planes_of, video.pictures()), delivery.path, SIZE, media.lossless(), aac, {})
    assert faults(delivery) == [
        "profile is High 4:4:4 Predictive instead of Constrained Baseline, Baseline, Main or High"
    ]


def faults(delivery):
    container = Container(delivery)
    container.metrics(watch(delivery.path, []))
    return container.faults


@pytest.mark.parametrize("frames", [1, 3, 8, -3])
def test_the_lag_is_found_within_a_frame(inspect, frames):
    wave = speech(4.0)
    found = inspect(SyntheticVideo(wave=wave, delivered=np.roll(wave, frames * RATE // FPS)))
    assert found.metrics["qc_lip_lag_ms"] == pytest.approx(-1000 * frames / FPS, abs=1000 / FPS)
    assert ("lip_lag_ms_low" in reasons(found)) == (frames >= 3)
    assert ("lip_lag_ms_high" in reasons(found)) == (frames <= -3)


def test_a_mouth_that_speaks_other_words_is_seen(right, inspect):
    wave = speech()
    wrong = inspect(SyntheticVideo(wave=wave, delivered=wave[::-1].copy()))
    assert right.metrics["qc_lip_correlation"] > 0.9
    assert wrong.metrics["qc_lip_correlation"] < 0.15
    assert wrong.metrics["qc_lip_lag_ms"] is None
    assert "lip_correlation_low" in reasons(wrong)


@pytest.mark.parametrize("target", [-23.0, -30.0])
def test_loudness_is_measured_in_lufs_and_kept_in_the_delivery(inspect, target):
    wave = speech(2.0)
    wave = wave * 10 ** ((target - measure(media.wav(wave[None], kind="f32")).loudness) / 20)
    kept = inspect(SyntheticVideo(wave=wave))
    assert kept.metrics["qc_loudness_lufs"] == pytest.approx(target, abs=0.1)
    assert kept.metrics["qc_loudness_error_lu"] < 0.1
    quieter = inspect(SyntheticVideo(wave=wave, delivered=wave * 10 ** (-7 / 20)))
    assert quieter.metrics["qc_loudness_error_lu"] == pytest.approx(7, abs=0.1)
    assert "loudness_error_lu_high" in reasons(quieter)


@pytest.mark.parametrize("name", ["speech_en_arctic_a0009", "speech_kokoro_jf", "speech_de_espeak"])
def test_what_the_encoder_fills_up_does_not_count(name):
    data = (media.DEMO / f"{name}.wav").read_bytes()
    source = measure(data)
    delivered = measure(load_audio(data, Limits()).sound)
    assert delivered.seconds == pytest.approx(source.seconds, abs=1e-3)  # MP4 rounds it to milliseconds
    assert delivered.loudness == pytest.approx(source.loudness, abs=0.05)


def test_a_tone_has_the_loudness_and_peak_that_the_standard_says():
    # EBU Tech 3341, case 1: a stereo sine of 1 kHz at -23 dBFS has -23 LUFS.
    wave = media.tone(1000, 20, 48_000, channels=2) * 2 * 10 ** (-23 / 20)
    heard = measure(media.wav(wave, 48_000, kind="s24"))
    assert heard.loudness == pytest.approx(-23, abs=0.1)
    assert heard.true_peak == pytest.approx(-23, abs=0.1)


def test_silence_and_clipping(right, inspect):
    wrong = inspect(SyntheticVideo(wave=speech(7.0, pause=(1.0, 5.5)), opening=np.zeros(175)))
    assert right.metrics["qc_silence_seconds"] == 0
    assert wrong.metrics["qc_silence_seconds"] == pytest.approx(4.5, abs=0.1)
    assert "silence_seconds_high" in reasons(wrong)
    clipped = measure(media.wav((3 * speech()[None]).clip(-1, 1)))
    assert clipped.clipped > 1e-3
    assert measure(media.wav(speech()[None])).clipped == 0


@pytest.mark.parametrize(("frames", "on_length"), [(75, "trim"), (270, "pad")])
def test_a_slot_is_compared_with_its_part_of_the_source_and_what_fills_it_is_no_hole(frames, on_length, tmp_path):
    source = media.wav(np.concatenate([speech(3.0), 0.4 * speech(3.0)])[None])
    slot, fps = Slot(frames, Fraction(FPS), on_length), Fraction(FPS)
    path = tmp_path / "a.mp4"
    path.write_bytes(load_audio(source, Limits(), slot=slot).sound)
    kept = Sound(Delivery(path, fps, frames, SIZE, source, slot=slot, heard=6.0)).metrics()
    assert kept["qc_loudness_error_lu"] < 0.1
    assert kept["qc_silence_seconds"] < 1
    unaware = Sound(Delivery(path, fps, frames, SIZE, source)).metrics()
    if on_length == "trim":
        assert unaware["qc_loudness_error_lu"] > 0.5
    else:
        assert unaware["qc_silence_seconds"] == pytest.approx(270 / FPS - 6, abs=0.2)


def test_the_source_is_the_stream_that_the_row_names(tmp_path):
    source = two_streams(media.tone(400, 1.0, 48_000), 0.2 * media.tone(800, 1.0, 48_000))
    path = tmp_path / "a.mp4"
    path.write_bytes(load_audio(source, Limits(), wanted="2").sound)
    right, wrong = (Delivery(path, Fraction(FPS), 25, SIZE, source, audio_stream=number) for number in ("2", "1"))
    assert Sound(right).metrics()["qc_loudness_error_lu"] < 0.1
    assert Sound(wrong).metrics()["qc_loudness_error_lu"] > 10


@pytest.mark.parametrize("seed", range(12))
def test_the_longest_silence_is_the_one_that_is_there(seed):
    rng = np.random.default_rng(seed)
    rate = int(rng.choice([8_000, 16_000, 22_050, 44_100, 48_000]))
    noise = 0.1 * rng.standard_normal((int(rng.integers(1, 3)), 8 * rate)).clip(-3, 3)
    longest = 0.0
    for start in (1.0 + rng.random(), 4.5 + rng.random()):
        length = rng.uniform(0.31, 2.0)
        noise[:, round(start * rate) : round((start + length) * rate)] = 0
        longest = max(longest, length)
    if seed % 3 == 0:  # up to the end
        noise[:, round(4.4 * rate) :] = 0
        longest = 3.6
    assert measure(media.wav(noise, rate)).silence == pytest.approx(longest, abs=0.01)


def test_silence_that_is_too_short_to_count_is_none():
    wave = 0.1 * np.ones((1, 32_000)) * np.sign(np.sin(np.arange(32_000)))
    wave[:, 8_000:12_000] = 0
    assert measure(media.wav(wave)).silence == 0


def test_levels_and_peaks_are_those_of_the_samples():
    """Each figure of the chain of filters against one that is computed."""
    rng = np.random.default_rng(1)
    wave = 0.05 * rng.standard_normal((2, 5 * 48_000))
    wave[1] *= 2
    heard = measure(media.wav(wave.clip(-1, 1), 48_000, kind="f32"))
    # BS.1770-5: the first stage of K-weighting (a shelf of 4 dB above 2 kHz) and the second (a high-pass at 38 Hz).
    turn = np.exp(-2j * np.pi * np.arange(1, 24_001) / 48_000)
    powers = np.stack([turn**0, turn, turn**2])
    shelf = [1.53512485958697, -2.69169618940638, 1.19839281085285] @ powers
    shelf /= [1.0, -1.69065929318241, 0.73248077421585] @ powers
    high = [1.0, -2.0, 1.0] @ powers / ([1.0, -1.99004745483398, 0.99007225036621] @ powers)
    gain = (np.abs(shelf * high) ** 2).mean()
    expected = 10 * np.log10((wave**2).mean(axis=1).sum() * gain) - 0.691
    assert heard.loudness == pytest.approx(expected, abs=0.1)
    assert heard.true_peak >= 20 * np.log10(np.abs(wave).max()) - 0.05
    assert heard.true_peak == pytest.approx(20 * np.log10(np.abs(wave).max()), abs=1.5)


def test_samples_in_a_wrong_scale_fail():
    assert judge({"qc_true_peak_dbtp": 86.0, "audio_duration": 2.0}).status == "fail"
    assert judge({"qc_true_peak_dbtp": 3.0, "audio_duration": 2.0}).status == "review"


def test_a_source_that_is_no_sound_is_blamed_and_not_the_delivery(video_judge, tmp_path):
    delivery = replace(SyntheticVideo(wave=speech(2.0)).write(tmp_path / "film.mp4"), source=media.TEXT)
    found = video_judge.inspect(delivery)
    assert found.notes[0].startswith("the source cannot be decoded, so it is not compared: the file cannot be read")
    assert found.metrics["qc_loudness_error_lu"] is None
    assert found.metrics["qc_frames_missing"] == 0


def test_a_frozen_second(inspect):
    held = []

    def freeze(number, picture):
        if number == 20:
            held.append(picture)
        return held[0] if 20 <= number < 46 else picture

    found = inspect(SyntheticVideo(wave=speech(3.0), edit=freeze))
    assert found.metrics["qc_frozen_seconds"] == pytest.approx(1.0, abs=0.08)
    assert "frozen_seconds_high" in reasons(found)


def test_a_black_half_second_at_the_end_too(inspect):
    for first in (30, 62):

        def black(number, picture, first=first):
            return picture * (not first <= number < first + 13)

        found = inspect(SyntheticVideo(wave=speech(3.0), edit=black))
        assert found.metrics["qc_black_seconds"] == pytest.approx(0.52, abs=0.01)
        assert "black_seconds_high" in reasons(found)


def test_blur_and_flicker(inspect):
    def soft(number, picture):
        return np.array(Image.fromarray(picture).filter(ImageFilter.GaussianBlur(2)))

    blurred = inspect(SyntheticVideo(wave=speech(3.0), edit=soft))
    assert "blur_high" in reasons(blurred)
    flickering = inspect(SyntheticVideo(edit=lambda n, p: (p * (0.98 if n % 2 else 1.0)).astype(np.uint8)))
    assert reasons(flickering) == {"flicker_high"}


def test_a_face_that_is_missing_is_the_worst_frame(inspect):
    hair = np.array(Image.fromarray(portrait()[10:60, 120:170]).resize((SIZE, SIZE)))
    found = inspect(SyntheticVideo(edit=lambda n, picture: hair if 60 <= n < 80 else picture))
    # It is looked for again every fifth frame.
    assert found.metrics["qc_face_share"] == pytest.approx(130 / 150, abs=4 / 150)
    assert "face_share_low" in reasons(found)
    assert "no face 2.40 s" in found.labels


def test_a_jump_at_a_border_of_windows_and_none_inside(inspect):
    def jump(at):
        return SyntheticVideo(
            wave=speech(4.0), edit=lambda n, picture: np.roll(picture, 8, axis=1) if n >= at else picture
        )

    assert "seam_z_high" in reasons(inspect(jump(50)))
    assert "seam_z_high" not in reasons(inspect(jump(65)))


def test_a_mouth_that_moves_in_silence(inspect):
    whole, paused = speech(), speech(pause=(2.0, 3.2))
    moving = np.clip((levels((whole * 2**15).astype(np.int16), FPS, 150) + 50) / 35, 0, 1)
    resting = inspect(SyntheticVideo(wave=paused))
    speaking = inspect(SyntheticVideo(wave=paused, opening=moving))
    assert resting.metrics["qc_pause_motion"] < 0.4
    assert "pause_motion_high" in reasons(speaking)


def test_a_head_that_shakes_and_one_that_drifts_away(inspect):
    grey = (200, 195, 200)

    def lean(degrees, seconds=6.0):
        def turned(number, picture):
            return np.array(Image.fromarray(picture).rotate(degrees(number), fillcolor=grey))

        return SyntheticVideo(wave=speech(seconds), edit=turned)

    shaking = inspect(lean(lambda n: 10 * np.sin(n * 4 * np.pi / FPS), 3.0))
    assert "jerk_high" in reasons(shaking)
    drifting = inspect(lean(lambda n: 35 * n / 150))
    assert drifting.metrics["qc_drift_deg"] == pytest.approx(29, abs=4)  # the mean of the last two seconds
    assert {"drift_deg_high", "roll_deg_high"} <= reasons(drifting)


class Thumbnail(torch.nn.Module):
    """Stands for an embedding: 8 x 8 pixels without their mean."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        small = torch.nn.functional.interpolate(x, [8, 8], mode="area")
        return (small - small.mean()).flatten(1)


def test_another_identity_spliced_in(tmp_path):
    torch.export.save(torch.export.export(Thumbnail(), (torch.zeros(1, 3, 112, 112),)), tmp_path / "embed.pt2")
    video_judge = Judge(identity_model=(tmp_path / "embed.pt2").read_bytes())

    def other(number, picture):  # another complexion, hair and light
        return 255 - picture[..., ::-1] // 2 if 30 <= number < 60 else picture

    wave = speech(3.0)
    right = video_judge.inspect(SyntheticVideo(wave=wave).write(tmp_path / "right.mp4"))
    wrong = video_judge.inspect(SyntheticVideo(wave=wave, edit=other).write(tmp_path / "wrong.mp4"))
    assert right.metrics["qc_identity"] > 0.8
    assert wrong.metrics["qc_identity"] < 0.3
    assert "identity_low" in reasons(wrong)


def test_a_source_that_is_missing_is_not_compared(video_judge, tmp_path):
    delivery = replace(SyntheticVideo(wave=speech(2.0)).write(tmp_path / "film.mp4"), source=None, portrait=None)
    found = video_judge.inspect(delivery)
    assert found.metrics["qc_loudness_error_lu"] is None
    assert found.metrics["qc_drift_deg"] is None
    assert found.metrics["qc_loudness_lufs"] is not None


def test_a_long_curve_is_thinned_and_a_long_clip_blinks(video_judge, tmp_path, monkeypatch):
    """Here 5 s are long."""
    monkeypatch.setattr(curves_of_judge, "POINTS", 60)
    monkeypatch.setattr(face_track, "ENOUGH_SECONDS", 5.0)
    video = SyntheticVideo(wave=speech(5.2), size=128)
    found = video_judge.inspect(video.write(tmp_path / "film.mp4"))
    assert len(found.curves["mouth"]) == 44  # of 130 frames, three at a time
    assert found.curves["rate"] == 8.3333
    assert found.metrics["qc_blinks_per_minute"] == 0
    assert "blinks_per_minute_low" in reasons(found)
