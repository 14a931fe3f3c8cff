"""HTTP/1.1 to a gateway, directly or through a proxy."""
