"""Other programs that run many requests, beside this one: `python -m benchmarks.peers`."""
