"""A finished run's samples in the formats that other trainers read."""
