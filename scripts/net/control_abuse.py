#!/usr/bin/env python3
"""Abuses the control socket in one way: control_abuse.py SOCKET KIND

Every connection must end within a minute, in a 4xx or (where no request was understood) by being closed.
503 is accepted from a daemon that has enough connections. Anything else, a 2xx or a hang above all, is a failure.
"""

import random
import re
import socket
import sys
import time

path, kind = sys.argv[1], sys.argv[2]
LIMIT = 60  # seconds until a connection must have ended
rng = random.Random(2)


def connect():
    s = socket.socket(socket.AF_UNIX)
    s.settimeout(LIMIT)
    s.connect(path)
    return s


def status(s):
    """The status code of what comes back, or None when the daemon hung up without a word."""
    data = b""
    try:
        while b"\r\n" not in data:
            part = s.recv(4096)
            if not part:
                break
            data += part
    except ConnectionError:
        pass
    except socket.timeout:
        sys.exit(f"{kind}: no answer and no hang-up within {LIMIT} s")
    match = re.match(rb"HTTP/1\.[01] (\d{3})", data)
    if data and not match:
        sys.exit(f"{kind}: answered with {data[:60]!r}")
    return int(match[1]) if match else None


def expect(s, what, closing_is_fine=True):
    code = status(s)
    s.close()
    if code is None and closing_is_fine:
        return
    if code is None or not (400 <= code < 500 or code == 503):
        sys.exit(f"{kind}: {what}: got {code}")


def send(s, data):
    """True while the daemon still reads."""
    try:
        s.sendall(data)
        return True
    except (ConnectionError, socket.timeout):
        return False


def ask(data, what, closing_is_fine=True):
    s = connect()
    send(s, data)
    expect(s, what, closing_is_fine)


def request(method, target, body=b"", headers=""):
    head = f"{method} {target} HTTP/1.1\r\nHost: sluice\r\nConnection: close\r\n{headers}"
    if body:
        head += f"Content-Length: {len(body)}\r\nContent-Type: application/json\r\n"
    return head.encode() + b"\r\n" + body


def endless(first, chunk):
    """Send chunk again and again until the daemon has had enough."""
    s = connect()
    send(s, first)
    sent, end = 0, time.monotonic() + LIMIT
    while send(s, chunk) and sent < 64 << 20:
        sent += len(chunk)
        if time.monotonic() > end:
            sys.exit(f"{kind}: the daemon still reads after {LIMIT} s and {sent} bytes")
    if sent >= 64 << 20:
        sys.exit(f"{kind}: the daemon took {sent} bytes")
    expect(s, "endless")


if kind == "garbage":
    for _ in range(100):
        ask(rng.randbytes(rng.randint(1, 4096)) + b"\r\n\r\n", "random bytes")
    ask(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc" + rng.randbytes(500) + b"\r\n\r\n", "a TLS hello")
    ask(b"GET /v1/stats SLUICE/9\r\n\r\n", "a strange protocol")
    ask(b"GET\r\n\r\n", "half a request line")
elif kind == "paths":
    for target in ("/", "/v1", "/v1/nothing", "/v2/stats", "/../../etc/passwd", "/v1/" + "a" * 3000, "/v1/%00%ff",
                   "/v1/services/nowhere", "/v1/services/%ff", "/v1/flows?limit=-1"):
        ask(request("GET", target), target, closing_is_fine=False)
elif kind == "methods":
    for method in ("DELETE", "PATCH", "BREW"):
        ask(request(method, "/v1/stats"), method, closing_is_fine=False)
elif kind == "bodies":
    backend = "/v1/services/nat4/backends/10.1.0.11:8080"
    for target in ("/v1/config/check", "/v1/config/apply", backend + "/weight", backend + "/drain", "/v1/stats", "/v1/nothing"):
        for body in (b"{", b"[" * 10000, b"null", b"\xff\xfe" * 50, b'{"x": 1e999}', b'"' + b"a" * 20000 + b'"'):
            ask(request("POST", target, body), f"{target} with {body[:12]!r}")
elif kind == "endless-header":
    endless(b"GET /v1/stats HTTP/1.1\r\nHost: sluice\r\nX-Long: ", b"a" * 65536)
    endless(b"GET /v1/stats HTTP/1.1\r\nHost: sluice\r\n", b"X-Many: a\r\n" * 5000)
    endless(b"GET /", b"a" * 65536)
elif kind == "endless-body":
    for target in ("/v1/config/apply", "/v1/nothing"):
        head = f"POST {target} HTTP/1.1\r\nHost: sluice\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
        endless(head.encode(), b"10000\r\n" + b" " * 65536 + b"\r\n")
elif kind == "huge-length":
    for length in ("99999999999", "18446744073709551615", "18446744073709551616", "-1", "x"):
        s = connect()
        send(s, request("POST", "/v1/config/apply", headers=f"Content-Type: application/json\r\nContent-Length: {length}\r\n"))
        expect(s, f"Content-Length: {length}")
elif kind == "slow":
    # Twenty clients that begin a request and then say nothing, or a byte now and then: all must be hung up on.
    silent = []
    for i in range(20):
        s = connect()
        send(s, [b"", b"G", b"GET /v1/stats HTTP/1.1\r\n", b"POST /v1/config/apply HTTP/1.1\r\nContent-Length: 100\r\n\r\n{"][i % 4])
        silent.append(s)
    s = connect()
    drip, end = b"GET /v1/stats HTTP/1.1\r\nX: " + b"a" * 1000, time.monotonic() + LIMIT
    for byte in drip:
        if not send(s, bytes([byte])):
            break
        if time.monotonic() > end:
            sys.exit(f"slow: a byte now and then is still read after {LIMIT} s")
        time.sleep(0.2)
    for s in silent:
        expect(s, "silence")
elif kind == "concurrent":
    # Four hundred at once, each with a request left open; then the same again, all complete.
    idle = []
    for _ in range(400):
        try:
            s = connect()
        except OSError:  # refused or a full backlog: a bound is what is wanted
            break
        send(s, b"GET /v1/stats HTTP/1.1\r\nHost: sluice\r\n")
        idle.append(s)
    for s in idle:
        s.close()
    busy = []
    for _ in range(400):
        try:
            s = connect()
        except OSError:
            break
        send(s, request("GET", "/v1/stats"))
        busy.append(s)
    codes = {}
    for s in busy:
        code = status(s)
        codes[code] = codes.get(code, 0) + 1
        s.close()
    print(codes)
    if not codes.get(200) or any(c not in (None, 200, 408, 429, 503) for c in codes):
        sys.exit(f"concurrent: {codes}")
else:
    sys.exit(f"no such abuse: {kind}")
