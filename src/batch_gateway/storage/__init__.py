"""Where the service keeps the bytes of files: one protocol, and the kinds of it."""
