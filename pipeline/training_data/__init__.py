"""Talking-head videos -> training shards: how `jobs.prepare` analyses and cuts videos, and why it drops parts."""
