"""Regular expressions that most processes never use, such as those for the words of refusals."""

from __future__ import annotations

import re
from typing import Any, AnyStr, Generic, cast

__all__ = ["rare_pattern"]


def rare_pattern(pattern: AnyStr, flags: int = 0) -> re.Pattern[AnyStr]:
    """The same as `re.compile`, which happens at the first use: together they are a tenth of the
    time that importing the client takes. Raises re.error then.
    """
    return cast("re.Pattern[AnyStr]", _RarePattern(pattern, flags))


class _RarePattern(Generic[AnyStr]):
    def __init__(self, pattern: AnyStr, flags: int) -> None:
        self._pattern: AnyStr = pattern
        self._flags = flags

    def __getattr__(self, name: str) -> Any:
        compiled: re.Pattern[AnyStr] = re.compile(self._pattern, self._flags)
        # From here on its methods are found here, and this is not called any more.
        self.__dict__.update({one: getattr(compiled, one) for one in dir(compiled)})
        return getattr(compiled, name)
