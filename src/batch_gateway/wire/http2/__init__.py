"""HTTP/2 and gRPC on the wire, without I/O: what a client and a server do alike."""
