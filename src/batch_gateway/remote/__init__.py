"""Batch servers of others, and ours, as a client of `/v1/files` and `/v1/batches` sees them."""
