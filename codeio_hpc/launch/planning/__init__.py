"""What a build will take, before it is started: the engine's own packing and rules on a calculated cluster."""
