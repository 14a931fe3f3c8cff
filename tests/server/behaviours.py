"""The behaviours of the service that are specified, each with an id that its tests name.

`test_behaviours` holds the two together: no behaviour without a test, no test of one that is not
here. The source says who specifies it: OpenAI's Batch API, the Go original whose users come over,
or this project, where it differs from both on purpose.
"""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

__all__ = ["BEHAVIOURS", "Behaviour", "Source"]


class Source(Enum):
    """Who specifies a behaviour."""

    OPENAI = "OpenAI Batch API"
    ORIGINAL = "llm-d batch gateway, as it behaved in August 2026"
    OURS = "batch-gateway"


class Behaviour(NamedTuple):
    """One sentence that the service must make true."""

    sentence: str
    source: Source


_OPENAI, _ORIGINAL, _OURS = Source

BEHAVIOURS: dict[str, Behaviour] = {
    "batches.all_failed": Behaviour("A batch whose lines all failed is completed.", _ORIGINAL),
    "batches.cancel": Behaviour(
        "A batch that waits is cancelled at once, one in progress by way of cancelling, a second "
        "time changes nothing, and one that is finalizing or over is 400 with its status; "
        "cancelling_at stays.",
        _OURS,
    ),
    "batches.create": Behaviour("POST /v1/batches makes a batch in status validating.", _OPENAI),
    "batches.create.body": Behaviour("A body that is no JSON object is 400.", _OURS),
    "batches.create.endpoint": Behaviour(
        "An endpoint that is not offered is 400 `invalid endpoint: X`; more can be offered.",
        _ORIGINAL,
    ),
    "batches.create.input_file": Behaviour(
        "An input that is missing, another's, deleted or expired is 400 `Input file with ID 'X' "
        "not found`; one of another purpose is 400 and named.",
        _ORIGINAL,
    ),
    "batches.create.metadata": Behaviour(
        "Metadata has at most 16 pairs, keys of 64 and values of 512 characters, and comes back "
        "as it was.",
        _OPENAI,
    ),
    "batches.create.output_expires_after": Behaviour(
        "Result files are kept from one hour to thirty days when that is asked for.", _OPENAI
    ),
    "batches.create.required": Behaviour(
        "input_file_id, endpoint and completion_window are required: 400 `NAME is required`.",
        _ORIGINAL,
    ),
    "batches.create.unknown_field": Behaviour(
        'A field that is not known is 400 `json: unknown field "NAME"`.', _ORIGINAL
    ),
    "batches.create.window": Behaviour("completion_window is a duration of Go.", _ORIGINAL),
    "batches.create.window_range": Behaviour(
        "completion_window is more than zero, and at most what is configured.", _OURS
    ),
    "batches.failed": Behaviour(
        "A bad input ends its batch as failed, with the first twenty problems, their lines and "
        "OpenAI's codes, and nothing is sent.",
        _OURS,
    ),
    "batches.not_found": Behaviour("Others' and no batches are 404.", _ORIGINAL),
    "batches.notice": Behaviour(
        "A batch that cannot go on waits and says why: its gateway, a full disk.",
        _OURS,
    ),
    "batches.object": Behaviour("All keys of a batch are there, but for model.", _ORIGINAL),
    "batches.retention": Behaviour("A batch is shown for batch_lifetime after its end.", _OURS),
    "errors.envelope": Behaviour(
        'Errors are {"error": {"code": null, "type", "message", "param": null}}, with the type of '
        "their status.",
        _ORIGINAL,
    ),
    "files.broken_upload": Behaviour("An upload that breaks off leaves nothing.", _OURS),
    "files.content": Behaviour(
        "A download has its name in Content-Disposition and its exact length.", _ORIGINAL
    ),
    "files.content.etag": Behaviour(
        "A download has an ETag, 304 for who has it, and 412 for who wants another.", _OURS
    ),
    "files.content.name": Behaviour("No file name leaves its header.", _OURS),
    "files.content.ranges": Behaviour("A download can be a range (RFC 9110 §14).", _OURS),
    "files.content.slow": Behaviour(
        "A slow download is not cut; one that takes nothing for long is.", _OURS
    ),
    "files.create.expires_after": Behaviour("An upload may say how long it is kept.", _OPENAI),
    "files.create.filename": Behaviour("A file keeps the last part of its name.", _OURS),
    "files.create.missing": Behaviour(
        "A missing purpose or file is 400 `Missing required parameter: 'NAME'`.", _OURS
    ),
    "files.create.odd_forms": Behaviour(
        "A form that is malformed, or would be kept as another file than was meant, is 400; a "
        "preamble, an epilogue and names in UTF-8 are taken.",
        _OURS,
    ),
    "files.create.order": Behaviour("purpose may come before file or after it.", _ORIGINAL),
    "files.delete": Behaviour(
        "A deleted file is gone at once for its tenant; downloads under way and batches that read "
        "it still have it.",
        _OURS,
    ),
    "files.expect_continue": Behaviour("Expect: 100-continue is answered (RFC 9110).", _OURS),
    "files.expiry": Behaviour("Files expire after 90 days, and are removed then.", _ORIGINAL),
    "files.line_limit": Behaviour(
        "A batch file of too many lines is 400 `File exceeds the maximum allowed line count of N`.",
        _ORIGINAL,
    ),
    "files.purposes": Behaviour("The eight purposes of OpenAI are taken and filtered by.", _OPENAI),
    "files.size_limit": Behaviour(
        "A file that is too large is 400 `File size exceeds the maximum allowed size of N bytes`, "
        "said while it is being read, chunked or not.",
        _OURS,
    ),
    "files.stalled_upload": Behaviour("An upload that stands still is ended with 408.", _OURS),
    "head": Behaviour("HEAD works where GET does.", _ORIGINAL),
    "headers.keys": Behaviour(
        "A batch whose headers cannot be read waits for the keys and sends nothing without "
        "them.",
        _OURS,
    ),
    "headers.own_key": Behaviour(
        "A key that the gateway is configured with wins over one that is passed on.",
        _ORIGINAL,
    ),
    "headers.pass_through": Behaviour(
        "Headers that are named are kept for the gateway, encrypted, and shown nowhere.", _OURS
    ),
    "killed": Behaviour(
        "Whatever is killed goes on, with each line once and nothing sent again whose result "
        "was stored.",
        _OURS,
    ),
    "limits.connections": Behaviour("Connections have a greatest number: 503 beyond it.", _OURS),
    "limits.head": Behaviour("A head that is too large is 431.", _OURS),
    "limits.idle": Behaviour("An idle connection is closed after a time.", _ORIGINAL),
    "limits.lingering": Behaviour(
        "A client that sends on after its answer is listened to for a moment only.", _OURS
    ),
    "limits.slow_head": Behaviour("A head that takes too long ends its connection.", _ORIGINAL),
    "limits.tenant": Behaviour(
        "A tenant has so many files, bytes and batches under way as is configured.", _OURS
    ),
    "lists.after": Behaviour("after is an id; digits alone are an offset.", _OURS),
    "lists.empty": Behaviour(
        'Empty lists have null ids for batches and "" for files.', _ORIGINAL
    ),
    "lists.limits": Behaviour(
        "A page has 20 items, at most 100 batches or 10,000 files.", _OPENAI
    ),
    "lists.order": Behaviour("Lists are newest first; order=asc turns them.", _OPENAI),
    "never.500": Behaviour("No input makes a 500.", _OURS),
    "observability": Behaviour(
        "/health says ok, /ready whether it can work, /metrics the original's names, on a port of "
        "their own.",
        _ORIGINAL,
    ),
    "observability.backlog": Behaviour(
        "/metrics shows by model the lines without a result, the tokens that they are expected to "
        "take, and the nearest deadline.", _OURS
    ),
    "options": Behaviour("OPTIONS is 204.", _ORIGINAL),
    "request_id": Behaviour("Every answer has x-request-id, echoed or made.", _ORIGINAL),
    "requests.unchanged": Behaviour(
        "What a line asks for reaches the gateway unchanged: long numbers, the order of keys, "
        "any content.",
        _OURS,
    ),
    "results.cancelled": Behaviour(
        "What a cancelled batch has done it keeps; the rest is batch_cancelled.",
        _OPENAI,
    ),
    "results.counts": Behaviour(
        "request_counts are what is in the files, however a batch ends.",
        _OURS,
    ),
    "results.expired": Behaviour(
        "What an expired batch has done it keeps; the rest is batch_expired.",
        _OPENAI,
    ),
    "results.failures": Behaviour(
        "Lines that failed are in the error file, those of HTTP too.",
        _OPENAI,
    ),
    "results.files": Behaviour(
        "Result files are batch_output_ID.jsonl and batch_error_ID.jsonl, of purpose "
        "batch_output; an empty one is null.",
        _ORIGINAL,
    ),
    "results.usage": Behaviour("The usage of a batch is the sum of its lines.", _OPENAI),
    "routes.unknown": Behaviour(
        "An unknown path or a wrong method is 404 `Unknown request URL: METHOD PATH`.", _ORIGINAL
    ),
    "sdk.batches": Behaviour("The openai SDK works on batches as it is.", _OPENAI),
    "sdk.files": Behaviour("The openai SDK works on files as it is.", _OPENAI),
    "security_headers": Behaviour("Every answer has the security headers.", _ORIGINAL),
    "start.port": Behaviour("A port that is taken is a clear error.", _OURS),
    "stop.batches": Behaviour("A batch goes on after a stop as if nothing had been.", _OURS),
    "stop.graceful": Behaviour(
        "When the server stops, uploads under way end, or are told and leave nothing.", _OURS
    ),
    "tenants.header": Behaviour(
        "X-MaaS-Username, or what is configured, names the tenant; its last value wins, and "
        "without it the tenant is default.",
        _ORIGINAL,
    ),
    "tenants.isolation": Behaviour(
        "No tenant can see, use, list, count or guess what another has.", _OURS
    ),
    "tenants.keys": Behaviour(
        "With API keys on, no valid key is 401; keys are stored as digests.", _OURS
    ),
    "tls": Behaviour("The API is https with a certificate and its key.", _ORIGINAL),
    "turns.models": Behaviour(
        "Models of one batch run side by side: none waits for the end of another.", _OURS
    ),
    "turns.tenants": Behaviour(
        "Tenants share a gateway evenly, however many batches each has.",
        _OURS,
    ),
    "turns.urgency": Behaviour("An urgent batch behind a large one begins at once.", _OURS),
    "upgrade": Behaviour(
        "An offer of another protocol, HTTP/2 or WebSocket, is not taken up (RFC 9110).", _OURS
    ),
    "web_sites.names": Behaviour(
        "A server of this machine alone is not asked under a name that somebody on the web owns.",
        _OURS,
    ),
    "web_sites.requests": Behaviour(
        "Without API keys no other web site can make a browser change anything; programs, proxies "
        "and forwarded ports are not asked where they come from.",
        _OURS,
    ),
}  # fmt: skip
