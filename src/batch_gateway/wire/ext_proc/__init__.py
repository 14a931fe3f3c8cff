"""What an endpoint picker and its data plane say to each other: Envoy's ext_proc messages."""
