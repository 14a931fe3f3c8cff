"""The client: one request through its layers to a gateway, and back as an answer or an error."""
