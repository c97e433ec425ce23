"""Python's HTTP server, which prints every request line that reaches it: `http_seen.py <port of 127.0.0.1>`."""
import sys

import http_echo


class Seen(http_echo.Echo):
    def log_request(self, *_):
        print(self.requestline, flush=True)


http_echo.serve(sys.argv[1], Seen).serve_forever()
