"""What the jobs share: configuration, progress, exit codes and the connection to Ray."""
