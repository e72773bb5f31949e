"""The stages that render a clip: speech features on CPUs, then motion and frames on GPUs. They run without Ray."""
