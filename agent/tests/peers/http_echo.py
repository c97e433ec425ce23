"""Python's HTTP server and a client of its library that reaches it through the proxy: `http_echo.py <server> <proxy>`.

Both are ports of 127.0.0.1.
"""
import http.client
import http.server
import sys
import threading


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
        if self.path == "/moved":
            self.send_response(302)
            self.send_header("Location", "/elsewhere")
        else:
            self.send_response(200)
        self.send_header("X-Method", self.command)
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
        if self.command != "HEAD":
            self.wfile.write(body)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = answer

    def log_message(self, *_):
        pass


def ask(client, method, path, body=None, **more):
    client.request(method, path, body, **more)
    answer = client.getresponse()
    assert answer.headers["X-Method"] == method, answer.headers.as_string()
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
    assert client.sock is connection, "not one connection for all"


server = http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Echo)
threading.Thread(target=server.serve_forever, daemon=True).start()
talk(int(sys.argv[2]))
print("ok")
