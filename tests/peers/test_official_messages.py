"""Our messages beside the official classes: the same bytes mean the same to both."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import json_format, message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from batch_gateway.wire.ext_proc import messages_pb2

from .installing import peer_environment

pytestmark = pytest.mark.peer("xds-protos")

_SCRIPT = Path(__file__).parent / "answering" / "official_messages.py"
_LIMIT_S = 60

_CORE, _EXT_PROC = "envoy.config.core.v3", "envoy.service.ext_proc.v3"
OFFICIAL_NAMES = {
    "HeaderValue": f"{_CORE}.HeaderValue",
    "HeaderMap": f"{_CORE}.HeaderMap",
    "HeaderValueOption": f"{_CORE}.HeaderValueOption",
    "Metadata": f"{_CORE}.Metadata",
    "HttpStatus": "envoy.type.v3.HttpStatus",
    "HealthCheckRequest": "grpc.health.v1.HealthCheckRequest",
    "HealthCheckResponse": "grpc.health.v1.HealthCheckResponse",
}
OURS: dict[str, Descriptor] = dict(messages_pb2.DESCRIPTOR.message_types_by_name)

ENUM, INT32, BYTES, STRING = (
    FieldDescriptor.TYPE_ENUM,
    FieldDescriptor.TYPE_INT32,
    FieldDescriptor.TYPE_BYTES,
    FieldDescriptor.TYPE_STRING,
)
# The same bytes on the wire; ours takes every status code, not only those with a name.
SAME_ON_THE_WIRE = {("HttpStatus", "code"): (INT32, ENUM)}


def official_name(ours: str) -> str:
    return OFFICIAL_NAMES.get(ours, f"{_EXT_PROC}.{ours}")


@pytest.fixture(scope="module")
def python() -> Path:
    return peer_environment("xds-protos", ["xds-protos", "grpcio-health-checking"])


def ask(python: Path, questions: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    done = subprocess.run(
        [str(python), str(_SCRIPT)],
        input="\n".join(json.dumps(question) for question in questions),
        capture_output=True,
        text=True,
        timeout=_LIMIT_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_every_field_has_the_official_number_type_and_values(python: Path) -> None:
    described = ask(python, [{"describe": official_name(name)} for name in OURS])
    for (name, ours), official in zip(OURS.items(), described, strict=True):
        for field in ours.fields:
            number, kind, repeated, oneof, values = official[field.name]
            where = f"{name}.{field.name}"
            assert field.number == number, where
            assert field.is_repeated is repeated, where
            expected = SAME_ON_THE_WIRE.get((name, field.name), (kind, kind))
            assert (field.type, kind) == expected, where
            assert (field.containing_oneof.name if field.containing_oneof else "") == oneof, where
            if field.enum_type is not None:
                ours_by_name = {one.name: one.number for one in field.enum_type.values}
                assert ours_by_name.items() <= values.items(), where


def test_what_we_write_the_official_classes_read_and_write_alike(python: Path) -> None:
    messages = [message for ours in OURS.values() for message in filled(ours)]
    assert len(messages) > len(OURS)
    questions = [
        {
            "message": official_name(message.DESCRIPTOR.name),
            "hex": message.SerializeToString(deterministic=True).hex(),
        }
        for message in messages
    ]
    for message, official in zip(messages, ask(python, questions), strict=True):
        ours = json_format.MessageToDict(
            message, preserving_proto_field_name=True, use_integers_for_enums=True
        )
        assert official["json"] == ours
        read = type(message).FromString(bytes.fromhex(official["hex"]))
        assert read == message


def filled(descriptor: Descriptor, depth: int = 0) -> Iterator[Message]:
    """Messages with every field set: one for each way to choose in a oneof."""
    choices = [one for oneof in descriptor.oneofs for one in oneof.fields] or [None]
    for choice in choices:
        message = message_factory.GetMessageClass(descriptor)()
        for field in descriptor.fields:
            if field.containing_oneof is None or field is choice:
                _fill(message, field, depth)
        yield message


def _fill(message: Message, field: FieldDescriptor, depth: int) -> None:
    kind = field.message_type
    if kind is not None and kind.GetOptions().map_entry:
        getattr(message, field.name)["envoy.lb"].update({"served": "10.0.0.1:8000", "n": 1.5})
    elif kind is not None and kind.full_name == "google.protobuf.Struct":
        getattr(message, field.name).update({"envoy.lb": {"list": ["a", None, True]}})
    elif kind is not None and field.is_repeated:
        getattr(message, field.name).extend(filled(kind, depth + 1))
    elif kind is not None:
        getattr(message, field.name).CopyFrom(next(filled(kind, depth + 1)))
    elif field.is_repeated:
        getattr(message, field.name).extend(["x-one", "x-two"])
    else:
        setattr(message, field.name, _value(field))


def _value(field: FieldDescriptor) -> object:
    if field.enum_type is not None:
        return field.enum_type.values[-1].number
    if field.type == BYTES:
        # Not UTF-8, so that a field for text would not take it.
        return b"\xff\x00raw"
    if field.type == STRING:
        return f"the {field.name}, ü"
    return True if field.type == FieldDescriptor.TYPE_BOOL else 429
