"""Every setting once, and how flags, variables and files become what a run needs."""
