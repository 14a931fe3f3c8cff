"""A gRPC server on asyncio of its own: one that can also misbehave in every way it is asked to."""
