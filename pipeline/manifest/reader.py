"""The manifest: rows of Parquet, CSV or JSON -> validated clips (`pipeline.manifest.clip`) and rejected rows.

A wrong value rejects its row, with the row number, the column and the allowed values. A row without any value is left
out. A table that cannot be a manifest at all (unreadable, empty, or without a required column) is refused as a whole.
"""

REQUIRED = ("image", "audio")
