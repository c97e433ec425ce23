"""A websocket server and a client that reaches it through the proxy: `websocket_echo.py <server> <proxy>`.

Each is an address, or a port of 127.0.0.1.
"""
import asyncio
import sys

import websockets


async def echo(socket):
    async for message in socket:
        await socket.send(message)


def address(text):
    return text if ":" in text else f"127.0.0.1:{text}"


async def main(own, proxy):
    host, port = own.split(":")
    async with websockets.serve(echo, host, int(port), max_size=None):
        async with websockets.connect(f"ws://{proxy}/chat?a=b", max_size=None) as socket:
            for message in ["hello", b"\x00\x01", "x" * 1_000_000]:
                await socket.send(message)
                assert await socket.recv() == message
            await (await socket.ping())
            await socket.close(4001, "bye")
            assert socket.close_code == 4001, socket.close_code


asyncio.run(asyncio.wait_for(main(address(sys.argv[1]), address(sys.argv[2])), 20))
print("ok")
