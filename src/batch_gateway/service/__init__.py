"""What outlives a process: the records of files, batches, shards, parts and API keys."""
