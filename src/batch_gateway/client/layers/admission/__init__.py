"""Admission: when an attempt may go, and which of those that wait goes first."""
