"""The `batch-gateway` command: what a user gives and sees, around the engine and the client."""
