"""Whether held-out clips say what training clips say: two speakers may share a sentence from the common stock."""

from collections.abc import Iterator

import numpy as np
import pyarrow.parquet as pq

from pipeline.evaluation.bootstrap import mean
from pipeline.research.study.clips import StudyError, speaker_of
from pipeline.research.study.metric import Metric
from pipeline.storage.objects import filesystem
from pipeline.storage.uris import join
from pipeline.training_data.shards import Shards

TRUTH = "truth"
"""Folder of `pipeline.research.corpus.stage`, whose module needs what the corpus is drawn with."""


def texts_of(corpus: str, shards: Shards) -> Iterator[tuple[str, str]]:
    """(speaker, text) of each clip. Raises StudyError truth_missing if the corpus does not contain it."""
    known: dict[str, dict[str, str]] = {}
    for index, row in enumerate(shards.rows):
        folder, stem = row["source"].split("/")[-2], row["source"].rsplit("/", 1)[-1].rsplit(".", 1)[0]
        if folder not in known:
            known[folder] = _truth(join(corpus, TRUTH, f"{folder}.parquet"))
        if stem not in known[folder]:
            raise StudyError("truth_missing", f"{corpus} does not contain {stem}: give the corpus that was prepared")
        yield speaker_of(shards, index), known[folder][stem]


def _truth(uri: str) -> dict[str, str]:
    fs, path = filesystem(uri)
    try:
        with fs.open(path, "rb") as file:
            rows = pq.read_table(file, columns=["clip_id", "text"]).to_pylist()
    except FileNotFoundError:
        raise StudyError("truth_missing", f"{uri} does not exist: give the corpus that was prepared") from None
    return {row["clip_id"]: row["text"] for row in rows}


def text_metric(corpus: str, train: Shards, held_out: Shards, seed: int = 0) -> Metric:
    """Share of held-out clips whose text occurs in no training clip."""
    said = {text for _, text in texts_of(corpus, train)}
    found = list(texts_of(corpus, held_out))
    new = np.array([float(text not in said) for _, text in found])
    estimate = mean(new, [speaker for speaker, _ in found], seed)
    return Metric("corpus.new_texts", "held-out clips whose sentence occurs in no training clip", estimate, "share")
