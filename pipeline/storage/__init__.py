"""Files on local disk and in object storage, and model folders from both."""
