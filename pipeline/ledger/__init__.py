"""What has become of each clip: the ledger in the output folder, the row of a clip, the output table."""
