"""One program a peer, each in the way that its own documentation shows first."""
