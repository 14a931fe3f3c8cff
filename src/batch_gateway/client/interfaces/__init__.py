"""What callers, layers and observers of a client hand each other: requests, answers, events."""
