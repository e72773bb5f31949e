"""Files on local disk and in object storage, and model folders that come from there."""
