"""A gRPC server and a client that reaches it through the proxy: `grpc_echo.py <server> <proxy>`.

Each is an address, or a port of 127.0.0.1.
"""
import sys
import threading
import time
from concurrent import futures

import grpc

LARGE = b"x" * 1_500_000
cancelled = threading.Event()


def unary(request, context):
    context.set_trailing_metadata((("x-trailer", "t"),))
    if request == b"fail":
        context.abort(grpc.StatusCode.FAILED_PRECONDITION, "as asked")
    if request == b"slow":
        time.sleep(3)
    return request


def one_to_many(request, context):
    if request == b"for ever":
        context.add_callback(cancelled.set)
        while context.is_active():
            yield b"more"
            time.sleep(0.01)
        return
    for part in range(100):
        yield request + str(part).encode()


def many_to_one(requests, context):
    return str(sum(len(request) for request in requests)).encode()


def many_to_many(requests, context):
    yield from requests


def address(text):
    return text if ":" in text else f"127.0.0.1:{text}"


def serve(at):
    server = grpc.server(futures.ThreadPoolExecutor(16), options=UNLIMITED)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Echo", {
        "Unary": grpc.unary_unary_rpc_method_handler(unary),
        "OneToMany": grpc.unary_stream_rpc_method_handler(one_to_many),
        "ManyToOne": grpc.stream_unary_rpc_method_handler(many_to_one),
        "ManyToMany": grpc.stream_stream_rpc_method_handler(many_to_many),
    }),))
    assert server.add_insecure_port(at) == int(at.rsplit(":", 1)[1])
    server.start()
    return server


def code_of(call):
    try:
        call()
    except grpc.RpcError as error:
        return error.code()
    return grpc.StatusCode.OK


def talk(to):
    channel = grpc.insecure_channel(to, options=UNLIMITED)
    call_unary = channel.unary_unary("/test.Echo/Unary")
    answer, call = call_unary.with_call(b"hello", timeout=10, metadata=(("x-mine", "1"),))
    assert answer == b"hello"
    assert ("x-trailer", "t") in call.trailing_metadata(), call.trailing_metadata()
    assert call_unary(LARGE, timeout=10) == LARGE
    try:
        call_unary(b"fail", timeout=10)
        raise AssertionError("no failure")
    except grpc.RpcError as error:
        assert error.code() == grpc.StatusCode.FAILED_PRECONDITION and error.details() == "as asked", error

    answers = list(channel.unary_stream("/test.Echo/OneToMany")(b"n", timeout=10))
    assert answers == [b"n" + str(part).encode() for part in range(100)]
    count = channel.stream_unary("/test.Echo/ManyToOne")(iter([b"ab", LARGE] * 3), timeout=10)
    assert count == str(3 * (2 + len(LARGE))).encode(), count

    # Each request waits for the answer to the one before: both directions must be open at once.
    turn = threading.Semaphore(1)

    def requests():
        for part in range(20):
            turn.acquire()
            yield str(part).encode()

    for part, answer in enumerate(channel.stream_stream("/test.Echo/ManyToMany")(requests(), timeout=10)):
        assert answer == str(part).encode()
        turn.release()
    assert part == 19

    start = time.monotonic()
    assert code_of(lambda: call_unary(b"slow", timeout=0.3)) == grpc.StatusCode.DEADLINE_EXCEEDED
    assert time.monotonic() - start < 2
    endless = channel.unary_stream("/test.Echo/OneToMany")(b"for ever")
    assert next(endless) == b"more"
    endless.cancel()
    assert cancelled.wait(5), "the server was not told that the client cancelled"


UNLIMITED = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]

if __name__ == "__main__":
    server = serve(address(sys.argv[1]))
    talk(address(sys.argv[2]))
    server.stop(0)
    print("ok")
