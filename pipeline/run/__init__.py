"""One run of a rendering job, from the plan to the files that it leaves behind. Runs without Ray."""
