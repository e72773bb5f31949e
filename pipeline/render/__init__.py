"""The stages that make a clip: speech features on CPUs, then motion and frames on GPUs. Run without Ray."""
