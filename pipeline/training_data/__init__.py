"""Talking-head videos -> training shards: how `jobs.prepare` analyses a video, cuts it, and says why it drops a
part.
"""
