"""A real PgBouncer in front of a PostgreSQL server of the tests."""

from __future__ import annotations

import os
import pwd
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.peers.debian import debian_package
from tests.peers.postgres import PostgresServer
from tests.peers.processes import accepts_connections, free_port, running_process

__all__ = ["running_pgbouncer"]


@contextmanager
def running_pgbouncer(server: PostgresServer, **settings: object) -> Iterator[int]:
    """Its port. Where root runs the tests it is nobody's, as it is not to be root's."""
    tree = debian_package("pgbouncer", "libevent", "libc-ares")
    user = "nobody" if os.getuid() == 0 else None
    # Folders for files of tests may be closed to all others.
    home = Path(tempfile.mkdtemp(prefix="pgbouncer-", dir="/tmp"))
    try:
        shutil.copy(tree / "usr" / "sbin" / "pgbouncer", home)
        libraries = sorted({one.parent for one in tree.glob("usr/lib/*/lib*.so*")})
        for folder in libraries:
            shutil.copytree(folder, home / "lib", symlinks=True, dirs_exist_ok=True)
        port = free_port()
        (home / "users").write_text('"postgres" ""\n')
        (home / "pgbouncer.ini").write_text(_configuration(home, server, port, settings))
        if user is not None:
            os.chown(home, pwd.getpwnam(user).pw_uid, -1)
            home.chmod(0o755)
        with running_process(
            [str(home / "pgbouncer"), str(home / "pgbouncer.ini")],
            is_ready=lambda: accepts_connections(port),
            log=home / "log",
            env={"LD_LIBRARY_PATH": str(home / "lib")},
            user=user,
        ):
            yield port
    finally:
        shutil.rmtree(home, ignore_errors=True)


def _configuration(
    home: Path, server: PostgresServer, port: int, settings: dict[str, object]
) -> str:
    usual = {
        "listen_addr": "127.0.0.1",
        "listen_port": port,
        "unix_socket_dir": "",
        "auth_type": "any",
        "auth_file": home / "users",
        "default_pool_size": 3,
        "max_client_conn": 200,
    }
    lines = "".join(f"{name} = {value}\n" for name, value in (usual | settings).items())
    return f"[databases]\n* = host=127.0.0.1 port={server.port} user=postgres\n[pgbouncer]\n{lines}"
