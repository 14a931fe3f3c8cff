"""An echo service on grpclib, whose HTTP/2 is that of h2. Runs in an environment that has it."""

# pyright: reportMissingImports=false

from __future__ import annotations

import asyncio
import sys

from grpclib.const import Cardinality, Handler
from grpclib.encoding.base import CodecBase
from grpclib.server import Server


class Bytes(CodecBase):
    __content_subtype__ = "proto"

    def encode(self, message, message_type):
        return message

    def decode(self, data, message_type):
        return data


class Service:
    async def echo(self, stream):
        async for message in stream:
            await stream.send_message(message)

    async def once(self, stream):
        message = await stream.recv_message()
        await stream.send_message(message[::-1])

    def __mapping__(self):
        return {
            "/test.Service/Echo": Handler(self.echo, Cardinality.STREAM_STREAM, bytes, bytes),
            "/test.Service/Once": Handler(self.once, Cardinality.UNARY_UNARY, bytes, bytes),
        }


async def main():
    server = Server([Service()], codec=Bytes())
    await server.start("127.0.0.1", int(sys.argv[1]))
    await server.wait_closed()


asyncio.run(main())
