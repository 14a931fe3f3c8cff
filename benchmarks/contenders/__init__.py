"""Clients that are measured side by side: each opens, sends one chat request, reads its answer."""
