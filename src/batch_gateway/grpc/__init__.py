"""gRPC over HTTP/2, as much of it as a client of one service needs."""
