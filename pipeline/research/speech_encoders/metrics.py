"""Metrics of the two encoders: errors on held-out speakers and on recordings of people, with their floors."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from models.speech_encoders import EmotionEncoder
from pipeline.research.speech_encoders import emotions, phonemes, voices
from pipeline.research.speech_encoders.corpus import Corpus
from pipeline.research.speech_encoders.networks import PhonemeModel, new_phoneme_model
from pipeline.research.speech_encoders.settings import EncoderSettings

NOTE = (
    "The encoders were trained and measured on synthetic speech: espeak-ng's voices and, where the corpus has them, "
    "voices that were learned from recordings of people, all with emotions that are set by hand. Held-out speakers "
    "have voices that do not occur in training, but they say sentences that other voices say there."
)


def measure(
    settings: EncoderSettings,
    corpus: Corpus,
    content: PhonemeModel,
    emotion: EmotionEncoder,
    symbols: Sequence[str],
    recordings: Path,
) -> dict[str, Any]:
    """Plain values for `figures.json` and the page; `recordings` is the folder with the recordings of people."""
    held = corpus.held_out
    heard = [phonemes.hear(content, clip, symbols) for clip in held]
    random = new_phoneme_model(settings.size, len(symbols), settings.seed).eval()
    wav2vec2 = content.content.wav2vec2
    return {
        "corpus_note": NOTE,
        "clips": {"train": len(corpus.train), "held_out": len(held)},
        "content": {
            "parameters": sum(p.numel() for p in wav2vec2.parameters()),
            "dim": content.content.dim,
            "symbols": list(symbols),
            "all": phonemes.summary(heard, settings.seed),
            "languages": phonemes.by_language(heard, settings.seed),
            "voices": phonemes.by_voice(heard, settings.seed),
            "probe": phonemes.probe(content.content, corpus.train, held, symbols, settings.seed),
            "probe_untrained": phonemes.probe(random.content, corpus.train, held, symbols, settings.seed),
            "most_frequent": phonemes.most_frequent(corpus.train, held, symbols, settings.seed),
        },
        "people": voices.hear_people(content, symbols, recordings, settings.seed),
        "new_sentences": voices.hear_new_sentences(content, symbols),
        "emotion": {
            "parameters": sum(p.numel() for p in emotion.parameters()),
            "start": settings.emotion.start,
            **emotions.summary(held, emotions.classify(emotion, held), settings.seed),
        },
    }
