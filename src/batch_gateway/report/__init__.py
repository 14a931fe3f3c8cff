"""A run as one page to look at: what happened, collected in bounded memory, and drawn as HTML."""
