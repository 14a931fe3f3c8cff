"""Words that say a request is too large for a server, whichever status they come with."""

from __future__ import annotations

import re

from batch_gateway.wire.rare_pattern import rare_pattern

__all__ = ["says_too_large"]

# In this order: GAIE's lightweight picker; grpc-go, gRPC core and grpc-node; grpc-node's other
# words; grpc-java and grpc-dotnet; tonic; Go's net/http and Envoy. Not OpenAI's "Request too large
# for gpt-4o ... on tokens per min", which is about a rate.
_TOO_LARGE = rare_pattern(
    r"size limit of [\d.,]{1,20} ?\w{0,9} exceeded"
    r"|message larger than max"
    r"|size larger than \d"
    r"|message exceeds (?:the )?maximum"
    r"|message length too large"
    r"|(?:body|entity|payload)[ _]too[ _]large",
    re.IGNORECASE,
)


def says_too_large(text: str) -> bool:
    """Whether `text` says that a body or message is too large, which no waiting will mend."""
    return _TOO_LARGE.search(text) is not None
