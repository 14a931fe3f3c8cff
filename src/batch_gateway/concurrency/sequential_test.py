"""Whether sends are refused more often than they would be otherwise: Wald's sequential test.

Everything that refusals tell is such a question: whether a gateway refuses from some number in
flight on or by chance, whether it refuses fewer when sends come more slowly, and whether it
refuses everybody. What is seen adds up to log odds, until they say one or the other surely.
"""

from __future__ import annotations

import math

__all__ = ["LIKELY", "SURE", "evidence"]

# One explanation counts as found when what was seen is e^6 = 400 times likelier under it than
# under the other (Wald, "Sequential tests of statistical hypotheses", 1945). At half of it chance
# sets a ceiling every few minutes; at twice, a real one costs twice as many refusals to find.
SURE = 6.0
LIKELY = 3.0  # enough where being wrong costs only one more try


def evidence(share: float, otherwise: float, *, refused: bool) -> float:
    """How one send moves the log odds that this share of them is refused and not the other."""
    return math.log(share / otherwise) if refused else math.log((1 - share) / (1 - otherwise))
