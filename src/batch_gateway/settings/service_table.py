"""The settings of `serve` alone: rows of the table of settings, and which part of it each is of."""

from __future__ import annotations

from collections.abc import Mapping

from batch_gateway.settings.kinds import (
    DATABASE,
    DURATION,
    PATH,
    PORT,
    SIZE,
    STORE,
    SWITCH,
    VARIABLE,
    choice,
    count,
    items,
    text,
)
from batch_gateway.settings.setting import Setting

__all__ = ["FILE_CLIENT", "PROCESSOR_FIELDS", "SERVER_FIELDS", "SERVICE_GROUPS"]

_SERVE = ("serve",)
_NAME = text("NAME")
_KEYS = "keys that encrypt passed headers at rest, the first for new ones"

_FILE_CLIENT: Mapping[str, Setting] = {
    name: Setting(f"file_client_{name}", kind, "", flag=None, aliases=(f"file_client.{key}",),
        is_hidden=True, only=_SERVE)
    for name, key, kind in (
        ("type", "type", choice("fs", "s3")),
        *((name, f"s3.{name}", _NAME) for name in ("bucket", "prefix", "region", "access_key_id")),
        ("endpoint", "s3.endpoint", text("URL")),
        ("path_style", "s3.use_path_style", SWITCH),
    )
}  # fmt: skip

SERVICE_GROUPS: Mapping[str, tuple[Setting, ...]] = {
    "Service": (
        Setting("host", text("ADDRESS"), "Address to listen on.", "127.0.0.1", only=_SERVE),
        Setting("port", PORT, "Port of the API; 0 takes a free one.", "8080", only=_SERVE),
        Setting("observability_port", PORT, "Port of /health, /ready and /metrics.", "8081",
            only=_SERVE),
        Setting("role", choice("all", "api", "worker"),
            "What this process does; some of many share a --database.", "all", only=_SERVE,
            see="[a fleet](fleet.md)"),
        Setting("data", PATH, "Folder for files and records.", "batch-gateway-data", only=_SERVE),
        Setting("store", STORE, "Bucket for files: s3://, gs:// or az://BUCKET/PREFIX.",
            otherwise="a folder in data", only=_SERVE,
            see="[files in a bucket](service.md#files-in-a-bucket)"),
        *_FILE_CLIENT.values(),
        Setting("database", DATABASE, "PostgreSQL for the records, for many processes.",
            otherwise="a file in --data", only=_SERVE, see="[a fleet](fleet.md)"),
        Setting("database_password_file", PATH, "File with its password, if not in the URL.",
            needs="database", only=_SERVE),
        Setting("tls_certificate", PATH, "PEM file; serves https.", aliases=("ssl_cert_file",),
            only=_SERVE),
        Setting("tls_key", PATH, "PEM file of its key.", aliases=("ssl_key_file",), only=_SERVE),
        Setting("workers", count(1), "Parts of batches, up to 50,000 lines each, in memory.", "16",
            aliases=("num_workers",), only=_SERVE),
        Setting("poll_interval", DURATION, "Ask the database for work of other processes so often.",
            "1s", flag=None, only=_SERVE),
        Setting("lease", DURATION, "Work of a process that gives no sign of life is another's.",
            "30s", flag=None, only=_SERVE),
        Setting("shutdown_timeout", DURATION, "Requests under way have so long to end at a stop.",
            "25s", aliases=("api_shutdown_timeout_seconds",), only=_SERVE),
    ),
    "Tenants": (
        Setting("tenant_header", _NAME, "Header that names the tenant.", "X-MaaS-Username",
            aliases=("input_headers.tenant",), only=("serve", "batches")),
        Setting("api_keys", SWITCH, "Serve only who has a key; see batch-gateway keys.",
            only=_SERVE),
        Setting("pass_through_headers", items("NAME"),
            "Send this header of who makes a batch with its requests; repeatable.",
            flag="--pass-through-header", aliases=("batch_api.pass_through_headers",), only=_SERVE),
        Setting("header_keys_file", PATH, f"File of {_KEYS}.", needs="pass_through_headers",
            only=_SERVE),
        Setting("header_keys_env", VARIABLE, "Variable with them, by commas.",
            needs="pass_through_headers", only=_SERVE),
        Setting("tenant_max_files", count(1), "Files that a tenant may keep.", only=_SERVE),
        Setting("tenant_max_bytes", SIZE, "Their bytes in all.", only=_SERVE),
        Setting("tenant_max_batches", count(1), "Batches of a tenant under way.", only=_SERVE),
    ),
    "Files and batches": (
        Setting("max_file_bytes", SIZE, "Of one upload.", "200MiB",
            aliases=("file_api.max_size_bytes",), only=_SERVE),
        Setting("max_file_lines", count(1), "Of one batch file.", "50000",
            aliases=("file_api.max_line_count",), only=_SERVE),
        Setting("allow_paths", items("PATH"),
            "Take this as an endpoint of batches, too; repeatable.", flag="--allow-path",
            only=_SERVE, see="[other endpoints](service.md#other-endpoints)"),
        Setting("file_lifetime", DURATION, "Uploads are kept so long where they do not say.",
            "2160h", aliases=("file_api.default_expiration_seconds",), only=_SERVE),
        Setting("output_lifetime", DURATION, "Results are, where the batch does not say.", "2160h",
            aliases=("default_output_expiration_seconds",), only=_SERVE),
        Setting("batch_lifetime", DURATION, "Batches that have ended are shown so long.",
            otherwise="for ever", only=_SERVE),
        Setting("max_completion_window", DURATION, "The longest that a batch may ask for.", "720h",
            only=_SERVE),
    ),
    "Connections of clients": (
        Setting("max_connections", count(1), "More are told to come again.", "1000", flag=None,
            only=_SERVE),
        Setting("max_header_bytes", SIZE, "Of the head of a request.", "64KiB", flag=None,
            only=_SERVE),
        Setting("read_header_timeout", DURATION, "Of such a head.", "10s", flag=None,
            aliases=("read_header_timeout_seconds",), only=_SERVE),
        Setting("upload_timeout", DURATION, "Of a whole upload.", "15m", flag=None,
            aliases=("read_timeout_seconds",), only=_SERVE),
        Setting("upload_stall_timeout", DURATION, "Of one that stands still.", "60s", flag=None,
            only=_SERVE),
        Setting("download_stall_timeout", DURATION, "Of a download that stands still.", "10m",
            flag=None, only=_SERVE),
        Setting("keep_alive_timeout", DURATION, "Of a connection without a request.", "90s",
            flag=None, aliases=("idle_timeout_seconds",), only=_SERVE),
    ),
}  # fmt: skip

_OTHER_NAMES = {
    "tenant_max_files": "max_files",
    "tenant_max_bytes": "max_bytes",
    "tenant_max_batches": "max_batches",
    "upload_timeout": "read_timeout",
    "upload_stall_timeout": "stall_timeout",
    "download_stall_timeout": "write_stall_timeout",
    "keep_alive_timeout": "idle_timeout",
}
_OF_PROCESSOR = ("workers", "poll_interval", "lease", "output_lifetime")
_OF_NEITHER = (
    *(*_OF_PROCESSOR, "role", "data", "store", "database", "database_password_file"),
    *("header_keys_file", "header_keys_env"),
    *(one.name for one in _FILE_CLIENT.values()),
)

PROCESSOR_FIELDS: Mapping[str, str] = {n: n for n in (*_OF_PROCESSOR, "shutdown_timeout")}
"""What each is in ProcessorConfig."""
SERVER_FIELDS: Mapping[str, str] = {
    one.name: _OTHER_NAMES.get(one.name, one.name)
    for group in SERVICE_GROUPS.values()
    for one in group
    if one.name not in _OF_NEITHER
}
"""What each is in ServerConfig."""
FILE_CLIENT: Mapping[str, str] = {one.name: name for name, one in _FILE_CLIENT.items()}
"""What each key of llm-d's batch gateway for its files is in an address; `type` says whether."""
