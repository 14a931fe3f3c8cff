"""The client for code without an event loop."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from batch_gateway import (
    GatewayConnectionError,
    HTTPInferenceClient,
    HTTPInferenceClientConfig,
    InferenceRequest,
    RoutedInferenceClient,
)
from batch_gateway.testing import GatewayHandle, simulated_gateway


@pytest.fixture(scope="module")
def gateway() -> Iterator[GatewayHandle]:
    with simulated_gateway() as running:
        yield running


def completion(prompt: str) -> InferenceRequest:
    return InferenceRequest(params={"model": "m", "prompt": prompt})


def test_a_request_is_answered_without_an_event_loop(gateway: GatewayHandle) -> None:
    with HTTPInferenceClient(HTTPInferenceClientConfig(gateway.url)).blocking() as client:
        assert client.generate(completion("Hello!")).status_code == 200


def test_many_threads_share_one_client(gateway: GatewayHandle) -> None:
    client = HTTPInferenceClient(HTTPInferenceClientConfig(gateway.url)).blocking()
    with client, ThreadPoolExecutor(16) as threads:
        answers = list(threads.map(lambda n: client.generate(completion(f"{n}")), range(200)))
    assert [answer.status_code for answer in answers] == [200] * 200


def test_errors_come_through_as_they_are() -> None:
    config = HTTPInferenceClientConfig("http://127.0.0.1:1", retry=None)
    with (
        HTTPInferenceClient(config).blocking() as client,
        pytest.raises(GatewayConnectionError, match="refused"),
    ):
        client.generate(completion("Hello!"))


def test_a_routed_client_can_be_blocking_too(gateway: GatewayHandle) -> None:
    routed = RoutedInferenceClient(HTTPInferenceClientConfig(gateway.url))
    with routed.blocking() as client:
        assert client.generate(completion("Hello!")).status_code == 200


def test_outside_its_block_it_says_how_to_use_it() -> None:
    client = HTTPInferenceClient().blocking()
    with pytest.raises(RuntimeError, match="inside its 'with' block"):
        client.generate(completion("Hello!"))
    with client:
        pass
    with pytest.raises(RuntimeError, match="inside its 'with' block"):
        client.generate(completion("Hello!"))


def test_it_is_not_entered_twice(gateway: GatewayHandle) -> None:
    client = HTTPInferenceClient(HTTPInferenceClientConfig(gateway.url)).blocking()
    with client:
        with pytest.raises(RuntimeError, match="in its 'with' block already"):
            client.__enter__()
        assert client.generate(completion("Hello!")).status_code == 200
    with pytest.raises(RuntimeError, match="'with' block closed it; make a new client"):
        client.__enter__()


def test_its_thread_ends_with_its_block(gateway: GatewayHandle) -> None:
    before = threading.active_count()
    with HTTPInferenceClient(HTTPInferenceClientConfig(gateway.url)).blocking() as client:
        client.generate(completion("Hello!"))
        assert threading.active_count() > before
    assert threading.active_count() == before


@pytest.mark.skipif(sys.platform == "win32", reason="sends POSIX signals")
def test_an_interrupt_ends_the_wait_and_aborts_the_request(gateway: GatewayHandle) -> None:
    aborted = gateway.journal()["aborted"]
    code = (
        "from batch_gateway import *\n"
        f"config = HTTPInferenceClientConfig({gateway.url!r})\n"
        "with HTTPInferenceClient(config).blocking() as client:\n"
        "    client.generate(InferenceRequest(\n"
        "        request_id='interrupted', params={'model': 'fault-stall', 'prompt': 'x'}))\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stderr=subprocess.PIPE, env=os.environ
    ) as process:
        poll = threading.Event()
        while "interrupted" not in gateway.journal()["requests"]:
            assert process.poll() is None
            poll.wait(0.02)
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=20)
    assert b"KeyboardInterrupt" in stderr
    assert gateway.journal()["aborted"] == aborted + 1


FORKED = """
import os, sys
from batch_gateway import HTTPInferenceClient, HTTPInferenceClientConfig, InferenceRequest
config = HTTPInferenceClientConfig({url!r})
request = InferenceRequest(params={{"model": "m", "prompt": "hello"}})
with HTTPInferenceClient(config).blocking() as client:
    client.generate(request)
    stream = client.stream(request)
    next(stream)
    child = os.fork()
    if not child:
        for use in (lambda: client.generate(request), lambda: next(stream)):
            try:
                use()
            except RuntimeError as error:
                print("child:", error, flush=True)
        stream.close()
        with HTTPInferenceClient(config).blocking() as own:
            print("its own:", own.generate(request).status_code, flush=True)
        os._exit(0)  # as multiprocessing does
    else:
        assert os.waitpid(child, 0)[1] == 0
        print("parent:", client.generate(request).status_code, len(list(stream)) > 0)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_forked_child_is_told_to_make_a_client_of_its_own(gateway: GatewayHandle) -> None:
    """A fork copies no threads, so that the child would wait for the portal's for ever."""
    ran = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FORKED.format(url=gateway.url)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    told = "child: this blocking client was opened before the process forked"
    assert ran.stdout.count(told) == 2
    assert "its own: 200" in ran.stdout
    assert "parent: 200 True" in ran.stdout
