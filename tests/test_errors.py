"""The exception tree and the status table."""

from __future__ import annotations

import copy
import pickle

import pytest

import batch_gateway
from batch_gateway import ErrorCategory, InferenceError, map_status_code_to_category
from batch_gateway.errors import error_class_for_status, is_retryable_status


@pytest.mark.parametrize(
    ("status", "category", "retryable"),
    [
        (429, ErrorCategory.RATE_LIMIT, True),
        (500, ErrorCategory.SERVER_ERROR, True),
        (502, ErrorCategory.SERVER_ERROR, True),
        (503, ErrorCategory.SERVER_ERROR, True),
        (504, ErrorCategory.SERVER_ERROR, True),
        (599, ErrorCategory.SERVER_ERROR, True),
        (400, ErrorCategory.INVALID_REQ, False),
        (401, ErrorCategory.AUTH_ERROR, False),
        (403, ErrorCategory.AUTH_ERROR, False),
        (404, ErrorCategory.UNKNOWN, False),
        (408, ErrorCategory.UNKNOWN, True),
        (424, ErrorCategory.UNKNOWN, True),
        (425, ErrorCategory.UNKNOWN, True),
        (409, ErrorCategory.UNKNOWN, True),
        (413, ErrorCategory.UNKNOWN, False),
        (422, ErrorCategory.UNKNOWN, False),
        (302, ErrorCategory.UNKNOWN, False),
        (600, ErrorCategory.UNKNOWN, False),
    ],
)
def test_a_status_has_its_category_and_says_whether_to_retry(
    status: int, category: ErrorCategory, retryable: bool
) -> None:
    assert map_status_code_to_category(status) is category
    assert error_class_for_status(status).category is category
    assert is_retryable_status(status) is retryable


def test_the_five_categories_have_their_published_values() -> None:
    assert [category.value for category in ErrorCategory] == [
        "RATE_LIMIT",
        "SERVER_ERROR",
        "INVALID_REQ",
        "AUTH_ERROR",
        "UNKNOWN",
    ]


def test_an_error_is_the_builtin_that_it_is_in_truth() -> None:
    assert issubclass(batch_gateway.RequestTimeoutError, TimeoutError)
    assert issubclass(batch_gateway.DeadlineExceededError, TimeoutError)
    assert issubclass(batch_gateway.GatewayConnectionError, ConnectionError)
    assert issubclass(batch_gateway.TLSError, ConnectionError)
    assert issubclass(batch_gateway.ConfigError, ValueError)
    assert not issubclass(batch_gateway.RateLimitError, OSError)


def test_an_error_carries_everything_that_is_known_about_it() -> None:
    cause = OSError("reset")
    error = batch_gateway.GatewayConnectionError(
        "connection reset", request_id="r1", attempts=2, retry_after=1.5, cause=cause
    )
    assert error.category is ErrorCategory.SERVER_ERROR
    assert error.is_retryable
    assert (error.status_code, error.body, error.code) == (None, b"", "connection_error")
    assert (error.request_id, error.attempts, error.retry_after) == ("r1", 2, 1.5)
    assert error.cause is cause
    assert error.__cause__ is cause
    assert str(error) == "connection reset"
    assert repr(error) == "<GatewayConnectionError SERVER_ERROR: connection reset>"


def test_what_cannot_get_better_is_not_retryable() -> None:
    assert not batch_gateway.TLSError("x").is_retryable
    assert not batch_gateway.DeadlineExceededError("x").is_retryable


@pytest.mark.parametrize("name", batch_gateway.__all__)
def test_every_public_name_exists(name: str) -> None:
    assert hasattr(batch_gateway, name)


def test_every_public_import_is_listed() -> None:
    public = {
        name
        for name, value in vars(batch_gateway).items()
        if not name.startswith("_")
        and getattr(value, "__module__", "").startswith("batch_gateway.")
    }
    assert public <= set(batch_gateway.__all__)


def test_an_error_survives_pickling() -> None:
    """Process pools send exceptions back by pickle."""
    error = batch_gateway.RateLimitError("slow down", status_code=429, retry_after=2.0)
    other = pickle.loads(pickle.dumps(error))
    assert isinstance(other, InferenceError)
    assert (other.message, other.status_code, other.retry_after) == ("slow down", 429, 2.0)


def test_a_configuration_error_survives_pickling_and_copying() -> None:
    error = batch_gateway.ConfigError("timeout", "must be positive")
    for other in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert isinstance(other, batch_gateway.ConfigError)
        assert (other.field, other.problem) == ("timeout", "must be positive")
        assert str(other) == "timeout: must be positive"
