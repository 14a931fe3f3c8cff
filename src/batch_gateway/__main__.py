"""`python -m batch_gateway` is the `batch-gateway` command."""

from __future__ import annotations

from batch_gateway.cli.start import main

if __name__ == "__main__":
    main()
