"""Emotion predicted from the portrait (I2E), the paper's alternative to the emotion predicted from speech.

A face classifier in Hugging Face layout, with `preprocessor_config.json` next to it. Its labels must be `EMOTIONS`, in
any order; the public classifiers trained on FER-2013 have exactly these. The project includes none.
"""

import json
from pathlib import Path

import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AutoModelForImageClassification

from models.config import EMOTIONS


class FaceEmotionEncoder(nn.Module):
    """Cropped portrait -> w_e."""

    def __init__(self, folder: str | Path) -> None:
        """Raises ValueError if the labels differ from ours, and OSError if files are missing."""
        super().__init__()
        self.network = AutoModelForImageClassification.from_pretrained(folder)
        labels = [str(self.network.config.id2label[i]).lower() for i in range(self.network.config.num_labels)]
        if sorted(labels) != sorted(EMOTIONS):
            raise ValueError(f"{folder} classifies {', '.join(labels)}; the model needs {', '.join(EMOTIONS)}")
        self.order = [labels.index(name) for name in EMOTIONS]
        values = json.loads((Path(folder) / "preprocessor_config.json").read_text())
        size = values.get("size", 224)
        self.side = int(size if isinstance(size, int) else size.get("height") or size["shortest_edge"])
        self.mean = [float(v) for v in values.get("image_mean", [0.5] * 3)]
        self.std = [float(v) for v in values.get("image_std", [0.5] * 3)]

    def forward(self, image: Tensor) -> Tensor:
        """(B,3,S,S) in [-1,1] -> probabilities w_e (B,7) in the order of `EMOTIONS`."""
        small = F.interpolate(image, size=(self.side, self.side), mode="bilinear", antialias=True)
        mean, std = (small.new_tensor(values).view(1, 3, 1, 1) for values in (self.mean, self.std))
        logits = self.network(pixel_values=((small + 1) / 2 - mean) / std).logits
        return logits.float().softmax(-1)[:, self.order]
