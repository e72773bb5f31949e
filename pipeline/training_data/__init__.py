"""Talking-head videos -> training shards: how `jobs.prepare` looks at a film, cuts it, and says why it drops a part."""
