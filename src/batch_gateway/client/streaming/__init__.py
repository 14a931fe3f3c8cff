"""Answers that come in pieces: reading them, and putting them together."""
