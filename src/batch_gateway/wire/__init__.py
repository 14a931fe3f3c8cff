"""OpenAI wire formats as types and pure functions: no I/O, no clock."""
