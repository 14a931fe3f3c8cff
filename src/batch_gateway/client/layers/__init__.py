"""The policies of a client, each a layer around the next: one a file or a folder."""
