"""The report page of a rendering job."""
