"""Benchmarks against PyTorch: ``python -m benchmarks --help``. Every one checks its outputs before it times them."""
