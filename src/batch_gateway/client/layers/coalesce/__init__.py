"""Request batching: single prompts and inputs that are sent together as one list."""
