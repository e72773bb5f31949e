"""Floatcast from Python: `import floatcast`.

table = floatcast.render(rows, output="out")              a job, as `floatcast render` runs it
ds = floatcast.render_dataset(ds, output="s3://...")      our stages in a graph of your own on Ray Data
model = floatcast.open_model("pocket")                    a portrait, speech, motion and frames, one by one
"""

from pipeline import __version__
from pipeline.api.model import Model, Speech, open_model
from pipeline.api.rendering import render, render_dataset
from pipeline.common.errors import ClipError, ClusterError, ManifestError, RefusedError, StorageError

__all__ = [
    "ClipError",
    "ClusterError",
    "ManifestError",
    "Model",
    "RefusedError",
    "Speech",
    "StorageError",
    "__version__",
    "open_model",
    "render",
    "render_dataset",
]
