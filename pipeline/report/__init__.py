"""Pages for people: the report of a rendering job, and what all static pages share."""
