"""The generated corpus without its pictures: what is said, how it sounds, and how the face moves with it."""

# Letters of the IPA look like others, and are meant.
# ruff: noqa: RUF001

import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from anny.models.facial_actions import FACIAL_ACTION_LABELS

from models import EMOTIONS, SAMPLE_RATE
from pipeline.measure.lip_correlation import correlation
from pipeline.research.corpus.expression import EXPRESSIONS
from pipeline.research.corpus.motion import (
    GAZE_LIMIT,
    POSE_LIMITS,
    FaceMotion,
    different_frames,
    draw_habits,
    move,
)
from pipeline.research.corpus.prosody import levels, pitches
from pipeline.research.corpus.room import Room, draw_room, record
from pipeline.research.corpus.sentences import MONTHS, SENTENCES, TEMPLATES
from pipeline.research.corpus.text import draw_text
from pipeline.research.corpus.units import ARKIT, columns
from pipeline.research.corpus.visemes import MouthStyle, letters, lip_closure, mouth_curves
from pipeline.research.corpus.voice import (
    LANGUAGES,
    MANNERS,
    PAUSE,
    VARIANTS,
    Phoneme,
    Utterance,
    Voice,
    _paths,
    draw_voice,
    speak,
)

TEXT = "Papa may help Bob move the big boat. We saw a few more people by the sea."


def curve(units, name):
    return units[:, columns(name)].mean(1)


def at(seconds):
    """The frame that shows a time."""
    return int(seconds * 25)


# --- Text ------------------------------------------------------------------------------------------------------


def test_every_language_has_sentences_templates_and_twelve_months():
    assert set(SENTENCES) == set(TEMPLATES) == set(MONTHS) == set(LANGUAGES)
    assert len(SENTENCES["en"]) >= 40
    assert all(len(set(texts)) == len(texts) >= 20 for texts in SENTENCES.values())
    assert all(len(months.split()) == 12 for months in MONTHS.values())


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_thousand_seeds_give_hundreds_of_different_texts_without_open_gaps(language):
    texts = [draw_text(language, seed) for seed in range(1000)]
    assert texts == [draw_text(language, seed) for seed in range(1000)]
    assert len(set(texts)) > 600
    assert not any("{" in text for text in texts)


def test_text_in_an_unknown_language_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="en, de, es"):
        draw_text("tlh", 0)


# --- Voice -----------------------------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_wave_whatever_was_said_before():
    voice = draw_voice("en", 5)
    first = speak(TEXT, voice, seed=1)
    speak("Etwas ganz anderes.", draw_voice("de", 2))
    again = speak(TEXT, voice, seed=1)
    assert first.wave.tobytes() == again.wave.tobytes()
    assert first.phonemes == again.phonemes


def test_threads_that_speak_at_once_do_not_disturb_one_another():
    tasks = [(draw_text(language, 3), draw_voice(language, 3)) for language in ("en", "ko", "fr", "it")]
    alone = [speak(*task).wave.tobytes() for task in tasks]
    with ThreadPoolExecutor(4) as threads:
        assert [u.wave.tobytes() for u in threads.map(lambda task: speak(*task), tasks)] == alone


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_accent_of_a_language_speaks_with_ordered_phoneme_times_that_all_have_mouth_shapes(language):
    for seed, accent in enumerate(LANGUAGES[language]):
        said = speak(draw_text(language, seed), Voice(language=language, accent=accent))
        seconds = len(said.wave) / SAMPLE_RATE
        assert said.wave.dtype == np.float32
        assert len(said.wave) == said.frames * 640
        assert 2 < seconds < 15
        assert levels(said.wave).max() > -35
        assert said.phonemes[0].start == 0
        assert said.phonemes[-1].end == pytest.approx(seconds)
        assert all(p.end > p.start for p in said.phonemes)
        assert all(a.end == b.start for a, b in zip(said.phonemes, said.phonemes[1:], strict=False))
        assert sum(bool(letters(p.symbol)) for p in said.phonemes) > 15


def test_sound_is_where_the_phonemes_are_and_silence_where_the_pauses_are():
    said = speak("One. Two. Three. Four.", Voice(accent="en-us"))
    loud = levels(said.wave)
    vowels = [loud[at((p.start + p.end) / 2)] for p in said.phonemes if "ˈ" in p.symbol]
    pauses = [loud[at((p.start + p.end) / 2)] for p in said.phonemes if p.symbol == PAUSE and p.end - p.start > 0.1]
    assert len(vowels) == 4
    assert len(pauses) >= 4
    assert min(vowels) > max(pauses) + 20


def test_speakers_from_seeds_differ_and_stay_themselves():
    voices = [draw_voice("es", seed) for seed in range(50)]
    assert voices == [draw_voice("es", seed) for seed in range(50)]
    assert len(set(voices)) == 50
    assert {v.variant for v in voices} == set(VARIANTS)


def test_a_shorter_vocal_tract_raises_the_pitch_and_keeps_the_speed():
    long, short = (speak(TEXT, Voice(accent="en-us", tract=tract)) for tract in (0.92, 1.08))
    ratio = np.nanmedian(pitches(short.wave)) / np.nanmedian(pitches(long.wave))
    assert ratio == pytest.approx(1.08 / 0.92, rel=0.04)
    assert short.frames == pytest.approx(long.frames, rel=0.05)


@pytest.mark.parametrize("variant", ["m1", "f2"])
def test_emotions_change_pitch_speed_and_level_in_the_documented_directions(variant):
    voice = Voice(accent="en-us", variant=variant)
    said = {emotion: speak(TEXT, voice, emotion=emotion) for emotion in EMOTIONS}
    plain = said["neutral"]
    for emotion in set(EMOTIONS) - {"neutral"}:
        manner, one = MANNERS[emotion], said[emotion]
        semitones = 12 * np.log2(np.nanmedian(pitches(one.wave)) / np.nanmedian(pitches(plain.wave)))
        louder = np.percentile(levels(one.wave), 90) - np.percentile(levels(plain.wave), 90)
        assert semitones == pytest.approx(manner.pitch, abs=2.3)
        assert np.sign(semitones) == np.sign(manner.pitch)
        assert louder == pytest.approx(manner.level, abs=2.3)
        assert np.sign(louder) == np.sign(manner.level)
        assert np.sign(plain.frames - one.frames) == np.sign(np.log(manner.rate))


def test_half_of_an_emotion_is_between_none_and_all_of_it():
    heights = [np.nanmedian(pitches(speak(TEXT, Voice(), emotion="surprise", intensity=i).wave)) for i in (0, 0.5, 1)]
    assert heights[0] < heights[1] < heights[2]
    assert speak(TEXT, Voice(), emotion="happy", intensity=0).wave.tobytes() == speak(TEXT, Voice()).wave.tobytes()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"voice": Voice(language="tlh")}, "language must be one of"),
        ({"voice": Voice(accent="en-zz")}, "accent and variant must be one of"),
        ({"emotion": "bored"}, "emotion must be one of angry"),
        ({"intensity": 2.0}, "intensity must be 0 to 1"),
        ({"text": ""}, "nothing to say"),
        ({"text": "..."}, "nothing to say"),
    ],
)
def test_what_cannot_be_spoken_is_refused_with_a_reason(change, message):
    arguments = {"text": "Hello.", "voice": Voice()} | change
    with pytest.raises(ValueError, match=message):
        speak(arguments.pop("text"), arguments.pop("voice"), **arguments)


def test_without_the_package_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)
    monkeypatch.setattr("pipeline.research.corpus.voice._paths", _paths.__wrapped__)  # another test may have found it
    with pytest.raises(ImportError, match=r"floatcast\[corpus\]"):
        speak("Hello.", Voice())


# --- Room ------------------------------------------------------------------------------------------------------


def tone_between_silences():
    """1 s of 200 Hz from 1 s to 2 s of 3 s."""
    time = np.arange(3 * SAMPLE_RATE) / SAMPLE_RATE
    return (0.5 * np.sin(2 * np.pi * 200 * time) * ((time >= 1) & (time < 2))).astype(np.float32)


def test_a_room_adds_noise_at_its_ratio_and_an_echo_that_decays_at_its_time():
    quiet = levels(record(tone_between_silences(), Room(reverberation=0.3, snr_db=30, slope=0)))
    assert quiet[5:20].mean() == pytest.approx(levels(tone_between_silences())[30] - 30, abs=1)
    echo = levels(record(tone_between_silences(), Room(reverberation=0.5, direct_db=6, snr_db=120)))
    # 60 dB in 0.5 s: 24 dB from 0.1 to 0.3 s after the end of the tone
    assert echo[at(2.1)] - echo[at(2.3)] == pytest.approx(24, abs=5)
    assert echo[10] < -75


def test_recordings_from_the_same_seed_are_the_same_and_never_clipped():
    wave = tone_between_silences()
    for seed in range(20):
        heard = record(wave, draw_room(seed), seed)
        assert heard.tobytes() == record(wave, draw_room(seed), seed).tobytes()
        assert heard.shape == wave.shape
        assert heard.dtype == np.float32
        assert np.abs(heard).max() <= 0.991
    assert record(wave, Room(), 1).tobytes() != record(wave, Room(), 2).tobytes()


def test_pitch_of_a_buzz_is_found_and_noise_has_none():
    time = np.arange(SAMPLE_RATE) / SAMPLE_RATE
    for hertz in (80, 131, 220, 340):
        buzz = sum(np.sin(2 * np.pi * hertz * k * time) / k for k in range(1, 12))
        assert np.nanmedian(pitches(0.1 * buzz)) == pytest.approx(hertz, rel=0.01)
    assert np.isnan(pitches(0.1 * np.random.default_rng(0).standard_normal(SAMPLE_RATE))).mean() > 0.9


# --- Mouth -----------------------------------------------------------------------------------------------------


def test_the_units_are_those_of_arkit():
    assert len(set(ARKIT)) == len(ARKIT) == 52
    assert set(ARKIT) == set(FACIAL_ACTION_LABELS)


def test_a_vowel_opens_the_jaw_and_a_bilabial_shuts_the_lips():
    phonemes = (Phoneme(PAUSE, 0, 0.4), Phoneme("ˈɑː", 0.4, 0.8), Phoneme("m", 0.8, 0.92), Phoneme("ˈɑː", 0.92, 1.4))
    curves = mouth_curves(phonemes, 35, MouthStyle(jaw=0.3, lips=1.0))
    jaw, press = curve(curves, "jawOpen"), curve(curves, "mouthPress")
    assert jaw[at(0.6)] == pytest.approx(0.3, abs=0.01)
    assert press[at(0.6)] < 0.01
    assert jaw[at(0.86)] < 0.03
    assert press[at(0.86)] > 0.25
    assert lip_closure(phonemes, 35)[at(0.86)] > 0.9
    assert jaw[0] < 0.01


def test_every_bilabial_of_real_speech_is_seen_to_close_the_lips_and_open_vowels_open_them_most():
    said = speak(TEXT, Voice(accent="en-us"))
    jaw = curve(mouth_curves(said.phonemes, said.frames, MouthStyle(jaw=0.3)), "jawOpen")
    closings = [p for p in said.phonemes if set(letters(p.symbol)) & set("pbm")]
    assert len(closings) > 10
    assert all(jaw[at(p.start - 0.06) : at(p.end) + 1].min() < 0.03 for p in closings)
    openings = [jaw[at(p.start) : at(p.end) + 1].max() for p in said.phonemes if "ɑ" in p.symbol or "ɔ" in p.symbol]
    assert min(openings) > 0.15
    assert jaw.max() <= 0.3


def test_lips_round_before_the_sound_that_needs_it():
    spread = (Phoneme("t", 0.2, 0.3), Phoneme("ˈiː", 0.3, 0.6))
    rounded = (Phoneme("t", 0.2, 0.3), Phoneme("ˈuː", 0.3, 0.6))
    before = [curve(mouth_curves(p, 20), "mouthPucker")[at(0.24)] for p in (spread, rounded)]
    assert before[0] < 0.02
    assert before[1] > 0.2


def test_a_symbol_without_a_mouth_shape_is_named():
    with pytest.raises(ValueError, match="'ʘ'"):
        letters("ʘ")
    assert letters("ˈeɪ") == ["e", "ɪ"]
    assert letters("ç") == ["ç"]
    assert letters("ɑ̃") == ["ɑ"]


@pytest.mark.parametrize("language", ["en", "fr", "ko", "es"])
def test_the_mouth_follows_the_level_of_the_sound_without_lag(language):
    lags = np.arange(-5, 6)
    found = np.zeros(len(lags))
    for seed in range(4):
        said = speak(draw_text(language, seed, 3), draw_voice(language, seed))
        jaw = curve(mouth_curves(said.phonemes, said.frames), "jawOpen")
        found += [correlation(jaw, levels(said.wave), lag) / 4 for lag in lags.tolist()]
    assert found.max() > 0.3
    assert abs(lags[found.argmax()]) <= 1


# --- Face and head ---------------------------------------------------------------------------------------------


def silence(seconds, emotion="neutral", intensity=1.0):
    """Nothing said for a while: what moves then is not speech."""
    return Utterance(
        np.zeros(int(seconds * SAMPLE_RATE), np.float32), (Phoneme(PAUSE, 0, seconds),), emotion, intensity
    )


def test_the_same_seeds_give_the_same_motion_and_another_take_gives_another():
    said = speak(TEXT, Voice())
    one, again, other = move(said, 3, 1), move(said, 3, 1), move(said, 3, 2)
    for name in ("action_units", "pose", "gaze"):
        assert getattr(one, name).tobytes() == getattr(again, name).tobytes()
        assert getattr(one, name).tobytes() != getattr(other, name).tobytes()
    jaws = [curve(m.action_units, "jawOpen") for m in (one, other)]
    np.testing.assert_array_equal(*jaws)  # the same words


def test_people_blink_15_to_30_times_a_minute_for_a_fifth_to_a_third_of_a_second():
    for speaker in range(20):
        shut = move(silence(60), speaker).action_units[:, columns("eyeBlink")]
        np.testing.assert_array_equal(shut[:, 0], shut[:, 1])
        edges = np.flatnonzero(np.diff(np.concatenate([[0], shut[:, 0] > 0.02, [0]]).astype(int)))
        lasts = (edges[1::2] - edges[::2]) / 25
        assert 15 <= len(lasts) <= 30
        assert lasts.min() >= 0.04  # at the beginning or the end, a part of one
        assert 0.12 <= np.median(lasts) <= 0.30
        assert shut.max() > 0.9


def test_the_head_moves_smoothly_within_its_limits_and_looks_about():
    said = speak(draw_text("en", 1, 4), Voice())
    for speaker in range(10):
        motion = move(said, speaker)
        assert motion.action_units.shape == (said.frames, 52)
        assert motion.pose.shape == (said.frames, 6)
        assert motion.gaze.shape == (said.frames, 2)
        assert motion.action_units.dtype == motion.pose.dtype == motion.gaze.dtype == np.float32
        assert motion.action_units.min() >= 0
        assert motion.action_units.max() <= 1
        assert (np.abs(motion.pose).max(0) <= POSE_LIMITS).all()
        assert (motion.pose[:, :3].std(0) > 0.003).all()
        assert np.abs(np.diff(motion.pose[:, :3], axis=0)).max() < 0.03  # 43 degrees a second
        assert np.abs(np.diff(motion.pose[:, :3], n=2, axis=0)).max() < 0.01
        assert np.abs(motion.gaze).max() <= GAZE_LIMIT


def test_while_they_look_into_the_camera_the_eyes_make_up_for_the_head():
    motion = move(silence(60), 1)
    towards = motion.gaze + motion.pose[:, :2]
    assert (np.abs(towards) < 0.02).all(1).mean() > 0.4
    assert (np.abs(towards[:, 0]) > 0.08).mean() > 0.05


def test_a_head_nods_with_loudness():
    """Silence and a tone by turns: the pitch is another in the loud parts, by the speaker's own measure."""
    time = np.arange(20 * SAMPLE_RATE) / SAMPLE_RATE
    on = time % 2 >= 1
    wave = (0.3 * on * np.sin(2 * np.pi * 150 * time)).astype(np.float32)
    said = Utterance(wave, (Phoneme(PAUSE, 0, 20.0),), "neutral", 1.0)
    speaker = max(range(30), key=lambda s: draw_habits(s).nod)
    pitch = np.mean([move(said, speaker, take).pose[:, 1] for take in range(20)], 0)
    loud = on[::640]
    down = pitch[~loud].mean() - pitch[loud].mean()
    assert down == pytest.approx(2 * draw_habits(speaker).nod, rel=0.5)


@pytest.mark.parametrize("emotion", [e for e in EMOTIONS if e != "neutral"])
def test_an_emotion_shows_its_units_and_more_of_them_with_intensity(emotion):
    units = [np.mean([move(silence(10, emotion, i), s).action_units for s in range(8)], (0, 1)) for i in (0, 0.5, 1)]
    for name, weight in EXPRESSIONS[emotion].face.items():
        shown = [u[columns(name)].mean() for u in units]
        assert shown[0] < shown[1] < shown[2]
        assert shown[2] - shown[0] > 0.6 * weight


def test_an_expression_does_not_part_lips_that_a_sound_holds_together():
    phonemes = (Phoneme("ˈɑː", 0, 1.0), Phoneme("m", 1.0, 1.5), Phoneme("ˈɑː", 1.5, 2.0))
    said = Utterance(np.zeros(2 * SAMPLE_RATE, np.float32), phonemes, "disgust", 1.0)
    upper = curve(move(said, 0).action_units, "mouthUpperUp")
    assert upper[at(1.25)] < 0.03
    assert upper[at(0.5)] > 0.2


def test_brows_rise_on_stressed_syllables():
    stressed = Phoneme("ˈɑ", 0.9, 1.1)
    said = Utterance(np.zeros(2 * SAMPLE_RATE, np.float32), (Phoneme(PAUSE, 0, 0.9), stressed), "neutral", 1.0)
    brows = np.mean([curve(move(said, s).action_units, "browOuterUp") for s in range(60)], 0)
    assert brows[:10].max() == 0
    assert brows.argmax() == pytest.approx(at(1.0), abs=1)
    assert brows.max() > 0.02


def test_stills_are_the_frames_that_differ():
    units, pose = np.zeros((30, 52), np.float32), np.zeros((30, 6), np.float32)
    units[7, 0], units[20, 5], pose[25, 0] = 1.0, 0.8, 0.5
    motion = FaceMotion(units, pose, np.zeros((30, 2), np.float32))
    chosen = different_frames(motion, 4).tolist()
    assert {7, 20, 25} < set(chosen)
    assert chosen == sorted(chosen)
    assert len(set(chosen)) == 4  # and one of those that are all the same
    assert different_frames(motion, 50).tolist() == list(range(30))
