"""Reads messages as the official classes do, and writes them again: JSON lines in and out.

In: {"message": full name, "hex": the bytes}, or {"describe": full name} for its fields.
Out: {"json": as the official JSON mapping has it, "hex": written anew}, or
{field: [number, kind, repeated, name of its oneof, numbers of its enum by name]}.
"""

import binascii
import importlib
import json
import sys

from google.protobuf import descriptor_pool, json_format, message_factory

for module in (
    "envoy.service.ext_proc.v3.external_processor_pb2",
    "envoy.config.core.v3.base_pb2",
    "grpc_health.v1.health_pb2",
):
    importlib.import_module(module)


def main():
    for line in sys.stdin:
        asked = json.loads(line)
        answer = describe(asked["describe"]) if "describe" in asked else read_and_write(asked)
        print(json.dumps(answer), flush=True)


def describe(name):
    fields = descriptor_pool.Default().FindMessageTypeByName(name).fields
    return {
        field.name: [
            field.number,
            field.type,
            field.is_repeated,
            field.containing_oneof.name if field.containing_oneof else "",
            {one.name: one.number for one in field.enum_type.values} if field.enum_type else {},
        ]
        for field in fields
    }


def read_and_write(asked):
    kind = descriptor_pool.Default().FindMessageTypeByName(asked["message"])
    message = message_factory.GetMessageClass(kind)()
    message.ParseFromString(binascii.unhexlify(asked["hex"]))
    as_json = json_format.MessageToDict(
        message, preserving_proto_field_name=True, use_integers_for_enums=True
    )
    return {"json": as_json, "hex": message.SerializeToString(deterministic=True).hex()}


main()
