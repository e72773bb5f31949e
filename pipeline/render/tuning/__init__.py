"""How a render worker chooses its engine: by measurement on its own device, and never without a comparison."""
