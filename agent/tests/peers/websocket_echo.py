"""A websocket server and a client that reaches it through the gateway: `websocket_echo.py <server port> <gateway port>`."""
import asyncio
import sys

import websockets


async def echo(socket):
    async for message in socket:
        await socket.send(message)


async def main(own, gateway):
    async with websockets.serve(echo, "127.0.0.1", own, max_size=None):
        async with websockets.connect(f"ws://127.0.0.1:{gateway}/chat?a=b", max_size=None) as socket:
            for message in ["hello", b"\x00\x01", "x" * 1_000_000]:
                await socket.send(message)
                assert await socket.recv() == message
            await (await socket.ping())
            await socket.close(4001, "bye")
            assert socket.close_code == 4001, socket.close_code


asyncio.run(asyncio.wait_for(main(int(sys.argv[1]), int(sys.argv[2])), 20))
print("ok")
