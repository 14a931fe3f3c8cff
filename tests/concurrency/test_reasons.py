from __future__ import annotations

import pytest

from batch_gateway.concurrency.reasons import Reason, Why


@pytest.mark.parametrize("reason", Reason)
def test_every_reason_is_said_in_words(reason: Reason) -> None:
    sentence = Why(reason, 42.0).sentence(64)

    assert "{" not in sentence
    assert ("64" in sentence) or ("42" in sentence)


def test_a_pace_is_said_by_the_minute() -> None:
    assert Why(Reason.PACE, 600.0).sentence(13).endswith("keeping to 600 a minute")
