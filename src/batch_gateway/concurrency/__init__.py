"""How many requests may be under way at a gateway: the pure part, with neither I/O nor a clock."""
