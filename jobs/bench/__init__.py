"""The measurements that `jobs.benchmark` puts together."""
