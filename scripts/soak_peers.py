"""The servers and clients of scripts/soak: `soak_peers.py serve` in the pod of an application, `soak_peers.py call
<plan>` in that of a caller. A plan is JSON: `seconds`, and the addresses of each kind of client.

A client counts what went well and says what did not; a connection that ends before its client ends it has failed.
"""

import asyncio
import json
import random
import sys
import time

try:
    import grpc
except ImportError:
    grpc = None

HTTP, ECHO, DETECTED, GRPC = 8080, 7000, 7001, 50051
BODY = b"x" * 1000
BULK = 3_000_000
# Seconds; on a busy machine much is late, and that is not what this is about.
PATIENCE = 60


async def read_body(reader, head):
    """The length of a body, read to its end."""
    if b"\r\ntransfer-encoding: chunked" not in head:
        start = head.find(b"\r\ncontent-length: ")
        length = int(head[start + 18 :].split(b"\r\n")[0]) if start >= 0 else 0
        await reader.readexactly(length)
        return length
    total = 0
    while size := int(await reader.readline(), 16):
        await reader.readexactly(size + 2)
        total += size
    await reader.readline()
    return total


async def echo(reader, writer):
    while piece := await reader.read(65536):
        writer.write(piece)
        await writer.drain()
    writer.close()


async def answer(reader, writer):
    """Serves HTTP/1.1: 1000 bytes, the length of the body that came, or after an upgrade what comes."""
    try:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            if b"\r\nupgrade: websocket" in head:
                writer.write(b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n")
                return await echo(reader, writer)
            length = await read_body(reader, head)
            body = BODY if head.startswith(b"get ") else str(length).encode()
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body))
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()


async def one_to_many(request, context):
    for part in range(100):
        yield request + str(part).encode()


async def many_to_many(requests, context):
    async for request in requests:
        yield request


async def unary(request, context):
    return request


async def serve():
    await asyncio.start_server(answer, "0.0.0.0", HTTP)
    await asyncio.start_server(echo, "0.0.0.0", ECHO)
    await asyncio.start_server(echo, "0.0.0.0", DETECTED)
    if grpc:
        server = grpc.aio.server()
        methods = {
            "Unary": grpc.unary_unary_rpc_method_handler(unary),
            "OneToMany": grpc.unary_stream_rpc_method_handler(one_to_many),
            "ManyToMany": grpc.stream_stream_rpc_method_handler(many_to_many),
        }
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Echo", methods),))
        server.add_insecure_port(f"0.0.0.0:{GRPC}")
        await server.start()
    print("serving", flush=True)
    await asyncio.Event().wait()


class Calls:
    """What became of the calls of one kind."""

    def __init__(self, end):
        self.end, self.good, self.failures = end, 0, []

    def running(self):
        return time.monotonic() < self.end

    async def repeat(self, call):
        """Calls until the end; each call is a session of its own."""
        while self.running():
            start = time.monotonic()
            try:
                async with asyncio.timeout(self.end - start + 2 * PATIENCE):
                    await call(self)
            except Exception as error:
                while isinstance(error, ExceptionGroup):
                    error = error.exceptions[0]
                said = " ".join(repr(error).split())
                self.failures.append(f"{time.strftime('%T')} after {time.monotonic() - start:.1f} s: {said}")
                await asyncio.sleep(0.1)


async def exchange_bytes(calls, reader, writer, until):
    """Small pieces with pauses, now and then many at once."""
    while calls.running() and time.monotonic() < until:
        size = BULK if random.random() < 0.02 else random.randint(1, 5000)
        sent = random.randbytes(size)
        writer.write(sent)
        received = await reader.readexactly(size)
        assert received == sent, f"{size} bytes came back as others"
        calls.good += 1
        await asyncio.sleep(0.2)
    writer.write_eof()
    assert await reader.read() == b"", "bytes after the end"
    writer.close()


def opaque(address, lifetime):
    async def call(calls):
        reader, writer = await asyncio.open_connection(*address)
        await exchange_bytes(calls, reader, writer, time.monotonic() + lifetime)

    return call


def websocket(address, lifetime):
    async def call(calls):
        reader, writer = await asyncio.open_connection(*address)
        writer.write(b"GET /chat HTTP/1.1\r\nhost: app\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n")
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101 "), head
        await exchange_bytes(calls, reader, writer, time.monotonic() + lifetime)

    return call


def upload(address, _lifetime):
    async def call(calls):
        reader, writer = await asyncio.open_connection(*address)
        for count in range(20):
            body = random.randbytes(random.randint(0, 300_000))
            if count % 2:
                framing, sent = "content-length: %d" % len(body), body
            else:
                framing = "transfer-encoding: chunked"
                pieces = [body[at : at + 7000] for at in range(0, len(body), 7000)]
                sent = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
            writer.write(f"POST /upload HTTP/1.1\r\nhost: app\r\n{framing}\r\n\r\n".encode() + sent)
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            assert head.startswith(b"http/1.1 200 "), head
            length = int(head.split(b"\r\ncontent-length: ")[1].split(b"\r\n")[0])
            assert int(await reader.readexactly(length)) == len(body)
            calls.good += 1
            await asyncio.sleep(0.05)
        writer.close()

    return call


def grpc_calls(address, lifetime):
    """Short calls beside one that lasts."""

    async def talk(calls, channel, until):
        async def requests():
            while calls.running() and time.monotonic() < until:
                yield random.randbytes(500)
                await asyncio.sleep(0.2)

        async for _ in channel.stream_stream("/test.Echo/ManyToMany")(requests()):
            calls.good += 1

    async def ask(calls, channel, until):
        while calls.running() and time.monotonic() < until:
            assert await channel.unary_unary("/test.Echo/Unary")(b"hello", timeout=PATIENCE) == b"hello"
            parts = [part async for part in channel.unary_stream("/test.Echo/OneToMany")(b"n", timeout=PATIENCE)]
            assert len(parts) == 100, f"{len(parts)} parts"
            calls.good += 2
            await asyncio.sleep(0.1)

    async def call(calls):
        until = time.monotonic() + lifetime
        async with grpc.aio.insecure_channel("{}:{}".format(*address)) as channel:
            async with asyncio.TaskGroup() as group:
                group.create_task(talk(calls, channel, until))
                group.create_task(ask(calls, channel, until))

    return call


KINDS = {"opaque": opaque, "websocket": websocket, "upload": upload, "grpc": grpc_calls}


async def call(plan):
    """For each kind one client that lasts to the end, and some that come and go."""
    end = time.monotonic() + plan["seconds"]
    results = {}
    async with asyncio.TaskGroup() as group:
        for name, (kind, host, port) in plan["clients"].items():
            if kind == "grpc" and not grpc:
                continue
            calls = results[name] = Calls(end)
            for lifetime in [plan["seconds"], 60, 10, 5]:
                group.create_task(calls.repeat(KINDS[kind]((host, port), lifetime)))
    report = {name: {"good": calls.good, "failures": calls.failures} for name, calls in results.items()}
    print(json.dumps(report))


if __name__ == "__main__":
    asyncio.run(serve() if sys.argv[1] == "serve" else call(json.loads(sys.argv[2])))
