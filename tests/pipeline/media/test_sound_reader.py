"""The one decoder of audio: which stream, on which timeline, and whether all of it is there."""

import io
import struct
from fractions import Fraction

import av
import numpy as np
import pytest

from pipeline.common.errors import ClipError
from pipeline.common.limits import Limits
from pipeline.media.audio import load_audio
from pipeline.media.sound_reader import SoundReader
from pipeline.media.sound_timeline import Timeline
from tests import media

TONE = media.tone(440, 0.5, 48_000)
STEREO = media.tone(440, 0.5, 48_000, 2)


def read(data, **options):
    """(samples (channels, n), the reader) of a file."""
    reader = SoundReader(data, **options)
    return np.concatenate(list(reader.pieces()), axis=1), reader


def refusal(data, **limits):
    with pytest.raises(ClipError) as caught:
        load_audio(data, Limits(**limits))
    assert len(caught.value.message) < 300
    assert not any(word in caught.value.message for word in ("Errno", "avcodec", "Invalid data", "Error"))
    return caught.value


def codes(reader):
    return [note.code for note in reader.notes]


def loud(wave, rate, first, last):
    """RMS between two times in seconds."""
    part = wave[..., round(first * rate) : round(last * rate)]
    return float(np.sqrt((part**2).mean()))


def remuxed(data, container, change, streams=None):
    """A file with its packets after `change(stream number, packet number, packet)`, which may drop them (None)."""
    buffer = io.BytesIO()
    with av.open(io.BytesIO(data)) as source, av.open(buffer, "w", format=container) as target:
        copies = {s.index: target.add_stream_from_template(s) for s in source.streams}
        for number, (flags, language) in (streams or {}).items():
            copies[number].disposition = flags
            copies[number].metadata["language"] = language
        counts = dict.fromkeys(copies, 0)
        for packet in source.demux():
            if packet.dts is None:
                continue
            number = packet.stream.index
            packet = change(number, counts[number], packet)
            counts[number] += 1
            if packet is not None:
                packet.stream = copies[number]
                target.mux(packet)
    return buffer.getvalue()


def late(seconds, number=None):
    """All packets, or those of one stream, later by so much."""

    def change(stream, _, packet):
        if number in (None, stream):
            packet.pts += int(seconds / packet.time_base)
            packet.dts += int(seconds / packet.time_base)
        return packet

    return change


# --- WAV: sizes that are counted, made up, or stale ------------------------------------------------------------------


def sized(data, riff, size):
    changed = bytearray(data)
    changed[4:8], changed[40:44] = struct.pack("<I", riff), struct.pack("<I", size)
    return bytes(changed)


MADE_UP = {
    "a round number": (1_000_000_036, 1_000_000_000),
    "another round number": (1_500_000_036, 1_500_000_000),
    "round, the file too": (100_000_000, 100_000_000 - 36),
    "nines": (999_999_999, 999_999_999),
    "of ffmpeg": (0xFFFFFFFF, 0xFFFFFFFF),
    "of sox": (0x7FFFF024, 0x7FFFF000),
    "signed": (0x80000024, 0x80000000),
    "a power of two": (0x10000024, 0x10000000),
    "not a whole number of samples": (123_456_815, 123_456_779),
    "more samples than file": (36, 123_456_778),
    "none": (0, 0),
    "none of the samples": (36, 0),
}


@pytest.mark.parametrize("sizes", MADE_UP.values(), ids=MADE_UP)
def test_a_wav_written_into_a_pipe_is_read_to_its_end_whatever_its_header_says(sizes):
    wave, reader = read(sized(media.wav(media.tone()), *sizes))
    assert wave.shape == (1, 16_000)
    assert not reader.notes


@pytest.mark.parametrize("seconds", [1.3, 60, 1000, 3125.5])
def test_a_wav_that_lacks_some_of_a_size_that_was_counted_was_cut(seconds):
    size = round(seconds * 32_000)
    error = refusal(sized(media.wav(media.tone()), size + 36, size))
    assert error.code == "audio_truncated"
    assert "upload it again" in error.message


def test_a_wav_that_lacks_its_last_bytes_lacks_no_word():
    assert read(media.wav(media.tone())[:-20])[0].shape == (1, 15_990)


def test_samples_behind_a_stale_size_are_used():
    whole = media.wav(media.tone())
    wave, _ = read(sized(whole, 36 + 16_000, 16_000))
    np.testing.assert_array_equal(wave, read(whole)[0])


@pytest.mark.parametrize(
    "tail",
    [
        b"LIST" + struct.pack("<I", 12) + b"INFOIART\0\0\0\0",
        b"LIST" + struct.pack("<I", 4000) + b"INFO",  # cut
        b"TAG" + b"x" * 125,
        b"ID3\x04\0\0\0\0\0\x0a" + bytes(10),
        bytes(4000),
    ],
    ids=["chunk", "cut chunk", "ID3v1", "ID3v2", "zeros"],
)
def test_what_follows_the_samples_and_is_no_sound_is_not_heard(tail):
    assert read(media.wav(media.tone()) + tail)[0].shape == (1, 16_000)


@pytest.mark.parametrize("streamed", [False, True])
def test_wav_files_glued_together_are_all_heard(streamed):
    one = media.wav(media.tone(440, 0.5))
    one = sized(one, 0xFFFFFFFF, 0xFFFFFFFF) if streamed else one
    wave, _ = read(one * 3)
    np.testing.assert_array_equal(wave, np.tile(read(one)[0], 3))


def test_the_second_of_two_glued_wav_files_may_be_cut_too():
    assert refusal((media.wav(media.tone()) * 2)[:-8000]).code == "audio_truncated"


def test_a_big_endian_wav_is_refused_by_its_name():
    error = refusal(b"RIFX" + media.wav(media.tone())[4:])
    assert "RIFX" in error.message
    assert "ordinary WAV" in error.message


@pytest.mark.parametrize("rate", [1, 900_000_000])
def test_a_rate_that_no_sound_has_is_refused(rate):
    assert f"{rate:,} samples per second" in refusal(media.wav(media.tone(440, 0.1), rate)).message


# --- Other containers: missing audio, unknown lengths, glued files ---------------------------------------------------

SECONDS_4 = media.tone(440, 4.0, 48_000)
CUT = {
    "mp3": media.mp3(SECONDS_4, 48_000),
    "webm": media.encoded(SECONDS_4, 48_000, "libopus", "webm"),
    "matroska": media.encoded(SECONDS_4, 48_000, "flac", "matroska"),
    "opus": media.opus(SECONDS_4, 48_000),
    "aiff": media.encoded(SECONDS_4, 48_000, "pcm_s16be", "aiff"),
    "w64": media.encoded(SECONDS_4, 48_000, "pcm_s16le", "w64"),
}


@pytest.mark.parametrize("data", CUT.values(), ids=CUT)
def test_half_a_file_is_not_taken_for_the_whole(data):
    assert read(data)[0].shape[1] == pytest.approx(4 * 48_000, abs=200)
    error = refusal(data[: len(data) // 2 + 7])
    assert error.code == "audio_truncated"
    assert "upload it again" in error.message


def test_a_file_without_a_length_that_ends_inside_a_frame_is_noted():
    data = media.encoded(SECONDS_4, 48_000, "aac", "adts")
    assert not read(data)[1].notes
    assert codes(read(data[: len(data) // 2 + 7])[1]) == ["audio_end_unsure"]


def test_an_ogg_without_a_last_page_is_noted():
    data = media.opus(SECONDS_4, 48_000)
    assert codes(read(data[: data.rindex(b"OggS")])[1]) == ["audio_end_unsure"]


def test_a_length_that_ffmpeg_estimates_is_not_one():
    quiet = np.concatenate([np.zeros((1, 64_000), np.float32), media.tone(440, 2)], axis=1)
    data = media.encoded(quiet, 16_000, "aac", "adts")
    with av.open(io.BytesIO(data)) as file:
        assert file.duration / av.time_base > 10  # it begins with small frames
    assert load_audio(data, Limits(max_audio_minutes=0.15)).seconds == pytest.approx(6, abs=0.2)
    assert refusal(data, max_audio_minutes=0.05).code == "audio_too_long"


GLUED = {
    "mp3": (media.mp3(TONE, 48_000), media.mp3(media.tone(440, 0.5, 24_000, 2), 24_000)),
    "adts": tuple(media.encoded(media.tone(440, 0.5, r), r, "aac", "adts") for r in (44_100, 22_050)),
    "opus": (media.opus(TONE, 48_000), media.opus(STEREO, 48_000)),
    "opus and vorbis": (media.opus(TONE, 48_000), media.vorbis(media.tone(440, 0.5, 44_100), 44_100)),
    "flac": (media.flac(STEREO, 48_000), media.flac(media.tone(440, 0.5, 44_100), 44_100)),
    "wav": (media.wav(TONE, 48_000), media.wav(media.tone(440, 0.5))),
    "webm": (media.encoded(TONE, 48_000, "libopus", "webm"), media.encoded(STEREO, 48_000, "libopus", "webm")),
    "m4a": (media.m4a(TONE, 48_000), media.m4a(media.tone(440, 0.5, 24_000), 24_000)),
}


@pytest.mark.parametrize("parts", GLUED.values(), ids=GLUED)
def test_a_change_of_rate_or_channels_inside_is_converted_and_noted(parts):
    wave, reader = read(b"".join(parts))
    assert codes(reader) == ["audio_changes"]
    assert reader.rate == read(parts[0])[1].rate
    assert wave.shape[1] / reader.rate == pytest.approx(1.0, abs=0.1)  # AAC and Vorbis fill up
    for first, last in ((0.1, 0.4), (0.6, 0.9)):
        assert loud(wave, reader.rate, first, last) == pytest.approx(0.35, abs=0.05)
    hertz = np.abs(np.fft.rfft(wave[0, -round(reader.rate * 0.4) :])).argmax() / 0.4
    assert hertz == pytest.approx(440, abs=4)


def test_aiff_files_glued_together_are_refused():
    assert "as one file" in refusal(media.encoded(TONE, 48_000, "pcm_s16be", "aiff") * 2).message


# --- MP3: what players skip, and what is damage ----------------------------------------------------------------------

ID3 = b"ID3\x04\0\0\0\0\x02\x00TIT2" + bytes(252)
FOOTED = b"ID3\x04\0\x10\0\0\0\x0a" + bytes(10) + b"3DI\x04\0\x10\0\0\0\x0a"
LYRICS = b"LYRICSBEGININD0000200LYR00005hello000034LYRICS200"
MP3 = media.mp3(TONE, 48_000)


@pytest.mark.parametrize(
    "tail",
    [FOOTED, ID3, LYRICS + b"TAG" + b"x" * 125, b"TAG" + b"x" * 125, bytes(10_000), b"APETAGEX" + bytes(24)],
    ids=["ID3 with footer", "ID3", "Lyrics3", "ID3v1", "zeros", "APE"],
)
def test_tags_and_padding_behind_an_mp3_change_nothing(tail):
    np.testing.assert_array_equal(read(MP3 + tail)[0], read(MP3)[0])


def test_mp3_files_with_tags_glued_together_are_all_heard():
    wave, reader = read((ID3 + MP3) * 4)
    assert not reader.notes
    assert wave.shape[1] / 48_000 == pytest.approx(2.0, abs=0.25)  # between them is what the encoder adds
    # A picture in a tag looks like frames here and there.
    noise = np.random.default_rng(0).integers(0, 256, 20_000, dtype=np.uint8).tobytes()
    tag = b"ID3\x03\0\0\0\x01" + struct.pack(">BB", len(noise) >> 7 & 127, len(noise) & 127) + noise
    assert read(MP3 + tag + MP3)[0].shape == read(MP3 + ID3 + MP3)[0].shape


def test_a_part_that_was_cut_before_the_next_was_appended_loses_less_than_a_frame():
    data = media.encoded(media.tone(440, 1.0, 48_000), 48_000, "aac", "adts")
    wave, reader = read(data[:-50] + ID3 + data)
    assert not reader.notes
    assert wave.shape[1] == 2 * read(data)[0].shape[1] - 1024


@pytest.mark.parametrize("filler", [b"\x55", b"\0"])
def test_a_hole_in_an_mp3_is_damage(filler):
    data = bytearray(media.mp3(SECONDS_4, 48_000))
    middle = len(data) // 2
    data[middle : middle + 5000] = filler * 5000
    error = refusal(bytes(data))
    assert error.code == "audio_unreadable"
    assert "damaged at about 2." in error.message or "damaged at about 1.9" in error.message


# --- Streams ---------------------------------------------------------------------------------------------------------


def two_streams(first, second, container="matroska", streams=None):
    """A film without pictures: two audio streams of 48 kHz mono."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=container) as file:
        made = [file.add_stream("aac", rate=48_000, layout="mono") for _ in range(2)]
        for number, (flags, language) in (streams or {}).items():
            made[number].disposition = flags
            made[number].metadata["language"] = language
        file.start_encoding()
        for stream, samples in zip(made, (first, second), strict=True):
            for start in range(0, samples.shape[1] - 1023, 1024):
                part = np.ascontiguousarray(samples[:, start : start + 1024])
                frame = av.AudioFrame.from_ndarray(part, format="fltp", layout="mono")
                frame.sample_rate, frame.pts, frame.time_base = 48_000, start, Fraction(1, 48_000)
                file.mux(stream.encode(frame))
            file.mux(stream.encode(None))
    return buffer.getvalue()


def heard_hertz(wave, rate):
    part = wave[0, rate // 10 : rate // 10 + rate // 4]
    return np.abs(np.fft.rfft(part)).argmax() * 4


LOW, HIGH, NOTHING = media.tone(400, 0.5, 48_000), media.tone(800, 0.5, 48_000), np.zeros((1, 24_000), np.float32)
DEFAULT, COMMENT = 1, 8


@pytest.mark.parametrize(
    ("first", "second", "flags", "language", "hertz"),
    [
        (LOW, HIGH, {0: (0, "deu"), 1: (DEFAULT, "eng")}, None, 800),
        (LOW, HIGH, {0: (COMMENT, "eng"), 1: (0, "eng")}, None, 800),
        (LOW, HIGH, {0: (COMMENT | DEFAULT, "eng"), 1: (0, "eng")}, None, 800),
        (LOW, HIGH, {0: (DEFAULT, "eng"), 1: (0, "ger")}, "de-AT", 800),
        (LOW, HIGH, {0: (DEFAULT, "eng"), 1: (0, "ger")}, "fr", 400),
        (LOW, HIGH, {0: (0, "und"), 1: (0, "und")}, None, 400),
        (NOTHING, HIGH, {0: (DEFAULT, "und"), 1: (0, "und")}, None, 800),
    ],
    ids=["default", "commentary", "commentary by default", "language", "other language", "first", "silent"],
)
def test_the_stream_with_the_speech_is_used_and_the_others_are_named(first, second, flags, language, hertz):
    data = two_streams(first, second, streams=flags)
    wave, reader = read(data, language=language)
    assert heard_hertz(wave, reader.rate) == hertz
    [note] = reader.notes
    decided = language == "de-AT"
    assert note.code == ("audio_streams" if decided else "audio_streams_unchosen")
    assert f"number {1 if hertz == 400 else 2}" in note.message.partition("was used")[0]
    assert f"not used: number {2 if hertz == 400 else 1}" in note.message
    assert ("because of language=de-AT" in note.message) == decided
    assert reader.stream.startswith(f"number {1 if hertz == 400 else 2}")
    assert reader.stream in note.message.replace(" was used", "")
    assert load_audio(data, Limits(), language=language).stream == reader.stream


ENGLISH_GERMAN = {0: (DEFAULT, "eng"), 1: (0, "ger")}


@pytest.mark.parametrize(
    ("wanted", "streams", "hertz", "code"),
    [
        ("1", ENGLISH_GERMAN, 400, "audio_streams"),
        ("2", ENGLISH_GERMAN, 800, "audio_streams"),
        ("de-AT", ENGLISH_GERMAN, 800, "audio_streams"),
        ("deu", ENGLISH_GERMAN, 800, "audio_streams"),
        ("EN", ENGLISH_GERMAN, 400, "audio_streams"),
        ("de", {0: (COMMENT, "ger"), 1: (0, "eng")}, 400, "audio_streams"),
        ("und", {0: (DEFAULT, "eng"), 1: (0, "und")}, 800, "audio_streams"),
        ("en", {0: (0, "eng"), 1: (DEFAULT, "eng")}, 800, "audio_streams_unchosen"),
    ],
)
def test_the_stream_that_the_row_names_is_used_whatever_its_language(wanted, streams, hertz, code):
    wave, reader = read(two_streams(LOW, HIGH, streams=streams), wanted=wanted, language="fr")
    assert heard_hertz(wave, reader.rate) == hertz
    [note] = reader.notes
    assert note.code == code
    assert f"was used, because of audio_stream={wanted}; not used" in note.message
    assert reader.stream.endswith(f", because of audio_stream={wanted}")


def test_a_silent_stream_is_used_if_the_row_names_it_and_a_silent_one_of_its_language_is_not():
    data = two_streams(NOTHING, HIGH, streams={0: (DEFAULT, "eng"), 1: (0, "eng")})
    wave, reader = read(data, wanted="1")
    assert np.abs(wave).max() < 1e-4
    wave, reader = read(data, wanted="en")
    assert heard_hertz(wave, reader.rate) == 800
    assert reader.stream == "number 2 (eng), because of audio_stream=en, because number 1 (eng, default) is silent"


@pytest.mark.parametrize(
    ("wanted", "data", "said"),
    [
        (
            "3",
            two_streams(LOW, HIGH, streams={0: (DEFAULT, "eng"), 1: (COMMENT, "und")}),
            "no audio stream number 3, but number 1 (eng, mono, default), number 2 (no language, mono, commentary):",
        ),
        (
            "fr",
            two_streams(LOW, HIGH, streams=ENGLISH_GERMAN),
            "of the language fr, but number 1 (eng,",
        ),
        (
            "2",
            media.wav(media.tone(440, 0.5, 48_000, 2)),
            "number 2, but number 1 (no language, stereo):",
        ),
        ("en", media.wav(media.tone(440, 0.5, 48_000, 6)), "of the language en, but number 1 (no language, "),
    ],
)
def test_a_stream_that_is_not_there_rejects_the_clip_with_those_that_are(wanted, data, said):
    with pytest.raises(ClipError) as caught:
        read(data, wanted=wanted)
    assert caught.value.code == "audio_stream_not_there"
    assert said in caught.value.message


# --- Time ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("container", ["matroska", "mp4"])
def test_sound_that_begins_after_the_pictures_keeps_its_place(container):
    film = remuxed(media.mp4(TONE, pictures=25), container, late(Fraction(3, 5), 1))
    wave, reader = read(film)
    assert float(reader.start) == pytest.approx(0.6, abs=0.03)  # Matroska has the encoder's delay inside
    assert loud(wave, 48_000, 0, 0.55) < 1e-3
    assert loud(wave, 48_000, 0.7, 1.0) == pytest.approx(0.35, abs=0.02)
    [(first, last)] = reader.spans
    assert (float(first), float(last)) == pytest.approx((0.6, 1.1), abs=0.04)
    assert len(load_audio(film, Limits()).wave) == pytest.approx(1.1 * 16_000, abs=0.04 * 16_000)


def test_sound_alone_begins_at_its_first_sample():
    later = remuxed(media.encoded(TONE, 48_000, "libopus", "webm"), "matroska", late(Fraction(3)))
    wave, reader = read(later)
    assert reader.start == 0
    assert wave.shape[1] == pytest.approx(24_000, abs=100)


@pytest.mark.parametrize(
    ("codec", "container"), [("libopus", "webm"), ("aac", "matroska"), ("flac", "matroska"), ("aac", "mp4")]
)
def test_a_gap_between_time_stamps_becomes_silence(codec, container):
    whole = media.encoded(media.tone(440, 2.0, 48_000), 48_000, codec, "mp4" if container == "mp4" else "matroska")
    gone = []

    def hole(_, number, packet):
        if Fraction(1, 2) <= packet.pts * packet.time_base < 1:
            gone.append(packet.duration * packet.time_base)
            return None
        return packet

    wave, reader = read(remuxed(whole, container, hole))
    assert wave.shape[1] == pytest.approx(2 * 48_000, abs=1300)
    assert loud(wave, 48_000, 0.65, 0.9) < 0.02
    assert loud(wave, 48_000, 1.2, 1.9) == pytest.approx(0.35, abs=0.02)
    [note] = reader.notes
    assert note.code == "audio_gaps"
    assert float(note.message.split()[4]) == pytest.approx(float(sum(gone)), abs=0.011)
    assert "s without audio, first at 0.5" in note.message
    assert len(reader.spans) == 2


def test_a_time_stamp_that_is_wrong_by_years_is_refused():
    def change(stream, number, packet):
        return late(Fraction(10**8))(stream, number, packet) if number > 5 else packet

    error = refusal(remuxed(media.encoded(media.tone(440, 1, 48_000), 48_000, "flac", "matroska"), "matroska", change))
    assert error.code == "audio_too_long"
    assert "time stamps jump" in error.message


def frames_at(*times, rate=16_000, samples=1600):
    line = Timeline(3600)
    pieces = []
    for number, time in enumerate(times):
        values = np.full((1, samples), number + 1, np.float32)
        frame = av.AudioFrame.from_ndarray(values, format="fltp", layout="mono")
        frame.sample_rate = rate
        if time is not None:
            exact = Fraction(time).limit_denominator(1000)
            frame.pts, frame.time_base = exact.numerator, Fraction(1, exact.denominator)
        line.add(frame, timed=True)
        pieces += line.pieces()
    pieces += line.close()
    return np.concatenate(pieces, axis=1)[0], line


def test_jitter_stays_where_it_is():
    wave, line = frames_at(0, 0.11, 0.19, 0.33, 0.39)
    np.testing.assert_array_equal(wave, np.repeat([1, 2, 3, 4, 5], 1600))
    assert not line.notes()


def test_what_comes_twice_is_used_once_and_noted():
    wave, line = frames_at(0, 0.1, 0.15, 0.25)
    np.testing.assert_array_equal(wave, np.repeat([1, 2, 3, 4], [1600, 1600, 800, 1600]))
    assert "0.05 s of audio a second time" in line.notes()[0].message


def test_a_clock_that_starts_again_loses_no_sound():
    wave, line = frames_at(*(i / 10 for i in range(20)), *(i / 10 for i in range(20)))
    assert len(wave) == 40 * 1600
    assert not line.notes()


def test_pieces_do_not_depend_on_the_frames():
    data = (media.wav(media.tone(440, 1.003)), media.flac(media.tone(440, 1.003), 16_000))
    shapes = [[piece.shape for piece in SoundReader(one).pieces()] for one in data]
    assert shapes[0] == shapes[1] == [(1, 4000)] * 4 + [(1, 48)]


# --- Level and channels ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["f32", "f64"])
@pytest.mark.parametrize("scale", [2.0**15, 2.0**31, 1e30, 16.0])
def test_samples_in_the_scale_of_integers_are_refused_before_they_are_encoded(kind, scale):
    error = refusal(media.wav(media.tone() * scale, kind=kind))
    assert error.code == "audio_too_loud"
    assert f"{20 * np.log10(0.5 * scale):.0f} dB above full scale" in error.message


def test_a_recording_a_little_above_full_scale_is_accepted():
    assert np.abs(read(media.wav(media.tone() * 8, kind="f32"))[0]).max() == pytest.approx(4, abs=0.01)


def voices(*weights):
    """Speech in channels of these weights."""
    samples, _ = media.speech()
    return np.concatenate([weight * samples for weight in weights])


@pytest.mark.parametrize("make", [media.wav, lambda x: media.m4a(x, 16_000)], ids=["wav", "aac"])
def test_channels_in_opposite_phase_do_not_cancel(make):
    track = load_audio(make(voices(1, -1)), Limits())
    speech = media.speech()[0][0]
    assert abs(np.corrcoef(track.wave[: len(speech)], speech[: len(track.wave)])[0, 1]) > 0.97
    [note] = track.notes
    assert note.code == "audio_channels_cancel"
    assert "first at 0.00 s" in note.message


@pytest.mark.parametrize("weights", [(1, 1), (1, 0), (1, -0.4), (0.3, 1)])
def test_other_channels_are_mixed_as_ever(weights):
    track = load_audio(media.wav(voices(*weights)), Limits())
    expected = voices(*weights).mean(axis=0)
    assert np.abs(track.wave - expected).max() < 1e-4
    assert not track.notes


def test_channels_that_cancel_for_a_while_are_replaced_there():
    speech = media.speech()[0]
    turned = np.where(np.arange(speech.shape[1]) < 32_000, speech, -speech)
    track = load_audio(media.wav(np.concatenate([speech, turned])), Limits())
    assert np.corrcoef(track.wave, speech[0])[0, 1] > 0.99
    assert "first at 2.00 s" in track.notes[0].message


def test_surround_whose_front_cancels_is_heard():
    silent = np.zeros_like(media.speech()[0])
    speech = media.speech()[0]
    track = load_audio(media.wav(np.concatenate([speech, -speech, silent, silent, silent, silent])), Limits())
    assert np.abs(track.wave).max() > 0.1
    assert "channel" in track.notes[0].message


@pytest.mark.parametrize("channels", [3, 9, 11, 13])
def test_any_number_of_channels_is_heard(channels):
    track = load_audio(media.wav(media.tone(440, 0.5, 48_000, channels), 48_000), Limits())
    assert np.abs(track.wave).max() > 0.3
