#!/usr/bin/env python3
"""UDP echo server: udp_echo.py NAME PORT ADDRESS...

Returns every datagram as it came, from the address it was sent to. The datagram b"who" is answered with NAME.
ADDRESS is a wildcard behind nat; a dsr backend names the VIPs.
"""

import selectors
import socket
import sys

name, port, addresses = sys.argv[1].encode(), int(sys.argv[2]), sys.argv[3:]
poll = selectors.DefaultSelector()
for address in addresses:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    s = socket.socket(family, socket.SOCK_DGRAM)
    if family == socket.AF_INET6:
        s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.bind((address, port))
    poll.register(s, selectors.EVENT_READ)
print("ready", flush=True)
while True:
    for key, _ in poll.select():
        data, peer = key.fileobj.recvfrom(65535)
        key.fileobj.sendto(name if data == b"who" else data, peer)
