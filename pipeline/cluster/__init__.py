"""Running stages: on a Ray cluster (`ray_data`), or one after the other in this process (`serial`)."""
