"""What the gateway remembers about the requests it saw."""

from __future__ import annotations

import http.client

import pytest

from batch_gateway.testing import GatewayHandle, simulated_gateway

from .asking import CHAT_PATH, ask, get


def test_counts_every_request_by_its_id(gateway: GatewayHandle) -> None:
    ask(gateway.url, X_Request_ID="one")
    ask(gateway.url, X_Request_ID="two", X_Simulate_Fault="status-503;times=1")
    ask(gateway.url, X_Request_ID="two", X_Simulate_Fault="status-503;times=1")
    journal = gateway.journal()
    assert journal["requests"] == {
        "one": {"received": 1, "completed": 1, "statuses": [200]},
        "two": {"received": 2, "completed": 1, "statuses": [503, 200]},
    }
    assert (journal["received"], journal["completed"]) == (3, 2)
    assert journal["by_status"] == {"200": 2, "503": 1}


def test_another_process_reads_and_clears_it_over_http(gateway: GatewayHandle) -> None:
    ask(gateway.url, X_Request_ID="one")
    page = get(gateway.url, "/simulator/journal").json()
    assert page["requests"]["one"]["completed"] == 1
    assert ask(gateway.url, "/simulator/journal", b"", method="DELETE").status == 200
    assert get(gateway.url, "/simulator/journal").json()["requests"] == {}


@pytest.mark.parametrize("fault", ["not-json", "truncated-json", "empty-body"])
def test_a_spoiled_answer_does_not_count_as_completed(gateway: GatewayHandle, fault: str) -> None:
    assert ask(gateway.url, X_Request_ID="one", X_Simulate_Fault=fault).status == 200
    assert gateway.journal()["requests"]["one"]["completed"] == 0


def test_a_cut_answer_counts_as_aborted(gateway: GatewayHandle) -> None:
    with pytest.raises(http.client.IncompleteRead):
        ask(gateway.url, X_Request_ID="one", X_Simulate_Fault="half-body")
    journal = gateway.journal()
    assert journal["aborted"] == 1
    assert journal["requests"]["one"] == {"received": 1, "completed": 0, "statuses": [200]}


def test_keeps_the_last_requests_whole_but_does_not_print_their_headers(
    gateway: GatewayHandle,
) -> None:
    ask(gateway.url, body=b'{"model": "x"}', Authorization="Bearer sk-secret")
    (seen,) = gateway.recent_requests()
    assert (seen.method, seen.path, seen.body) == (b"POST", CHAT_PATH, b'{"model": "x"}')
    assert seen.header(b"authorization") == "Bearer sk-secret"
    assert "sk-secret" not in repr(seen)


def test_other_pages_are_not_counted(gateway: GatewayHandle) -> None:
    for path in ("/health", "/metrics", "/v1/models"):
        assert get(gateway.url, path).status == 200
    assert gateway.journal()["received"] == 0


def test_counts_connections() -> None:
    with simulated_gateway() as gateway:
        ask(gateway.url)
        ask(gateway.url)
        assert gateway.journal()["connections_opened"] == 2


def test_remembers_only_the_newest_ids_and_all_totals() -> None:
    with simulated_gateway(journal_limit=2) as gateway:
        for name in "abc":
            ask(gateway.url, X_Request_ID=name)
        journal = gateway.journal()
        assert set(journal["requests"]) == {"b", "c"}
        assert journal["completed"] == 3


def test_large_bodies_are_not_all_kept(gateway: GatewayHandle) -> None:
    large = b'"' + b"x" * 9_000_000 + b'"'
    for _ in range(3):
        assert ask(gateway.url, body=large).status == 400
    assert len(gateway.recent_requests()) == 1
