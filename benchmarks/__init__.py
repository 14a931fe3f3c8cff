"""Measurements of the client, of whole runs, of memory and of the first pass."""
