"""One run of a rendering job, from the plan to the files that it leaves. Runs without Ray."""
