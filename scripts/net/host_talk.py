#!/usr/bin/env python3
"""Packets for the host's kernel, and back: host_talk.py hear GROUP INTERFACE | tell GROUP ADDRESS | flood ADDRESS SECONDS

hear    joins a multicast group of IPv4 on an interface, prints "ready", then the first datagram to port 520.
tell    sends a datagram to port 520 of a group, from the interface that has ADDRESS, ten times a second for 20 s.
flood   sends datagrams to port 9 of ADDRESS, as fast as it can.
"""

import socket
import struct
import sys
import time

what, address, more = sys.argv[1:4]
family = socket.AF_INET6 if ":" in address else socket.AF_INET
s = socket.socket(family, socket.SOCK_DGRAM)
if what == "hear":
    s.bind((address, 520))
    index = socket.if_nametoindex(more)
    join = struct.pack("4s4si", socket.inet_aton(address), bytes(4), index)
    s.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, join)
    print("ready", flush=True)
    print(s.recv(100).decode(), flush=True)
elif what == "tell":
    s.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(more))
    for _ in range(200):
        s.sendto(b"hello", (address, 520))
        time.sleep(0.1)
else:
    end, sent = time.monotonic() + float(more), 0
    while time.monotonic() < end:
        for _ in range(50):
            s.sendto(b"flood" * 10, (address, 9))
        sent += 50
    print(sent)
