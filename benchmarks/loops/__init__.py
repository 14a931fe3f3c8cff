"""Whole programs that run a batch file the way people write it themselves."""
