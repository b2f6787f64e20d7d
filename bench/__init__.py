"""Measurements, printed and kept as JSON in `bench/results/`; none of them fails a build."""
