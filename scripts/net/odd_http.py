#!/usr/bin/env python3
"""HTTP servers with bad manners, one a port: odd_http.py FOLDER MODE:PORT...

good      200 and the word "well"
hang      takes the request and says nothing
drip      a byte of the header every 50 ms, for ever
garbage   bytes that are no HTTP
headers   a header without end
body      a body without end, as fast as it goes
redirect  302 to itself
silent    accepts and closes at once
tls       TLS with FOLDER/good.crt and .key, then good
wrong     TLS with FOLDER/wrong.crt and .key, then good
"""
import asyncio
import ssl
import sys

GOOD = b"HTTP/1.1 200 OK\r\nContent-Length: 13\r\nConnection: close\r\n\r\nall is well\r\n"


async def respond(mode, reader, writer):
    if mode == "silent":
        return
    await reader.readuntil(b"\r\n\r\n")
    if mode in ("good", "tls", "wrong"):
        writer.write(GOOD)
    elif mode == "hang":
        await reader.read()
    elif mode == "drip":
        for byte in b"HTTP/1.1 200 OK\r\nX-Slow: " + b"z" * 10000:
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(0.05)
    elif mode == "garbage":
        writer.write(bytes(range(256)) * 40)
    elif mode == "headers":
        writer.write(b"HTTP/1.1 200 OK\r\n")
        while True:
            writer.write(b"X-More: " + b"y" * 4000 + b"\r\n")
            await writer.drain()
    elif mode == "body":
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            writer.write(b"0" * 65536)
            await writer.drain()
    elif mode == "redirect":
        writer.write(b"HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
    await writer.drain()


def server(mode):
    async def handle(reader, writer):
        try:
            await respond(mode, reader, writer)
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass
        finally:
            writer.close()

    return handle


async def main():
    folder = sys.argv[1]
    running = []
    for argument in sys.argv[2:]:
        mode, port = argument.split(":")
        context = None
        if mode in ("tls", "wrong"):
            context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            name = "good" if mode == "tls" else "wrong"
            context.load_cert_chain(f"{folder}/{name}.crt", f"{folder}/{name}.key")
        running.append(await asyncio.start_server(server(mode), None, int(port), ssl=context))
    print("ready", flush=True)
    await asyncio.gather(*(one.serve_forever() for one in running))


asyncio.run(main())
