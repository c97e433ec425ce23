"""Python's HTTP server and a client of its library that reaches it through the proxy: `http_echo.py <server> <proxy>`.

Both are ports of 127.0.0.1.
"""
import http.client
import http.server
import sys
import threading


STATUS = {"/moved": 302, "/nothing": 204, "/unchanged": 304}


class Echo(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def body(self):
        if self.headers["transfer-encoding"] != "chunked":
            return self.rfile.read(int(self.headers["content-length"] or 0))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def answer(self):
        body = self.body()
        if self.path == "/until-closed":
            # As servers of HTTP/1.0 do, who need not say how long anything is.
            self.protocol_version = "HTTP/1.0"
            self.close_connection = True
        self.send_response(STATUS.get(self.path, 200))
        if self.path == "/moved":
            self.send_header("Location", "/elsewhere")
        self.send_header("X-Method", self.command)
        if self.path == "/until-closed":
            self.end_headers()
            self.wfile.write(body)
            return
        if self.path == "/nothing":
            self.end_headers()
            return
        if self.path == "/chunked":
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for at in range(0, len(body), 1000):
                piece = body[at : at + 1000]
                self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            self.wfile.write(b"0\r\n\r\n")
            return
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD" and self.path != "/unchanged":
            self.wfile.write(body)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = answer

    def log_message(self, *_):
        pass


def ask(client, method, path, body=None, **more):
    client.request(method, path, body, **more)
    answer = client.getresponse()
    assert answer.headers["X-Method"] == method, answer.headers.as_string()
    return answer.status, answer.read()


def ask_first(client, path, body):
    """Sends a body only when it is asked for."""
    client.putrequest("POST", path)
    client.putheader("Content-Length", str(len(body)))
    client.putheader("Expect", "100-continue")
    client.endheaders()
    said = b""
    while not said.endswith(b"\r\n\r\n"):
        byte = client.sock.recv(1)
        assert byte, said
        said += byte
    assert said.startswith(b"HTTP/1.1 100 "), said
    client.send(body)
    answer = client.getresponse()
    return answer.status, answer.read()


def talk(port):
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    client.connect()
    connection = client.sock
    large = bytes(range(256)) * 4000
    for path in ["/plain", "/chunked"]:
        assert ask(client, "POST", path, b"hello") == (200, b"hello")
        assert ask(client, "PUT", path, large) == (200, large)
        pieces = (large[at : at + 7000] for at in range(0, len(large), 7000))
        headers = {"Transfer-Encoding": "chunked"}
        assert ask(client, "POST", path, pieces, headers=headers, encode_chunked=True) == (200, large)
        assert ask(client, "DELETE", path) == (200, b"")
    assert ask(client, "HEAD", "/plain") == (200, b"")
    assert ask(client, "GET", "/moved") == (302, b"")
    assert ask(client, "GET", "/nothing") == (204, b"")
    # It says how long the body would be that it does not send.
    assert ask(client, "GET", "/unchanged", b"not sent") == (304, b"")
    assert ask_first(client, "/plain", large) == (200, large)
    assert ask(client, "POST", "/until-closed", large) == (200, large)
    assert ask(client, "POST", "/plain", b"and on") == (200, b"and on")
    assert client.sock is connection, "not one connection for all"


def serve(port, handler=Echo):
    return http.server.ThreadingHTTPServer(("127.0.0.1", int(port)), handler)


if __name__ == "__main__":
    server = serve(sys.argv[1])
    threading.Thread(target=server.serve_forever, daemon=True).start()
    talk(int(sys.argv[2]))
    print("ok")
