"""Headers at rest: encrypted, and read again after a change of keys."""

from __future__ import annotations

import pytest
from cryptography.fernet import Fernet

from batch_gateway.errors import ConfigError, RecordsError
from batch_gateway.service.sealed_headers import HeaderSeal


def test_what_an_old_key_wrote_is_read_while_the_key_is_there() -> None:
    old, new = (Fernet.generate_key().decode() for _ in range(2))
    sealed = HeaderSeal([old]).seal({"A": "x", "B": "ü"})
    assert HeaderSeal([new, old]).open(sealed) == {"A": "x", "B": "ü"}
    with pytest.raises(RecordsError, match="another key: add it"):
        HeaderSeal([new]).open(sealed)
    with pytest.raises(RecordsError):
        HeaderSeal([old]).open(sealed[:-4] + b"AAAA")


@pytest.mark.parametrize("keys", [[], ["short"], ["\u00fc" * 44], ["x" * 44, "y"]])
def test_a_key_that_is_none_is_refused_without_being_shown(keys: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        HeaderSeal(keys)
    assert not keys or keys[0] not in str(caught.value)
