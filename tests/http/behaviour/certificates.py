"""Certificates for tests: an authority made for the run, and what it and others issue."""

from __future__ import annotations

import datetime
import ssl
from pathlib import Path

import trustme

__all__ = ["Certificates"]

HOST = "127.0.0.1"


class Certificates:
    """Files and server contexts of one authority, in a folder of their own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._authority = trustme.CA()
        self.ca_file = folder / "ca.pem"
        self._authority.cert_pem.write_to_path(self.ca_file)
        client = self._authority.issue_cert("client@gateway.test", common_name="client")
        self.client_cert_file = folder / "client.pem"
        self.client_key_file = folder / "client.key"
        client.private_key_pem.write_to_path(self.client_key_file)
        for blob in client.cert_chain_pems:
            blob.write_to_path(self.client_cert_file, append=True)

    def server(self, *names: str, expired: bool = False) -> ssl.SSLContext:
        """A server's context, with a certificate for `names`, by default for 127.0.0.1."""
        now = datetime.datetime.now(datetime.UTC)
        before = now - datetime.timedelta(days=9) if expired else None
        after = now - datetime.timedelta(days=1) if expired else None
        issued = self._authority.issue_cert(*(names or (HOST,)), not_before=before, not_after=after)
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        issued.configure_cert(context)
        return context

    def server_for_clients(self, *, maximum: ssl.TLSVersion) -> ssl.SSLContext:
        """A server's context that asks for a client certificate of this authority."""
        context = self.server()
        context.maximum_version = maximum
        context.verify_mode = ssl.CERT_REQUIRED
        self._authority.configure_trust(context)
        return context
