"""Running stages: on a Ray cluster (`ray_data`), or one after another in this process (`serial`)."""
