"""Worlds in which concurrency policies are judged: `python -m benchmarks.worlds`."""
