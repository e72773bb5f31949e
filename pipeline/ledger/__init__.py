"""What has become of each clip: the ledger in the output folder, the row of a clip, and the output table."""
