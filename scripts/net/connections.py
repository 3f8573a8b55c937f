#!/usr/bin/env python3
"""Many short TCP connections: connections.py HOST PORT COUNT AT-ONCE

Opens COUNT connections to HOST, AT-ONCE of them at a time, asks for / on each, reads to the end, and closes. Every one must
be answered whole, by a backend's name. Prints how many went to which; fails, with the first few reasons, if one is broken.
"""

import asyncio
import collections
import ipaddress
import sys

host, port, count, at_once = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
bracketed = f"[{host}]" if ipaddress.ip_address(host).version == 6 else host
request = f"GET / HTTP/1.1\r\nHost: {bracketed}\r\nConnection: close\r\n\r\n".encode()
names, broken = collections.Counter(), []
left = iter(range(count))


async def ask():
    reader, writer = await asyncio.open_connection(host, port)
    try:
        writer.write(request)
        answer = await reader.read()
    finally:
        writer.close()
    head, _, body = answer.decode().partition("\r\n\r\n")
    if not head.startswith("HTTP/1.1 200 ") or not body.endswith("\n") or not body.startswith("b"):
        raise ValueError(f"answered {answer!r}")
    return body.strip()


async def client():
    for number in left:
        try:
            names[await asyncio.wait_for(ask(), 30)] += 1
        except (OSError, ValueError, TimeoutError) as error:
            broken.append(f"connection {number}: {error!r}")


async def main():
    await asyncio.gather(*(client() for _ in range(at_once)))


asyncio.run(main())
print(f"{len(broken)} of {count} connections broken; spread: {dict(sorted(names.items()))}")
print(*broken[:5], sep="\n")
sys.exit(bool(broken) or sum(names.values()) != count)
