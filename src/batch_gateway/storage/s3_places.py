"""Under which URL a bucket of S3 is. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, Self
from urllib.parse import urlsplit

from batch_gateway.storage.store_address import StoreAddress

__all__ = ["S3Place"]

_ENDPOINT_VARIABLES = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")
_REGION_VARIABLES = ("AWS_REGION", "AWS_DEFAULT_REGION")


class S3Place(NamedTuple):
    """A bucket's URL, and its region.

    `is_virtual` says that the bucket stands in the host name.
    """

    url: str
    region: str
    is_virtual: bool

    @classmethod
    def of(cls, address: StoreAddress, environment: Mapping[str, str]) -> Self:
        """Where the bucket of `address` is."""
        region = address.region or _first(environment, _REGION_VARIABLES) or "us-east-1"
        endpoint = address.endpoint or _first(environment, _ENDPOINT_VARIABLES)
        is_virtual = address.path_style is False
        if not endpoint:
            # A certificate of AWS is for one level of names below its own.
            is_virtual = is_virtual or (address.path_style is None and "." not in address.bucket)
            endpoint = f"https://s3.{region}.amazonaws.com"
        parts = urlsplit(endpoint.rstrip("/"))
        if is_virtual:
            return cls(
                parts._replace(netloc=f"{address.bucket}.{parts.netloc}").geturl(), region, True
            )
        return cls(f"{parts.geturl()}/{address.bucket}", region, False)

    def endpoint(self, bucket: str) -> str:
        """What obstore calls so: with the bucket where that is in the host name, else without."""
        return self.url if self.is_virtual else self.url.removesuffix(f"/{bucket}")


def _first(environment: Mapping[str, str], names: tuple[str, ...]) -> str:
    return next((value for name in names if (value := environment.get(name, "").strip())), "")
