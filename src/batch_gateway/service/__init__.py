"""What outlives a process: the records of files, batches, jobs, parts and API keys."""
