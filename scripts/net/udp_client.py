#!/usr/bin/env python3
"""UDP echo client: udp_client.py VIP PORT LARGEST FLOWS [--no-checksum]

From FLOWS sockets, sends one datagram of each size from 1 to LARGEST, waits for each echo before it sends the next,
and checks that the echo has the same bytes and comes from VIP:PORT. Each flow must be answered by one backend throughout.
Prints how the flows spread. Any loss or difference is a failure: the path is idle, and one datagram is under way at a time.
"""

import argparse
import collections
import random
import socket
import sys

SO_NO_CHECK = 11

arguments = argparse.ArgumentParser()
arguments.add_argument("vip")
arguments.add_argument("port", type=int)
arguments.add_argument("largest", type=int)
arguments.add_argument("flows", type=int)
arguments.add_argument("--no-checksum", action="store_true", help="send with UDP checksum 0 (IPv4)")
args = arguments.parse_args()

family = socket.AF_INET6 if ":" in args.vip else socket.AF_INET
sockets = []
for _ in range(args.flows):
    s = socket.socket(family, socket.SOCK_DGRAM)
    s.settimeout(20)
    if args.no_checksum:
        s.setsockopt(socket.SOL_SOCKET, SO_NO_CHECK, 1)
    sockets.append(s)


exchanged = 0


def exchange(s, data):
    global exchanged
    s.sendto(data, (args.vip, args.port))
    try:
        answer, peer = s.recvfrom(65535)
    except socket.timeout:
        sys.exit(f"no answer to {len(data)} bytes from port {s.getsockname()[1]}, after {exchanged} exchanges")
    if peer[:2] != (args.vip, args.port):
        sys.exit(f"answer to {len(data)} bytes came from {peer[:2]}, not from the VIP")
    exchanged += 1
    return answer


names = [exchange(s, b"who").decode() for s in sockets]
rng = random.Random(2)
for size in range(1, args.largest + 1):
    data = rng.randbytes(size)
    if data == b"who":
        continue
    if exchange(sockets[size % args.flows], data) != data:
        sys.exit(f"echo of {size} bytes differs")
for s, name in zip(sockets, names):
    if exchange(s, b"who").decode() != name:
        sys.exit("a flow moved to another backend")
print(f"{args.largest} sizes, {args.flows} flows: " + ", ".join(f"{k} {n}" for k, n in sorted(collections.Counter(names).items())))
