"""Memory over long streams depends on the answer that is kept, not on the events it came in."""

from __future__ import annotations

import gc
import tracemalloc

from batch_gateway.client.streaming.answer_reader import AnswerReader

PADDING = "x" * 200
CHUNK = (
    b'data: {"id":"1","object":"chat.completion.chunk","created":1,"model":"m","padding":"'
    + PADDING.encode()
    + b'","choices":[{"index":0,"delta":{"content":"word "},"finish_reason":null}]}\n\n'
)
COUNT = 10_000


def test_the_events_of_an_answer_leave_only_their_text_behind() -> None:
    reader = AnswerReader("/v1/chat/completions", 10_000_000)
    gc.collect()
    tracemalloc.start()
    try:
        for _ in range(COUNT // 50):
            for value in reader.feed(CHUNK * 50):
                del value
        kept, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    text = COUNT * len("word ")
    assert kept < 1.5 * text + 50_000
    # While a growing text moves, it is there twice.
    assert peak < 2.5 * text + 100_000
