"""HTTP/1.1 to a gateway: a transport of our own, and one on aiohttp."""
