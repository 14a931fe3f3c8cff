"""Batches from a program: a file as an object, lines as they come; and what both are made of.

What `run` does between its settings and its display is here, and is used by it.
"""
