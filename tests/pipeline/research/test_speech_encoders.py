# Letters of the IPA look like others, and are meant.
# ruff: noqa: RUF001

import math

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import save_file

from models import EMOTIONS
from models.encoders import load_content_encoder
from models.speech import normalize_waveform
from pipeline.common.options import SettingError
from pipeline.research.corpus.speech import compressed
from pipeline.research.corpus.stage import SCHEMA
from pipeline.research.corpus.voice import Voice
from pipeline.research.speech_encoders import emotions, phonemes, voices
from pipeline.research.speech_encoders.corpus import Clip, CorpusError, letters_said, read_corpus, spelled
from pipeline.research.speech_encoders.networks import load_phoneme_model, new_emotion_encoder, new_phoneme_model
from pipeline.research.speech_encoders.pieces import balanced, distorted, draw_pieces, revoiced, targets, whole_targets
from pipeline.research.speech_encoders.settings import SizeSettings
from pipeline.research.speech_encoders.training import OtherRunError, Run, learning_rate
from pipeline.training_data.settings import SplitSettings
from pipeline.training_data.splits import split_of
from tests.spoken import write_corpus

SMALL = SizeSettings(hidden=16, layers=2, heads=2, channels=[8] * 7)


def clip(starts, symbols, seconds=1.0, wave=None, **values):
    known = {
        "clip_id": "c",
        "speaker": "s",
        "language": "en",
        "emotion": "sad",
        "intensity": 0.7,
        "voice": "espeak",
    } | values
    wave = np.zeros(round(seconds * 16_000), np.int16) if wave is None else wave
    return Clip(**known, wave=wave, starts=np.array(starts), symbols=tuple(symbols))


# --- Labels ----------------------------------------------------------------------------------------------------


def test_a_diphthong_is_two_letters_and_a_mark_alone_belongs_to_the_sound_before():
    rows = [("", 0.0, 0.1), ("ˈaɪ", 0.1, 0.3), ("ʲ", 0.3, 0.4), ("tː", 0.4, 0.5)]
    starts, symbols = spelled([{"symbol": s, "start": start, "end": end} for s, start, end in rows])
    assert symbols == ("", "", "a", "ɪ", "t")
    assert starts == pytest.approx([0, 0, 0.1, 0.2, 0.4])


def test_transcripts_join_equal_neighbours_but_not_across_a_pause():
    assert letters_said(["", "a", "a", "t", "", "t", "t", ""]) == ["a", "t", "t"]


def test_a_frame_is_shared_by_its_sounds():
    # a from 10 ms on: three quarters of the first frame of 40 ms; i from 80 ms on: all of the third
    shares = whole_targets(clip([0.0, 0.01, 0.08], ["", "a", "i"], seconds=0.12), ["", "a", "i"])
    assert shares.tolist() == [[0.25, 0.75, 0], [0, 1, 0], [0, 0, 1]]


def test_labels_stay_with_the_sound_when_a_piece_is_faster_and_cut_anywhere():
    wave = np.zeros(32_000, np.int16)
    wave[12_345:25_000] = 10_000  # loud where the label says a
    one = clip([0.0, 12_345 / 16_000, 25_000 / 16_000], ["", "a", ""], wave=wave)
    for step in range(20):
        clips, waves, moments = draw_pieces([one], 2, 1.2, 0.3, seed=0, step=step)
        loud = waves.reshape(2, 30, 640).mean(-1) / (10_000 / 2**15)
        assert (targets(clips, moments, ["", "a"])[..., 1] - loud).abs().max() < 1 / 8 + 0.01


def test_natural_voices_may_be_drawn_more_often():
    clips = [clip([0.0], [""], voice=name) for name in ["espeak"] * 8 + ["kokoro:one"] * 2]
    assert [one.voice for one in balanced(clips, 0)] == [one.voice for one in clips]
    assert sorted(one.voice for one in balanced(clips, 0.5)) == ["espeak"] * 8 + ["kokoro:one"] * 8
    assert balanced(clips[:8], 0.5) == clips[:8]


def test_a_clip_shorter_than_a_piece_has_silence_around():
    short = clip([0.0], ["a"], wave=np.full(6_400, 9_000, np.int16))
    clips, waves, moments = draw_pieces([short], 4, 1.0, 0.0, seed=0, step=0)
    assert ((waves > 0.1).sum(-1) - 6_400).abs().max() <= 2
    assert targets(clips, moments, ["", "a"])[..., 1].sum(1).tolist() == pytest.approx([10] * 4, abs=0.25)


def test_pieces_and_their_distortion_are_functions_of_seed_and_step():
    one = clip([0.0], ["a"], wave=np.random.default_rng(0).integers(-9_000, 9_000, 32_000, dtype=np.int16))

    def made(seed, step):
        return distorted(draw_pieces([one], 2, 1.0, 0.2, seed, step)[1], seed, step)

    assert torch.equal(made(1, 5), made(1, 5))
    assert not torch.equal(made(1, 5), made(1, 6))
    assert not torch.equal(made(1, 5), made(2, 5))


def test_distortion_leaves_speech_at_unit_level_with_noise_at_most_3_db_below():
    waves = torch.sin(torch.arange(16_000) * 0.3).repeat(32, 1) * 0.01
    noisy = distorted(waves, 0, 0)
    power = noisy.square().mean(-1)
    assert power.min() > 0.98
    assert power.max() < 1 + 10**-0.3 + 0.05


def test_other_vocal_tracts_and_masks_change_waves_and_leave_their_length():
    torch.manual_seed(0)
    waves = torch.randn(3, 8000)
    assert torch.equal(revoiced(waves, 0, 0, tract=0, masks=0), waves)
    others = revoiced(waves, 0, 0, tract=0.15, masks=0)
    assert others.shape == waves.shape
    assert torch.equal(others, revoiced(waves, 0, 0, tract=0.15, masks=0))
    assert not torch.equal(others, revoiced(waves, 0, 1, tract=0.15, masks=0))
    masked = revoiced(waves, 0, 0, tract=0, masks=1)
    assert (masked.square().mean(1) < 0.98 * waves.square().mean(1)).all()
    quiet = masked.reshape(3, -1, 100).square().mean(2).amin(1)
    assert (quiet < 0.1).any()  # a moment without sound


def test_pieces_that_are_not_distorted_come_back_as_they_are():
    waves = torch.randn(64, 8_000, generator=torch.Generator().manual_seed(0)) * 0.01
    clean = normalize_waveform(waves)
    assert torch.equal(distorted(waves, 0, 0, share=0), clean)
    some = distorted(waves, 0, 0, share=0.5)
    kept = (some == clean).all(-1)
    assert 20 <= kept.sum() <= 44
    assert torch.equal(some[~kept], distorted(waves, 0, 0)[~kept])


def test_edit_distance_counts_insertions_deletions_and_substitutions():
    assert phonemes.edit_distance("kitten", "sitting") == 3
    assert phonemes.edit_distance("", "abc") == 3
    assert phonemes.edit_distance("abc", "") == 3
    assert phonemes.edit_distance("abc", "abc") == 0


def test_error_rates_are_of_all_letters_of_a_speaker_and_intervals_over_speakers():
    def heard(speaker, errors, said):
        return phonemes.Heard(clip([0.0], ["a"], speaker=speaker), 0.5, errors, said)

    both = phonemes.summary([heard("x", 1, 10), heard("x", 5, 20), heard("y", 0, 5)], seed=0)
    assert both["phoneme_error_rate"] == pytest.approx((6 / 30 + 0) / 2)
    assert both["phoneme_error_rate_interval"] == pytest.approx((0.0, 0.2))
    assert phonemes.summary([heard("x", 1, 10)], seed=0)["phoneme_error_rate_interval"] == (None, None)


def test_emotions_are_counted_by_what_is_true_and_by_strength():
    clips = [clip([0.0], ["a"], emotion=name, intensity=i) for name, i in (("sad", 0.9), ("sad", 0.7), ("fear", 0.9))]
    sad, fear = EMOTIONS.index("sad"), EMOTIONS.index("fear")
    found = emotions.summary(clips, np.array([sad, fear, fear]), seed=0)
    assert found["accuracy"] == pytest.approx(2 / 3)
    assert found["accuracy_intensity_from_0.8"] == 1
    assert found["accuracy_intensity_below_0.8"] == 0
    assert found["confusion"][sad][sad] == found["confusion"][sad][fear] == found["confusion"][fear][fear] == 1


def test_pitch_targets_are_in_octaves_where_there_is_voice():
    hertz = np.array([np.nan, 150.0, 300.0])
    moments = (np.arange(4)[:, None] + np.array([0.25, 0.5, 0.75])) / 25  # the fourth frame is beyond the clip
    octaves = emotions.pitch_targets([hertz], moments[None])[0]
    assert octaves.isnan().tolist() == [True, False, False, True]
    assert octaves[1:3].tolist() == [0.0, 1.0]


def test_the_loss_of_pitch_counts_voiced_frames_alone():
    octaves = torch.tensor([[float("nan"), 0.5, 1.0]])
    sure = torch.tensor([[[9.0, -50.0], [0.5, 50.0], [0.8, 50.0]]])
    flat = torch.zeros(1, len(EMOTIONS))
    loss = emotions.emotion_loss((flat, sure), torch.tensor([2]), octaves, 3.0)
    assert loss.item() == pytest.approx(math.log(7) + 3 * 0.2 / 2)


def test_a_sharper_encoder_raises_its_probabilities_to_a_power():
    encoder = new_emotion_encoder(SMALL, 0, None).eval()
    torch.nn.init.normal_(encoder.classifier["out_proj"].weight)
    wave = torch.randn(2, 8000)
    with torch.no_grad():
        before = encoder(wave)
        emotions.sharpen(encoder, 3.0)
        after = encoder(wave)
    expected = before**3
    torch.testing.assert_close(after, expected / expected.sum(-1, keepdim=True))
    assert (after.max(-1).values > before.max(-1).values).all()


def test_training_and_classifying_see_the_same_emotion_logits():
    encoder = new_emotion_encoder(SMALL, 0, None).eval()
    wave = torch.randn(2, 6_400)
    logits, frames = emotions.EmotionModel(encoder).eval()(wave)
    assert torch.allclose(logits.softmax(-1), encoder(wave), atol=1e-6)
    assert frames.shape == (2, 10, 2)


# --- Networks and training -------------------------------------------------------------------------------------


def test_every_second_vector_of_the_convolutions_sees_the_samples_of_its_frame():
    model = new_phoneme_model(SMALL, 3, seed=0).content.wav2vec2
    assert model.feature_extractor(torch.zeros(1, 640 * 7)).shape[-1] == 2 * 7 - 1
    field, stride = 1, 1
    for kernel, step in zip(model.config.conv_kernel, model.config.conv_stride, strict=True):
        field, stride = field + (kernel - 1) * stride, stride * step
    assert (field, 2 * stride) == (640, 640)


def test_an_emotion_encoder_may_begin_with_what_the_content_encoder_knows():
    content = new_phoneme_model(SMALL, 3, seed=0).content
    copied, random = (new_emotion_encoder(SMALL, 0, start) for start in (content, None))
    weight = content.wav2vec2.encoder.layers[0].attention.k_proj.weight
    assert torch.equal(copied.wav2vec2.encoder.layers[0].attention.k_proj.weight, weight)
    assert not torch.equal(random.wav2vec2.encoder.layers[0].attention.k_proj.weight, weight)


def test_the_learning_rate_rises_in_a_line_and_falls_by_a_cosine():
    assert learning_rate(0, 100, 1.0) == pytest.approx(0.2)
    assert learning_rate(4, 100, 1.0) == pytest.approx(1.0)
    assert learning_rate(5 + 95 // 2, 100, 1.0) == pytest.approx(0.5 + 0.5 * math.cos(math.pi * 47 / 95))
    assert learning_rate(99, 100, 1.0) < 0.001


@pytest.mark.parametrize("output", ["disk", pytest.param("s3", marks=pytest.mark.slow)], indirect=True)
def test_a_run_that_resumes_from_a_checkpoint_has_the_losses_of_one_that_was_never_stopped(output):
    one = clip([0.0, 0.5], ["", "a"], wave=np.random.default_rng(0).integers(-9_000, 9_000, 32_000, dtype=np.int16))

    def run(name, stop_at=None):
        model, done = new_phoneme_model(SMALL, 2, seed=0), []

        def loss(step):
            if step == stop_at:
                raise KeyboardInterrupt
            clips, waves, moments = draw_pieces([one], 2, 0.4, 0.1, 0, step)
            value = phonemes.phoneme_loss(model(waves), targets(clips, moments, ["", "a"]), 0.3)
            done.append(value.item())
            return value

        found = Run("content", model, f"{output}/{name}", steps=6, highest=1e-3, seed=0, identity={"a": 1})
        found.resume()
        try:
            found.train(loss, lambda: {}, every=2)
        except KeyboardInterrupt:
            return done, found
        return done, found

    whole, first = run("whole")
    stopped, _ = run("stopped", stop_at=5)
    rest, second = run("stopped")  # the last checkpoint was after step 4
    assert stopped[:4] + rest == whole
    assert second.points == first.points
    for a, b in zip(first.module.parameters(), second.module.parameters(), strict=True):
        assert torch.equal(a, b)


def test_a_checkpoint_of_other_settings_is_refused(tmp_path):
    def run(identity):
        return Run("x", torch.nn.Linear(1, 1), str(tmp_path), steps=1, highest=1e-3, seed=0, identity=identity)

    run({"seed": 0}).save()
    run({"seed": 0}).resume()
    with pytest.raises(OtherRunError, match="give another output"):
        run({"seed": 1}).resume()


def test_the_head_that_was_kept_tells_what_the_whole_model_told(tmp_path):
    model = new_phoneme_model(SMALL, 3, seed=0).eval()
    model.content.wav2vec2.save_pretrained(tmp_path / "content_encoder")
    save_file(model.heads[-1].state_dict(), tmp_path / "head.safetensors")
    (tmp_path / "phonemes.json").write_text('["", "a", "i"]')
    files = (tmp_path / "content_encoder", tmp_path / "head.safetensors", tmp_path / "phonemes.json")
    loaded, symbols = load_phoneme_model(*files)
    wave = torch.randn(1, 6_400)
    assert symbols == ["", "a", "i"]
    assert torch.equal(loaded(wave)[-1], model(wave)[-1])
    assert load_content_encoder(files[0]).dim == 32


@pytest.mark.parametrize(
    ("values", "key"), [({"hidden": 20}, "hidden"), ({"heads": 5}, "hidden"), ({"channels": [8] * 6}, "channels")]
)
def test_sizes_that_do_not_fit_are_refused(values, key):
    with pytest.raises(SettingError, match=key):
        SizeSettings(**values)


# --- The corpus ------------------------------------------------------------------------------------------------


def test_the_speakers_that_prepare_holds_out_are_not_trained_on(tmp_path):
    split = SplitSettings(validation=0.2, test=0.2)
    corpus = read_corpus(str(write_corpus(tmp_path, 6, clips=1, sounds=2)), split)
    names = {f"speaker-{number:05d}" for number in range(6)}
    assert {clip.speaker for clip in corpus.train} == {name for name in names if split_of(name, split) == "train"}
    assert {clip.speaker for clip in corpus.held_out} == {name for name in names if split_of(name, split) != "train"}
    assert corpus.symbols == ("", "a", "i", "u")


def test_a_natural_voice_may_be_held_out_with_all_its_speakers_and_sound_may_be_a_file_of_its_own(tmp_path):
    folder = write_corpus(tmp_path, 6, clips=1, sounds=2)
    table = folder / "truth" / "speaker-00002.parquet"
    [row] = pq.read_table(table).to_pylist()
    wave = (np.sin(np.arange(row["frames"] * 640) / 9) / 2).astype(np.float32)
    (folder / "speech.ogg").write_bytes(compressed(wave, 0))
    row |= {"voice": "kokoro:one", "sound": "speech.ogg"}
    pq.write_table(pa.Table.from_pylist([row], schema=SCHEMA), table)
    split = SplitSettings(validation=0.2, test=0.2)
    trained = [clip.speaker for clip in read_corpus(str(folder), split).train]
    corpus = read_corpus(str(folder), split, held_voices=["kokoro:one"])
    assert [clip.speaker for clip in corpus.train] == [name for name in trained if name != "speaker-00002"]
    [one] = corpus.of_voices(natural=True)
    assert np.corrcoef(one.wave, wave)[0, 1] > 0.9
    assert {clip.voice for clip in corpus.of_voices(natural=False)} == {"espeak"}
    heard = [phonemes.Heard(clip, 1.0, 0, 1) for clip in corpus.held_out]
    assert set(phonemes.by_voice(heard, 0)) == {"espeak", "kokoro:one, en"}


def test_speakers_of_further_corpora_are_other_people(tmp_path):
    split = SplitSettings(validation=0.2, test=0.2)
    one, two = (str(write_corpus(tmp_path / name, 4, clips=1, sounds=2)) for name in ("one", "two"))
    alone, both = read_corpus(one, split), read_corpus(one, split, more=[two])
    assert {clip.speaker for clip in both.train} == {
        prefix + clip.speaker for clip in alone.train for prefix in ("", "1/")
    }
    assert len(both.held_out) == 2 * len(alone.held_out)
    with pytest.raises(CorpusError, match="three contains no speakers"):
        read_corpus(one, split, more=[str(tmp_path / "three")])


def test_sound_and_labels_of_a_video_are_in_step(tmp_path):
    corpus = read_corpus(str(write_corpus(tmp_path, 2, clips=1)), SplitSettings(validation=0.5))
    for one in [*corpus.train, *corpus.held_out]:
        level = one.wave.reshape(-1, 640).astype(float).std(1)
        assert len(level) == 42  # 0.2 s, eight sounds of 0.16 s, 0.2 s
        voiced = whole_targets(one, corpus.symbols)[:, 0].numpy() == 0
        assert level[voiced].min() > 2 * level[~voiced].max()


def test_a_folder_without_speakers_and_a_video_that_is_missing_are_refused(tmp_path):
    with pytest.raises(CorpusError, match=r"contains no speakers .*jobs\.research\.corpus"):
        read_corpus(str(tmp_path), SplitSettings())
    folder = write_corpus(tmp_path / "corpus", 1, clips=1)
    (folder / "videos" / "speaker-00000" / "speaker-00000-000.mp4").unlink()
    with pytest.raises(CorpusError, match="missing"):
        read_corpus(str(folder), SplitSettings())


def test_one_speaker_alone_cannot_be_measured(tmp_path):
    with pytest.raises(CorpusError, match="is held out"):
        read_corpus(str(write_corpus(tmp_path, 1, clips=1)), SplitSettings())


# --- Voices ----------------------------------------------------------------------------------------------------


def test_the_letters_of_the_recorded_sentences_are_those_that_espeak_says():
    for sentence in voices.SENTENCES:
        assert "".join(voices.pronounced(sentence.text, Voice(accent="en-us"))[0]) == sentence.letters
