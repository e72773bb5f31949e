import io
from fractions import Fraction

import av
import numpy as np
import pytest

from pipeline.common.errors import ClipError
from pipeline.common.limits import Limits
from pipeline.media.audio import AudioTrack, load_audio
from tests import media


def refusal(data, **limits):
    with pytest.raises(ClipError) as caught:
        load_audio(data, Limits(**limits))
    return caught.value


def decoded(aac):
    """((channels, samples) float32, rate) of an AAC track, as a player hears it."""
    with av.open(io.BytesIO(aac)) as file:
        assert file.streams.audio[0].codec_context.name == "aac"
        pieces = [frame.to_ndarray() for frame in file.decode(audio=0)]
        return np.concatenate(pieces, axis=1), file.streams.audio[0].rate


def peak_hz(wave):
    """Frequency of the strongest partial of a wave at 16 kHz."""
    spectrum = np.abs(np.fft.rfft(wave * np.hanning(len(wave))))
    return spectrum.argmax() * 16_000 / len(wave)


# --- What is accepted ------------------------------------------------------------------------------------------

# (name, file of a 440 Hz tone of 1.003 s, rate in Hz, samples that the format may add to the end)
FORMATS = [
    *[
        (f"wav {kind}", lambda rate, kind=kind: media.wav(media.tone(440, 1.003, rate), rate, kind), 16_000, 0)
        for kind in ("u8", "s16", "s24", "f32", "f64")
    ],
    ("wav f32 48 kHz stereo", lambda rate: media.wav(media.tone(440, 1.003, rate, 2), rate, "f32"), 48_000, 0),
    ("wav 8 kHz stereo", lambda rate: media.wav(media.tone(440, 1.003, rate, 2), rate), 8_000, 0),
    ("wav 5.1", lambda rate: media.wav(media.tone(440, 1.003, rate, 6), rate), 48_000, 0),
    ("wav 12 channels", lambda rate: media.wav(media.tone(440, 1.003, rate, 12), rate), 44_100, 0),
    ("wav odd rate", lambda rate: media.wav(media.tone(440, 1.003, rate), rate), 12_345, 0),
    ("wav 192 kHz", lambda rate: media.wav(media.tone(440, 1.003, rate), rate), 192_000, 0),
    ("mp3", lambda rate: media.mp3(media.tone(440, 1.003, rate, 2), rate), 44_100, 0),
    ("m4a", lambda rate: media.m4a(media.tone(440, 1.003, rate, 2), rate), 44_100, 0),
    ("m4a 5.1", lambda rate: media.m4a(media.tone(440, 1.003, rate, 6), rate), 48_000, 0),
    ("flac", lambda rate: media.flac(media.tone(440, 1.003, rate, 2), rate), 96_000, 0),
    ("opus", lambda rate: media.opus(media.tone(440, 1.003, rate), rate), 48_000, 0),
    ("vorbis", lambda rate: media.vorbis(media.tone(440, 1.003, rate), rate), 44_100, 128),
    ("mp4", lambda rate: media.mp4(media.tone(440, 1.003, rate, 2), rate), 48_000, 0),
]


@pytest.mark.parametrize(("make", "rate", "more"), [f[1:] for f in FORMATS], ids=[f[0] for f in FORMATS])
def test_every_format_gives_its_length_and_its_tone_at_16_khz(make, rate, more):
    track = load_audio(make(rate), Limits())
    samples = round(1.003 * rate)
    assert track.rate == rate
    assert samples <= track.samples <= samples + more
    assert track.seconds == track.samples / rate
    assert track.wave.dtype == np.float32
    assert track.wave.ndim == 1
    assert abs(len(track.wave) - track.seconds * 16_000) <= 1
    assert peak_hz(track.wave) == pytest.approx(440, abs=2)
    assert np.abs(track.wave[2000:-2000]).max() > 0.45  # louder for more channels: the model normalizes the level


def test_16_bit_samples_at_16_khz_reach_the_model_unchanged():
    samples, rate = media.speech()
    np.testing.assert_array_equal(load_audio(media.SPEECH.read_bytes(), Limits()).wave, samples[0])
    assert rate == 16_000


def test_the_model_gets_both_channels_alike():
    both = np.concatenate([media.tone(300), media.tone(1000)])
    wave = load_audio(media.wav(both), Limits()).wave
    assert np.corrcoef(wave, both.mean(axis=0))[0, 1] > 0.9999


def test_tags_in_an_old_encoding_do_no_harm():
    data = media.wav(media.tone(), info="José".encode("latin-1"))
    assert load_audio(data, Limits()).samples == 16_000


@pytest.mark.parametrize("size", [0x7FFFFFFF, 0xFFFFFFFF, 0])
def test_wav_written_to_a_pipe_has_no_length_in_its_header_and_is_read_to_its_end(size):
    data = bytearray(media.wav(media.tone()))
    data[4:8] = data[40:44] = size.to_bytes(4, "little")
    assert load_audio(bytes(data), Limits()).samples == 16_000


def test_silence_is_rendered_where_the_limits_allow_it():
    track = load_audio(media.wav(np.zeros((1, 16_000))), Limits(allow_silence=True))
    assert track.samples == 16_000
    assert not track.wave.any()


# --- The delivered sound ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("rate", [8_000, 16_000, 22_050, 44_100, 48_000, 96_000])
def test_delivered_sound_has_no_lag_against_the_source(rate, channels):
    rng = np.random.default_rng(rate)
    # Noise without its highest frequencies, which AAC would drop; only a lag of zero fits.
    noise = np.fft.irfft(np.fft.rfft(rng.standard_normal((1, rate)))[:, : rate // 8], n=rate)
    noise = np.tile(0.3 * noise / np.abs(noise).max(), (channels, 1))
    heard, heard_rate = decoded(load_audio(media.wav(noise, rate), Limits()).sound)
    assert heard_rate == rate
    assert len(heard) == channels
    assert rate <= heard.shape[1] < rate + 1024  # the last AAC frame is filled up
    product = np.fft.rfft(heard[0, :rate]) * np.fft.rfft(noise[0]).conj()
    assert np.fft.irfft(product, n=rate).argmax() == 0
    assert np.corrcoef(heard[0, :rate], noise[0])[0, 1] > 0.9


def test_rates_that_aac_does_not_have_are_delivered_at_48_khz():
    source = media.tone(440, 1.0, 192_000)
    heard, rate = decoded(load_audio(media.wav(source, 192_000), Limits()).sound)
    assert rate == 48_000
    assert np.corrcoef(heard[0, :48_000], source[0, ::4])[0, 1] > 0.99


def test_surround_is_delivered_as_stereo():
    heard, _ = decoded(load_audio(media.m4a(media.tone(440, 1.0, 48_000, 6), 48_000), Limits()).sound)
    assert len(heard) == 2


def test_stereo_keeps_its_sides():
    sides = np.concatenate([media.tone(300), media.tone(1000)])
    heard, _ = decoded(load_audio(media.wav(sides), Limits()).sound)
    assert [peak_hz(side[:16_000]) for side in heard] == [300, 1000]


@pytest.mark.parametrize(
    ("samples", "rate", "fps", "frames"),
    [
        (16_000, 16_000, "25", 25),
        (16_001, 16_000, "25", 26),
        (15_999, 16_000, "25", 25),
        (640, 16_000, "25", 1),
        (641, 16_000, "25", 2),
        (16_000, 16_000, "30000/1001", 30),
        (16_016, 16_000, "30000/1001", 30),
        (16_017, 16_000, "30000/1001", 31),
        (44_100 * 1001, 44_100, "30000/1001", 30_000),
        (44_100 * 1001 + 1, 44_100, "30000/1001", 30_001),
        (44_100 * 7200, 44_100, "50", 360_000),
        (44_100 * 7200 + 1, 44_100, "50", 360_001),
        (882, 44_100, "50", 1),
        (883, 44_100, "50", 2),
    ],
)
def test_frames_cover_the_sound_exactly(samples, rate, fps, frames):
    track = AudioTrack(np.zeros(0, np.float32), rate, samples, b"")
    assert track.frames(Fraction(fps)) == frames


# --- What is refused -------------------------------------------------------------------------------------------

LONG = media.tone(440, 4.0, 48_000, 2)
NOT_FINITE = {value: np.where(np.arange(16_000) == 8_000, value, media.tone()) for value in (np.nan, np.inf)}

REFUSED = {
    "nothing": (b"", "audio_unreadable"),
    "text renamed to .wav": (media.TEXT, "audio_unreadable"),
    "a picture": (media.PORTRAIT.read_bytes(), "audio_unreadable"),
    "an MP4 cut before its index": (media.cut(media.mp4(LONG), 0.6), "audio_unreadable"),
    "an M4A cut before its index": (media.cut(media.m4a(LONG, 48_000), 0.9), "audio_unreadable"),
    "an MP4 cut after its index": (media.cut(media.mp4(LONG, faststart=True), 0.6), "audio_truncated"),
    "half a WAV": (media.cut(media.wav(LONG, 48_000), 0.5), "audio_truncated"),
    "half a FLAC": (media.cut(media.flac(LONG, 48_000), 0.5), "audio_truncated"),
    "a film without sound": (media.mp4(None), "audio_no_stream"),
    "a WAV of zero samples": (media.wav(np.zeros((1, 0))), "audio_empty"),
    "silence": (media.wav(np.zeros((1, 16_000))), "audio_silent"),
    "silence with dither": (media.wav(np.full((2, 16_000), 0.00005)), "audio_silent"),
    "NaN": (media.wav(NOT_FINITE[np.nan], kind="f32"), "audio_not_finite"),
    "NaN, 64 bit": (media.wav(NOT_FINITE[np.nan], kind="f64"), "audio_not_finite"),
    "infinity": (media.wav(NOT_FINITE[np.inf], kind="f32"), "audio_not_finite"),
    "10 ms": (media.wav(media.tone(seconds=0.01)), "audio_too_short"),
}


@pytest.mark.parametrize(("data", "code"), REFUSED.values(), ids=REFUSED)
def test_bad_sound_is_rejected_with_its_code(data, code):
    error = refusal(data)
    assert (error.code, error.status) == (code, "rejected")


def test_damage_inside_is_an_error():
    data = bytearray(media.m4a(LONG, 48_000))
    start = len(data) // 2
    data[start : start + 3000] = b"\xff" * 3000
    assert refusal(bytes(data)).code == "audio_unreadable"


@pytest.mark.parametrize(
    ("data", "limits", "parts"),
    [
        (REFUSED["10 ms"][0], {}, ["0.010 s", "limits.min_audio_seconds = 0.1"]),
        (media.wav(LONG, 48_000), {"max_audio_minutes": 0.05}, ["min of audio", "limits.max_audio_minutes = 0.05"]),
        (REFUSED["silence"][0], {}, ["limits.allow_silence"]),
        (REFUSED["NaN"][0], {}, ["NaN", "at about 0.50 s"]),
        (REFUSED["half a FLAC"][0], {}, ["declares 4.00 s", "upload it again"]),
        (REFUSED["half a WAV"][0], {}, ["384,022 bytes, but its header declares 768,044 bytes", "upload it again"]),
    ],
)
def test_message_names_the_limit_or_the_place(data, limits, parts):
    message = refusal(data, **limits).message
    for part in parts:
        assert part in message


def test_too_long_is_seen_in_the_header_before_anything_is_decoded():
    # The header declares 4 s, and there is not a sample behind it that could be decoded.
    data = bytearray(media.mp4(LONG, faststart=True))
    start = data.index(b"mdat") + 4
    data[start:] = b"\xff" * (len(data) - start)
    assert refusal(bytes(data), max_audio_minutes=0.05).code == "audio_too_long"


@pytest.mark.parametrize(
    "playlist",
    [
        "ffconcat version 1.0\nfile '{}'\n",
        "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{}\n#EXT-X-ENDLIST\n",
    ],
    ids=["concat", "hls"],
)
def test_playlist_cannot_read_another_file(playlist, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    secret = tmp_path / "secret.wav"
    secret.write_bytes(media.SPEECH.read_bytes())
    for name in (secret.name, str(secret), secret.as_uri()):  # FFmpeg itself takes relative names to be safe
        assert refusal(playlist.format(name).encode()).code == "audio_unreadable"
