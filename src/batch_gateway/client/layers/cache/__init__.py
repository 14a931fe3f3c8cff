"""Exact answers for identical requests, kept on disk."""
