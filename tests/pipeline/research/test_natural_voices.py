"""Voices from packages: what they are asked to say, when they said it, and how one voice becomes many.

The voices themselves (extra `voices`, 160 MB) are not installed for tests; the rules around them are.
"""

# Letters of the IPA look like others, and are meant.
# ruff: noqa: RUF001

import shutil
from dataclasses import replace
from itertools import chain, pairwise

import numpy as np
import pytest
import torch

from models import SAMPLE_RATE
from pipeline.common.errors import RefusedError
from pipeline.common.limits import Limits
from pipeline.media.audio import load_audio
from pipeline.research.corpus import natural
from pipeline.research.corpus.alignment import script, timed
from pipeline.research.corpus.flite import FLITE_SPEAKERS, check_flite
from pipeline.research.corpus.formants import moved_formants, spectrogram, waveform
from pipeline.research.corpus.natural import (
    ACCENTS,
    ALONE,
    MODELS,
    NaturalVoice,
    draw_natural_voice,
    kokoro_letters,
    speak_naturally,
)
from pipeline.research.corpus.neural import KOKORO_RATE, STYLES
from pipeline.research.corpus.prosody import pitches
from pipeline.research.corpus.sentences import SENTENCES
from pipeline.research.corpus.speech import compressed, draw_speaker, draw_speech, source_of
from pipeline.research.corpus.text import draw_words
from pipeline.research.corpus.visemes import VISEMES, letters
from pipeline.research.corpus.voice import PAUSE, Voice, spelled_by_espeak

NUMBERS = {symbol: 10 + i for i, symbol in enumerate("abɪˈ ,.")}


def tone(seconds, quiet=()):
    """A loud tone with quiet parts (start, end)."""
    wave = np.sin(np.arange(round(seconds * SAMPLE_RATE)) / 5).astype(np.float32)
    for start, end in quiet:
        wave[round(start * SAMPLE_RATE) : round(end * SAMPLE_RATE)] = 0
    return wave


def rounded(phonemes):
    return [(one.symbol, round(one.start, 3), round(one.end, 3)) for one in phonemes]


# --- Times of phonemes -----------------------------------------------------------------------------------------


def test_a_script_has_the_voices_numbers_with_filling_between_and_the_phoneme_of_each():
    made = script([([["b", "ˈaɪ"], ["b"]], ".")], NUMBERS, str, start=(1,), end=(2,), filling=0)
    assert made.items == (PAUSE, "b", "ˈaɪ", PAUSE, "b", PAUSE, PAUSE, PAUSE)
    said = [(token.number, token.item) for token in made.tokens if token.item >= 0]
    assert said[:5] == [(1, 0), (11, 1), (13, 2), (10, 2), (12, 2)]
    assert [token.number for token in made.tokens[1::2]] == [0] * (len(said) - 1)


def test_letters_with_a_diacritic_are_spoken_and_symbols_that_a_voice_lacks_left_out():
    made = script([([["ä", "ʘ"]], ",")], NUMBERS, str, start=(), end=())
    assert [token.number for token in made.tokens] == [10, 15, 14]
    assert made.items[1:3] == ("ä", "ʘ")


def test_phonemes_share_the_filling_between_them_and_follow_each_other_without_a_gap():
    made = script([([["b", "a"]], ".")], NUMBERS, str, start=(1,), end=(2,), filling=0)
    # ^ _ b _ a _ . _ space _ $
    seconds = np.array([0.1, 0.0, 0.1, 0.04, 0.2, 0.0, 0.1, 0.0, 0.1, 0.0, 0.1])
    found = timed(made, seconds, tone(1.2, [(0.0, 0.3), (0.64, 1.2)]))
    assert rounded(found) == [("", 0.0, 0.3), ("b", 0.3, 0.42), ("a", 0.42, 0.64), ("", 0.64, 1.2)]


@pytest.mark.parametrize(
    ("space", "silent", "pauses"),
    [(0.2, True, True), (0.2, False, False), (0.04, True, False)],
    ids=["silent and long", "spoken through", "too short"],
)
def test_a_space_is_a_pause_where_the_voice_is_silent(space, silent, pauses):
    made = script([([["a"], ["b"]], ".")], NUMBERS, str, start=(1,), end=(2,))
    seconds = np.array([0.1, 0.2, space, 0.2, 0.1, 0.0, 0.1])  # ^ a space b . space $
    start = 0.2 + 0.1 + 0.2
    wave = tone(1.2 + space, [(0, 0.3), *([(start, start + space)] if silent else []), (start + space + 0.2, 3)])
    found = rounded(timed(made, seconds, wave))
    middle = round(start + space / 2, 3)
    without = [("", 0.0, 0.3), ("a", 0.3, middle), ("b", middle, round(start + space + 0.2, 3))]
    with_pause = [("a", 0.3, start), ("", start, round(start + space, 3))]
    assert found[1:3] == with_pause if pauses else found[:3] == without
    assert all(one[2] == two[1] for one, two in pairwise(found))


# --- Pronunciation ---------------------------------------------------------------------------------------------


def test_espeak_spells_clauses_word_by_word_with_stress():
    words = spelled_by_espeak(["the boat", "put it in"], "en-us")
    assert words[0] == [["ð", "ə"], ["b", "ˈoʊ", "t"]]
    assert [len(clause) for clause in words] == [2, 3]
    with pytest.raises(ValueError, match="no-such-accent"):
        spelled_by_espeak(["the boat"], "no-such-accent")


@pytest.mark.parametrize(
    ("phoneme", "written"), [("ˈoʊ", "ˈO"), ("tʃ", "ʧ"), ("iː", "iː"), ("ˌʏ", "ˌy"), ("ɡ", "ɡ"), ("tɕ", "ʨ")]
)
def test_kokoro_has_letters_of_its_own_for_some_sounds(phoneme, written):
    assert kokoro_letters(phoneme) == written


def test_words_in_random_order_come_from_the_sentences():
    text = draw_words("fr", 3, 12)
    words = text.removesuffix(".").split()
    stock = " ".join(SENTENCES["fr"]).lower()
    assert len(words) == 12
    assert all(word in stock for word in words)
    assert text == draw_words("fr", 3, 12) != draw_words("fr", 4, 12)
    with pytest.raises(ValueError, match="language"):
        draw_words("xx", 0, 3)


# --- Speakers --------------------------------------------------------------------------------------------------


def test_seeds_give_natural_speakers_by_their_share_and_only_where_there_are_voices():
    drawn = [draw_speaker("en", seed, 0.5, MODELS) for seed in range(200)]
    natural_ones = [voice for voice in drawn if isinstance(voice, NaturalVoice)]
    assert 70 < len(natural_ones) < 130
    assert {source_of(voice) for voice in drawn} >= {"espeak", "joe", "kokoro:mixed", "flite:rms", "flite:slt"}
    assert drawn[:20] == [draw_speaker("en", seed, 0.5, MODELS) for seed in range(20)]
    assert all(isinstance(draw_speaker("ko", seed, 1.0, MODELS), Voice) for seed in range(5))
    assert all(isinstance(draw_speaker("en", seed, 0.0, MODELS), Voice) for seed in range(5))
    assert isinstance(draw_speaker("fr", 0, 1.0, ["joe", "flite"]), Voice)
    assert {source_of(draw_speaker("fr", seed, 1.0, MODELS)).split(":")[0] for seed in range(20)} == {"kokoro"}
    with pytest.raises(ValueError, match="speaks 'ko'"):
        draw_natural_voice("ko", 0)


def test_one_style_is_in_no_mixture():
    voices = [draw_natural_voice("es", seed) for seed in range(300)]
    place = STYLES.index(ALONE)
    assert {voice.style[place] for voice in voices} == {0.0, 1.0}
    assert all(sum(voice.style) == pytest.approx(1) for voice in voices)
    assert {voice.source for voice in voices} == {"kokoro:mixed", *(f"kokoro:{name}" for name in STYLES)}


def fake_kokoro(script, style, *, pace):
    """A buzz of 150 Hz with two formants, each token 80 ms long at pace 1."""
    seconds = np.full(len(script.tokens), 0.08) * pace
    moments = np.arange(round(seconds.sum() * KOKORO_RATE)) / KOKORO_RATE
    partials = 150 * np.arange(1, 40)
    loud = sum(np.exp(-(((partials - formant) / 700) ** 2)) for formant in (900, 2400))
    return (np.sin(2 * np.pi * np.outer(moments, partials)) @ loud).astype(np.float32) / 10, seconds


@pytest.fixture
def buzzing(monkeypatch):
    monkeypatch.setattr(natural, "kokoro", fake_kokoro)
    known = {symbol: i for i, symbol in enumerate({*"".join(VISEMES), *"ˈˌː ,.AIOQWYʤʧʦʣʨʥ"})}
    monkeypatch.setattr(natural, "kokoro_symbols", lambda: known)


def buzz(**values):
    return NaturalVoice("en", "en-us", "kokoro", (1.0, 0, 0, 0, 0), **values)


def peak_hz(wave, low, high):
    """The loudest frequency between two."""
    spectrum = np.abs(np.fft.rfft(wave))
    hertz = np.fft.rfftfreq(len(wave), 1 / SAMPLE_RATE)
    envelope = np.convolve(spectrum**2, np.ones(400), "same") * ((hertz > low) & (hertz < high))
    return hertz[envelope.argmax()]


def test_pitch_and_vocal_tract_change_independently_and_the_speed_stays(buzzing):
    plain, high, small = (
        speak_naturally("We move.", buzz(**values)) for values in ({}, {"pitch": 1.25}, {"tract": 1.2})
    )
    assert np.nanmedian(pitches(plain.wave)) == pytest.approx(150, rel=0.02)
    assert np.nanmedian(pitches(high.wave)) == pytest.approx(187, rel=0.02)
    assert np.nanmedian(pitches(small.wave)) == pytest.approx(150, rel=0.02)
    formants = [peak_hz(one.wave, 1800, 3600) for one in (plain, high, small)]
    assert formants[0] == pytest.approx(2400, rel=0.04)
    assert 0.9 < formants[1] / formants[0] < 1.1
    assert 1.12 < formants[2] / formants[0] < 1.4
    assert abs(high.frames - plain.frames) <= 1
    assert "".join(one.symbol for one in plain.phonemes) == "wiːmˈuːv"
    assert plain.phonemes[0].start == 0
    assert plain.phonemes[-1].end == pytest.approx(len(plain.wave) / SAMPLE_RATE)


def test_emotions_change_a_natural_voice_as_they_change_espeaks(buzzing):
    sad, angry = (speak_naturally("We move.", buzz(), emotion=name) for name in ("sad", "angry"))
    assert sad.frames > 1.2 * angry.frames
    assert sad.wave.std() < 0.6 * angry.wave.std()
    with pytest.raises(ValueError, match="emotion"):
        speak_naturally("We move.", buzz(), emotion="bored")
    with pytest.raises(ValueError, match="nothing to say"):
        speak_naturally("...", buzz())


@pytest.mark.skipif(shutil.which("flite") is None, reason="no Flite here: apt-get install flite")
@pytest.mark.parametrize("speaker", FLITE_SPEAKERS)
def test_flite_speaks_as_its_own_dictionary_says_with_vowels_where_the_sound_is_loud(speaker):
    voice = NaturalVoice("en", "en-us", "flite", speaker=speaker)
    said = speak_naturally("The boat is in the water, my friend.", voice)
    assert "".join(one.symbol or "|" for one in said.phonemes) == "|ðəboʊtɪzɪnðəwɔːtɜː|maɪfɹɛnd|"
    assert said.phonemes[-1].end == pytest.approx(len(said.wave) / SAMPLE_RATE)
    levels = {
        kind: np.concatenate(
            [said.wave[round(one.start * SAMPLE_RATE) : round(one.end * SAMPLE_RATE)] for one in parts]
        ).std()
        for kind, parts in (
            ("vowels", [one for one in said.phonemes if one.symbol[:1] in set("əoɪɔɜaɛ")]),
            ("stops", [one for one in said.phonemes if one.symbol in set("btd")]),
        )
    }
    assert levels["vowels"] > 1.3 * levels["stops"]
    slow = speak_naturally("The boat is in the water, my friend.", replace(voice, pace=1.3))
    assert slow.frames > 1.15 * said.frames


def test_a_machine_without_flite_says_how_to_install_it(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(RefusedError, match="apt-get install flite"):
        check_flite()


def test_a_clip_is_a_function_of_its_seeds_and_keeps_its_length_in_its_file(buzzing):
    asked = {"seed": 3, "number": 1, "clip": 2, "sentences": 1, "shuffled": 1.0}
    one, two = draw_speech(buzz(), **asked), draw_speech(buzz(), **asked)
    assert one.text == two.text
    assert (one.sound == two.sound).all()
    assert one.truth()["phonemes"][0]["symbol"] == PAUSE
    data = compressed(one.sound, one.seed)
    assert data == compressed(two.sound, two.seed) or len(data) < 0.3 * one.sound.nbytes
    wave = load_audio(data, Limits()).wave
    assert len(wave) == len(one.sound) == 640 * one.said.frames
    assert np.corrcoef(wave, one.sound)[0, 1] > 0.8


def test_all_phonemes_of_the_natural_languages_have_mouth_shapes():
    for language, accents in ACCENTS.items():
        for accent in accents:
            for clause in spelled_by_espeak(list(SENTENCES[language]), accent):
                for phoneme in chain.from_iterable(clause):
                    letters(phoneme)  # raises for one without


# --- Formants --------------------------------------------------------------------------------------------------


def test_a_factor_of_one_leaves_a_wave_and_length_and_loudness_always_stay():
    torch.manual_seed(0)
    waves = torch.randn(2, 5000)
    assert torch.allclose(waveform(spectrogram(waves), 5000), waves, atol=1e-4)
    same, moved = moved_formants(waves, torch.tensor([1.0, 1.15]))
    assert torch.allclose(same, waves[0], atol=1e-2)
    assert moved.shape == (5000,)
    assert float(moved.std()) == pytest.approx(float(waves[1].std()), rel=0.02)
    assert torch.isfinite(moved_formants(torch.zeros(1, 4000), torch.tensor([0.9]))).all()
