"""What the benchmarks run against."""
