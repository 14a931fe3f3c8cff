"""Where the records of a service are, from what its settings say."""

from __future__ import annotations

from batch_gateway.settings.service_settings import RecordsSettings
from batch_gateway.settings.table import SETTINGS

__all__ = ["RECORDS_OPTIONS", "database_url"]

RECORDS_OPTIONS = {
    "Service": [SETTINGS[name] for name in ("data", "database", "database_password_file")]
}
"""The settings of a command that needs nothing of a service but its records."""


def database_url(records: RecordsSettings) -> str | None:
    """The database's URL with the password in it; None where the records are in the folder.

    Raises ConfigError.
    """
    from batch_gateway.service.postgres_url import with_password  # noqa: PLC0415 - see `serve`

    if records.database is None or records.database_password is None:
        return records.database
    return with_password(records.database, records.database_password)
