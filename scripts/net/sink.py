#!/usr/bin/env python3
"""An HTTP server that swallows what is posted and answers its SHA-256: sink.py ADDRESS PORT."""
import hashlib
import http.server
import socket
import sys


class Sink(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        left, seen = int(self.headers["Content-Length"]), hashlib.sha256()
        while left and (data := self.rfile.read(min(left, 1 << 16))):
            seen.update(data)
            left -= len(data)
        answer = seen.hexdigest().encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    address_family = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET


server = Server((sys.argv[1], int(sys.argv[2])), Sink)
print("ready", flush=True)
server.serve_forever()
