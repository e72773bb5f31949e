"""Head poses from tables and driving videos: what they say, and each way in which a file of them can be wrong."""

import io
import itertools
import struct
from fractions import Fraction

import av
import numpy as np
import pytest
from PIL import Image

from pipeline.common.errors import ClipError
from pipeline.common.limits import Limits
from pipeline.face.crop import SCALE, crop_square
from pipeline.face.detector import FaceDetector
from pipeline.face.head_pose import head_pose
from pipeline.face.pose_input import load_pose
from pipeline.media.audio import load_audio
from tests import media, reels, synthetic_videos

FRAMES = 50
FAST_VP9 = {"deadline": "realtime", "cpu-used": "8"}


@pytest.fixture(scope="module")
def detector():
    return FaceDetector()


def poses(count=FRAMES):
    """A curve of plausible poses (count,6)."""
    time = np.arange(count)[:, None] / 25
    return 0.2 + 0.1 * np.sin(time + np.arange(6))


def npy(values, **options):
    buffer = io.BytesIO()
    np.save(buffer, values, **options)
    return buffer.getvalue()


def csv(values, header=""):
    return (header + "\n".join(",".join(map(repr, row)) for row in np.asarray(values).tolist())).encode()


def load(data, name="pose.npy", frames=FRAMES, limits=None, detector=None):
    return load_pose(data, name, frames, limits or Limits(), detector)


def refusal(*arguments, **options):
    with pytest.raises(ClipError) as caught:
        load(*arguments, **options)
    assert caught.value.status == "rejected"
    return caught.value.code, caught.value.message


# --- Tables ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["<f8", ">f4", "<f2", "float32 by column"])
def test_an_array_of_any_float_is_taken_as_it_is(kind):
    values = poses()
    given = np.asfortranarray(values.astype(np.float32)) if "column" in kind else values.astype(kind)
    found = load(npy(given))
    assert (found.shape, found.dtype) == ((FRAMES, 6), np.float32)
    np.testing.assert_array_equal(found, given.astype(np.float32))


@pytest.mark.parametrize("header", ["", "yaw,pitch,roll,x,y,size\n", "\ufeffyaw, pitch, roll, x, y, size\r\n"])
def test_a_csv_with_names_or_without_is_the_same_array(header):
    np.testing.assert_array_equal(load(csv(poses(), header), "Pose.CSV"), poses().astype(np.float32))


@pytest.mark.parametrize("divider", [";", "\t", " ; "])
def test_a_table_of_a_spreadsheet_in_another_language_is_the_same_array(divider):
    lines = [divider.join(f"{value:.6f}" for value in row) for row in poses()]
    text = "\n".join(["yaw;pitch;roll;x;y;size".replace(";", divider), *lines])
    found = load((text.replace(".", ",") if ";" in divider else text).encode(), "a.csv")
    np.testing.assert_allclose(found, poses(), atol=1e-6)


def test_longer_poses_are_cut_and_half_a_second_at_the_end_is_filled_with_the_last():
    np.testing.assert_array_equal(load(npy(poses(80))), poses(80)[:FRAMES].astype(np.float32))
    filled = load(npy(poses(FRAMES - 12)))
    np.testing.assert_array_equal(filled[: FRAMES - 12], poses(FRAMES - 12).astype(np.float32))
    assert (filled[FRAMES - 12 :] == filled[FRAMES - 13]).all()


def test_more_than_half_a_second_short_is_refused_with_both_lengths():
    code, message = refusal(npy(poses(FRAMES - 13)))
    assert code == "pose_too_short"
    assert "poses for 1.48 s, but the audio lasts 2.00 s" in message


def test_poses_may_end_with_the_audio_if_silence_follows():
    held = load_pose(npy(poses(30)), "pose.npy", FRAMES, Limits(), None, 40)
    assert held.shape == (FRAMES, 6)
    assert (held[30:] == held[29]).all()
    with pytest.raises(ClipError, match=r"poses for 1.20 s, but the audio lasts 1.72 s"):
        load_pose(npy(poses(30)), "pose.npy", FRAMES, Limits(), None, 43)
    whole = load_pose(npy(poses()), "pose.npy", FRAMES, Limits(), None, 40)
    np.testing.assert_array_equal(whole, poses().astype(np.float32))


def changed(column, value):
    values = poses()
    values[7, column] = value
    return values


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        (changed(0, np.nan), "pose 7 contains NaN"),
        (changed(5, np.inf), "pose 7 contains NaN or infinite"),
        (changed(1, 20.0), "must be in radians"),
        (changed(3, 200.0), "must be shares of the frame's side"),
        (changed(5, 0.0), "must be above 0"),
        (poses()[:, :5], "instead of"),
        (poses()[:0], "instead of (T, 6)"),
    ],
)
def test_numbers_that_are_no_poses_are_refused_whatever_the_table(values, problem):
    for data, name in ((npy(values), "a.npy"), (csv(values), "a.csv")):
        code, message = refusal(data, name)
        assert code == "pose_unreadable"
        assert problem in message or (not len(values) and "it contains no numbers" in message)


def huge_npy():
    """A header that promises 10^15 poses, and no number behind it."""
    header = repr({"descr": "<f8", "fortran_order": False, "shape": (10**15, 6)}).encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (media.TEXT, "not an .npy file"),
        (b"", "not an .npy file"),
        (npy(poses())[:-8], "ends before its last number"),
        (huge_npy(), "ends before its last number"),
        (huge_npy().replace(b"(10000", b"((0000"), "not an .npy file"),
        (npy(np.arange(300).reshape(50, 6)), "instead of a two-dimensional array of floats"),
        (npy(poses().reshape(FRAMES, 2, 3)), "instead of a two-dimensional array of floats"),
        (npy(np.array([[print] * 6] * FRAMES), allow_pickle=True), "instead of a two-dimensional array of floats"),
    ],
    ids=["text", "nothing", "cut", "huge", "damaged header", "integers", "three axes", "a pickle"],
)
def test_an_npy_file_that_is_invalid_is_refused_before_memory_is_taken_or_a_pickle_read(data, problem):
    code, message = refusal(data)
    assert code == "pose_unreadable"
    assert problem in message


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"pitch,yaw,roll,x,y,size\n0,0,0,0,0,1\n", "line 1: 'pitch' is not a number"),
        (b"0,0,0,0,0,1\n\n0,0," + b"x" * 100_000 + b",0,0,1", f"line 3: '{'x' * 20}' is not a number"),
        (b"yaw,pitch,roll,x,y,size\n", "it contains no numbers"),
        (b"0,0,0,0,0,1\n0,0,0,0\n", "line 2 has 4 columns"),
        (b"0,0,0,0,0,\xff\n", "byte 10 is not UTF-8 text"),
    ],
)
def test_a_csv_that_is_no_table_of_poses_is_refused_with_its_columns(data, problem):
    code, message = refusal(data, "a.csv")
    assert code == "pose_unreadable"
    assert problem in message
    assert "yaw, pitch, roll, x, y, size" in message
    assert len(message) < 300


def test_a_table_longer_than_the_longest_sound_is_refused():
    limits = Limits(max_audio_minutes=2 / 60)
    assert len(load(npy(poses(50)), limits=limits)) == FRAMES
    for data, name in ((npy(poses(51)), "a.npy"), (csv(poses(51)), "a.csv"), (b"0" * 30_000, "a.npy")):
        code, message = refusal(data, name, limits=limits)
        assert code == "pose_too_large"
        assert "limits.max_audio_minutes" in message


# --- Videos ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def driving(tmp_path_factory):
    """Two seconds of a head that sways, as MP4 at 25 fps."""
    path = tmp_path_factory.mktemp("film") / "driving.mp4"
    made = synthetic_videos.SyntheticVideo(wave=synthetic_videos.speech(FRAMES / synthetic_videos.FPS))
    made.write(path)
    return made, path.read_bytes()


def encoded(pictures, times, codec="libx264", container="mp4", aspect=None):
    """RGB pictures at `times` in seconds as a file."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=container) as file:
        stream = file.add_stream(codec, rate=25, options=FAST_VP9 if "vp9" in codec else {})
        stream.time_base = stream.codec_context.time_base = Fraction(1, 1000)
        stream.pix_fmt = "yuv420p"
        for picture, time in zip(pictures, times, strict=True):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            if not stream.codec_context.is_open:
                stream.width, stream.height = frame.width, frame.height
                if aspect:
                    stream.codec_context.sample_aspect_ratio = aspect
            frame.pts, frame.time_base = round(time * 1000), Fraction(1, 1000)
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    return buffer.getvalue()


def test_a_driving_video_gives_the_curve_of_its_head(driving, detector):
    _, data = driving
    found = load(data, "driving.mp4", detector=detector)
    assert (found.shape, found.dtype) == ((FRAMES, 6), np.float32)
    number = np.arange(FRAMES)
    sway, lean = np.sin(number / 7), np.sin(number / 11)
    # `SyntheticVideo.pictures` moves where each pixel is taken from, so the head goes the other way.
    assert np.corrcoef(found[:, 3], -sway)[0, 1] > 0.97
    assert np.corrcoef(found[:, 2], lean)[0, 1] > 0.95
    assert np.ptp(found[:, 3]) == pytest.approx(np.ptp(sway) / 100, rel=0.3)  # a hundredth of the picture each way
    assert np.degrees(np.ptp(found[:, 2])) == pytest.approx(2 * np.ptp(lean), abs=1.2)


def test_the_poses_are_those_of_the_cropped_frames(driving, detector):
    """Around the median face, as a portrait is cropped; up to the landmarks' noise after another scaling."""
    made, data = driving
    found = load(data, "driving.mp4", detector=detector)
    with av.open(io.BytesIO(data)) as file:
        pictures = [frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)]
    faces = [detector.detect(picture)[0] for picture in pictures]
    box = tuple(np.median([face.box for face in faces], axis=0).tolist())
    for number in (0, 20, 49):
        square = crop_square(pictures[number], box, made.size, SCALE)
        expected = head_pose(detector.detect(square)[0].landmarks, made.size)
        np.testing.assert_allclose(found[number, :3], expected[:3], atol=np.radians(2))
        np.testing.assert_allclose(found[number, 3:], expected[3:], atol=0.01)


@pytest.mark.parametrize(("codec", "container", "name"), [("libvpx-vp9", "webm", "a.webm"), ("mpeg4", "mov", "a.mov")])
def test_other_codecs_and_frame_rates_give_the_same_curve_at_25_a_second(codec, container, name, driving, detector):
    made, data = driving
    expected = load(data, "driving.mp4", detector=detector)
    # 12.5 and then 50 pictures a second; every other one is at the time of a pose.
    pictures = list(made.pictures())
    shown = [*range(0, 24, 2), *sorted([*range(24, 50)] * 2)]
    times = [number / 25 for number in range(0, 24, 2)] + [24 / 25 + n / 50 for n in range(52)]
    other = load(encoded([pictures[n] for n in shown], times, codec, container), name, detector=detector)
    np.testing.assert_allclose(other[:, 3:5], expected[:, 3:5], atol=0.01)
    np.testing.assert_allclose(other[:, 2], expected[:, 2], atol=np.radians(1.5))


ROLL = np.radians(12)


def roll(seconds):
    """Radians, with the sign of `head_pose`."""
    return ROLL * np.sin(2 * np.pi * np.asarray(seconds) / 4)


def rolled(seconds):
    """The portrait, turned by that."""
    portrait = Image.fromarray(synthetic_videos.portrait())
    return np.asarray(portrait.rotate(-np.degrees(roll(seconds)), Image.Resampling.BILINEAR))


@pytest.mark.parametrize(("pictures_at", "sound_at"), [(0.0, 0.4), (0.4, 0.0), (0.2, 0.2)])
def test_poses_and_sound_of_one_film_count_from_the_same_moment(pictures_at, sound_at, detector, tmp_path):
    """The moment at which the first of them begins."""
    wave = np.zeros(16_000, np.float32)
    wave[8000:8033] = np.hanning(33)  # a click after half a second
    times = [Fraction(n, 25) + Fraction(str(pictures_at)) for n in range(30)]
    pictures = [rolled(float(time)) for time in times]
    path = reels.write(tmp_path / "a.mp4", pictures, wave, times=times, sound_at=sound_at)
    found = load(path.read_bytes(), "a.mp4", frames=25, detector=detector)
    with av.open(str(path)) as file:
        begins = file.start_time / av.time_base
    assert begins == pytest.approx(min(pictures_at, sound_at), abs=0.07)  # with the run-in of the sound's encoder
    shown = np.maximum(np.arange(25) / 25 + begins, pictures_at)
    apart = found[:, 2] - roll(shown)
    assert np.ptp(apart) < np.radians(1.2)  # the portrait's own roll is the same in all of them
    heard = load_audio(path.read_bytes(), Limits()).wave
    assert int(np.abs(heard).argmax()) / 16_000 + begins == pytest.approx(sound_at + 0.501, abs=0.002)


def grey(picture):
    return np.full_like(picture, 128)


def with_holes(made, *holes):
    """The video with grey pictures in each range, (first, behind the last)."""
    missing = {number for first, end in holes for number in range(first, end)}
    pictures = [grey(p) if number in missing else p for number, p in enumerate(made.pictures())]
    return encoded(pictures, [number / 25 for number in range(len(pictures))])


def test_a_face_lost_for_half_a_second_is_interpolated(driving, detector):
    made, _ = driving
    found = load(with_holes(made, (0, 3), (20, 30)), "a.mp4", detector=detector)
    assert (found[:4] == found[3]).all()
    between = np.linspace(found[19], found[30], 12)
    np.testing.assert_allclose(found[19:31], between, atol=1e-5)


@pytest.mark.parametrize(
    ("hole", "problem"),
    [((0, 15), "it starts without a face"), ((20, 34), "the face is lost at 0.76 s"), ((0, 50), "starts without")],
)
def test_a_face_lost_for_longer_is_refused_with_the_time(hole, problem, driving, detector):
    made, _ = driving
    code, message = refusal(with_holes(made, hole), "a.mp4", detector=detector)
    assert code == "face_not_found"
    assert problem in message


def test_what_comes_after_the_sound_does_not_matter(driving, detector):
    made, data = driving
    lost_later = with_holes(made, (31, 50))
    expected = load(data, "a.mp4", frames=30, detector=detector)
    np.testing.assert_allclose(load(lost_later, "a.mp4", frames=30, detector=detector), expected, atol=0.05)
    assert len(load(lost_later, "a.mp4", frames=40, detector=detector)) == 40  # 0.36 s to fill
    assert refusal(lost_later, "a.mp4", frames=48, detector=detector)[0] == "face_not_found"


def test_a_video_that_ends_too_early_is_refused(driving, detector):
    _, data = driving
    assert len(load(data, "a.mp4", frames=62, detector=detector)) == 62
    code, message = refusal(data, "a.mp4", frames=63, detector=detector)
    assert code == "pose_too_short"
    assert "poses for 2.00 s, but the audio lasts 2.52 s" in message


def test_frames_far_apart_are_refused(driving, detector):
    made, _ = driving
    few = list(made.pictures())[:3]
    code, message = refusal(encoded(few, [0.0, 0.4, 1.4]), "a.mp4", detector=detector)
    assert code == "pose_unreadable"
    assert "there is no frame between 0.40 s and 1.40 s" in message


def test_a_loss_between_sparse_frames_is_measured_from_face_to_face(driving, detector):
    made, _ = driving
    one, two, three = list(made.pictures())[:3]
    for between, code in ((0.2, None), (0.4, "face_not_found")):
        data = encoded([one, grey(two), three], [0.0, between, 2 * between])
        frames = round(50 * between) + 1
        if code is None:
            assert len(load(data, "a.mp4", frames=frames, detector=detector)) == frames
        else:
            assert refusal(data, "a.mp4", frames=frames, detector=detector)[0] == code


def test_the_largest_face_is_followed_and_another_one_is_not_taken_for_it(detector):
    """Two people: when the larger one is hidden, the poses do not jump to the other."""
    face = synthetic_videos.portrait()
    small = crop_square(face, (0, 0, 256, 256), 128, 1.0)
    wide = np.full((256, 512, 3), 120, np.uint8)
    wide[:, :256], wide[64:192, 320:448] = face, small
    hidden = wide.copy()
    hidden[:, :256] = 120
    times = [number / 25 for number in range(FRAMES)]
    hides = [hidden if 20 <= number < 28 else wide for number in range(FRAMES)]
    found = load(encoded(hides, times), "a.mp4", detector=detector)
    assert np.abs(found[:, 3]).max() < 0.1
    away = [hidden if number >= 20 else wide for number in range(FRAMES)]
    assert refusal(encoded(away, times), "a.mp4", detector=detector)[0] == "face_not_found"


def turned_by_header(data, degrees):
    """An MP4 that says how it is to be turned when shown: the matrix of its first track (ISO 14496-12, tkhd)."""
    cos, sin = round(np.cos(np.radians(degrees))), round(np.sin(np.radians(degrees)))
    matrix = struct.pack(">9i", cos << 16, sin << 16, 0, -sin << 16, cos << 16, 0, 0, 0, 1 << 30)
    start = data.index(b"tkhd") + 4 + 40  # version 0: what is before the matrix has 40 bytes
    return data[:start] + matrix + data[start + 36 :]


def test_a_video_of_a_turned_phone_and_one_with_oblong_pixels_are_seen_upright(driving, detector):
    made, data = driving
    expected = load(data, "a.mp4", detector=detector)
    pictures, times = list(made.pictures()), [number / 25 for number in range(FRAMES)]
    lying = encoded([np.rot90(picture) for picture in pictures], times)
    turned = load(turned_by_header(lying, 90), "a.mp4", detector=detector)
    np.testing.assert_allclose(turned[:, 3:], expected[:, 3:], atol=0.01)
    assert np.abs(turned[:, 2] - expected[:, 2]).max() < np.radians(2)
    narrow = [picture[:, ::2] for picture in pictures]
    wide = load(encoded(narrow, times, aspect=Fraction(2, 1)), "a.mp4", detector=detector)
    np.testing.assert_allclose(wide[:, 5], expected[:, 5], atol=0.02)


@pytest.mark.parametrize("turn", [90, 180, 270])
def test_a_video_whose_head_is_not_upright_is_refused_with_the_way_to_turn_it(driving, turn, detector):
    pictures = [np.rot90(picture, turn // 90) for picture in itertools.islice(driving[0].pictures(), 3)]
    code, message = refusal(encoded(pictures, [0, 0.04, 0.08]), "a.mp4", detector=detector)
    assert code == "pose_unreadable"
    assert f"turn the video by {turn} degrees clockwise" in message


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (media.TEXT, "and not a video"),
        (b"#EXTM3U\n#EXTINF:1,\nfile:///etc/hostname\n", "and not a video"),
        (media.wav(media.tone()), "and not a video"),
        (media.m4a(media.tone(rate=48_000), 48_000), "contains no video stream"),
    ],
    ids=["text", "a playlist", "wav", "sound alone"],
)
def test_anything_but_a_video_is_refused(data, problem):
    code, message = refusal(data, "a.mp4")
    assert code == "pose_unreadable"
    assert problem in message


def test_a_video_cut_short_by_its_upload_is_refused(driving, detector):
    made, data = driving  # with its index at the beginning; the other one has it at the end
    assert refusal(media.cut(data, 0.5), "a.mp4", detector=detector)[0] == "pose_too_short"
    other = encoded(made.pictures(), [number / 25 for number in range(FRAMES)])
    assert refusal(media.cut(other, 0.5), "a.mp4", detector=detector)[0] == "pose_unreadable"


def test_decoders_that_are_not_on_the_list_are_not_used(driving):
    made, _ = driving
    pictures = list(made.pictures())[:2]
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mov") as file:
        stream = file.add_stream("png", rate=25)
        stream.width = stream.height = made.size
        stream.pix_fmt = "rgb24"
        for picture in pictures:
            file.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        file.mux(stream.encode(None))
    assert refusal(buffer.getvalue(), "a.mov")[0] == "pose_unreadable"


def test_frames_that_grow_behind_the_first_one_are_not_decoded(driving, detector):
    made, _ = driving
    small = list(made.pictures())[:20]
    large = [np.tile(picture, (4, 4, 1)) for picture in small[:5]]
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="webm") as file:
        stream = file.add_stream("libvpx-vp9", rate=25)
        stream.width = stream.height = made.size
        for pictures, start in ((small, 0), (large, len(small))):
            encoder = av.CodecContext.create("libvpx-vp9", "w")
            encoder.width = encoder.height = len(pictures[0])
            encoder.pix_fmt, encoder.time_base, encoder.framerate = "yuv420p", Fraction(1, 25), Fraction(25)
            encoder.options = FAST_VP9
            for number, picture in enumerate(pictures, start):
                frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
                frame.pts = number
                for packet in encoder.encode(frame):
                    packet.stream, packet.time_base = stream, Fraction(1, 25)
                    file.mux(packet)
            for packet in encoder.encode(None):
                packet.stream, packet.time_base = stream, Fraction(1, 25)
                file.mux(packet)
    data = buffer.getvalue()
    assert load(data, "a.webm", frames=30, detector=detector).shape == (30, 6)
    limits = Limits(max_image_megapixels=0.5)
    code, message = refusal(data, "a.webm", frames=30, detector=detector, limits=limits)
    assert code == "pose_unreadable"
    assert "limits.max_image_megapixels" in message


def test_pixels_and_minutes_are_bounded_before_they_are_decoded(driving):
    made, data = driving
    code, message = refusal(data, "a.mp4", limits=Limits(max_image_megapixels=0.06))
    assert code == "pose_too_large"
    assert "256 x 256 pixels" in message
    code, message = refusal(data, "a.mp4", limits=Limits(max_audio_minutes=1.9 / 60))
    assert code == "pose_too_large"
    assert "limits.max_audio_minutes" in message
    stretched = encoded(list(made.pictures())[:2], [0.0, 0.04], aspect=Fraction(200, 1))
    assert refusal(stretched, "a.mp4", limits=Limits(max_image_megapixels=1))[0] == "pose_too_large"
