"""What `jobs.research.encoders` prints at its end."""

from typing import Any

from models.model_folder import CONTENT_FOLDER, EMOTION_FOLDER
from pipeline.common.progress import duration_text
from pipeline.research.speech_encoders.page import PEOPLE_NOTE, share
from pipeline.storage.uris import join

PAGE = "encoders.html"


def print_figures(metrics: dict[str, Any], output: str, seconds: float) -> None:
    """Print the figures of `figures.json`, and what comes next; `seconds` is how long it took."""
    content, emotion = metrics["content"], metrics["emotion"]
    print(f"\n{metrics['corpus_note']}\n")
    print(f"{'held-out speakers':>26}  {'frame accuracy':<26} phoneme error rate")
    rows = {"all languages": content["all"], **content["languages"], **content["voices"]}
    rows |= {"linear probe": content["probe"]}
    rows |= {"probe on a random encoder": content["probe_untrained"]}
    rows |= {f"always {content['most_frequent']['letter']}": content["most_frequent"]}
    for name, one in rows.items():
        right = share(one["frame_accuracy"], one["frame_accuracy_interval"])
        wrong = share(one["phoneme_error_rate"], one["phoneme_error_rate_interval"])
        print(f"{name:>26}  {right:<26} {wrong}")
    print("\nrecordings of people, never used for training:")
    for one in metrics["people"]:
        if "said" in one:
            rate, floor = one["phoneme_error_rate"], one["phoneme_error_rate_shuffled"]
            as_good = share(one["shuffled_as_good"])
            print(
                f"  {one['file']}: error rate {share(rate)}; {share(floor)} with the phonemes in random order, "
                f"{as_good} random orders as good"
            )
            print(f"    spoken      {one['said']}")
        else:
            print(f"  {one['file']}: no transcript")
        print(f"    recognised  {one['heard']}")
    print(f"  {PEOPLE_NOTE}")
    new = metrics["new_sentences"]
    print(f"  the same sentences in new voices of espeak-ng: {new.get('note') or share(new['phoneme_error_rate'])}")
    print(
        f"\nemotions: {share(emotion['accuracy'], emotion['accuracy_interval'])}, chance level "
        f"{share(emotion['chance'])}"
    )
    width = max(map(len, emotion["emotions"]))
    for name, counts in zip(emotion["emotions"], emotion["confusion"], strict=True):
        print(f"  {name:>{width}}  " + " ".join(f"{count:4d}" for count in counts))
    folders = [join(output, name) for name in (CONTENT_FOLDER, EMOTION_FOLDER)]
    print(f"\n{'time':>8}  {duration_text(seconds)}")
    print(f"{'content':>8}  {folders[0]}, {content['parameters']:,} parameters, content_dim {content['dim']}")
    print(f"{'emotion':>8}  {folders[1]}, {emotion['parameters']:,} parameters")
    print(f"{'page':>8}  {join(output, PAGE)}")
    print(
        f"{'next':>8}  python -m jobs.train stage=autoencoder preset=pocket content_encoder={folders[0]} "
        f"emotion_encoder={folders[1]} data=... output=... optimiser.steps=..."
    )
