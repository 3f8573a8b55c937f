#!/usr/bin/env python3
"""The far end of tunnels, for kernels without them: decapsulate.py INTERFACE

Takes what comes in IPIP, GRE and GUE (UDP port 6080, both variants), over either family, out of its tunnel and gives it to
this host through a TUN device named INTERFACE, which this program makes. Whatever is malformed is not passed on. The first packet
of each kind is announced: "ipip 4in6", "gre 6in4", "gue1 4in4", "gue0 6in6", with the outer source address and traffic class.
"""

import fcntl
import selectors
import socket
import struct
import sys

TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 0x0001, 0x1000
IPIP, UDP, IPV6, GRE = 4, 17, 41, 47

tun = open("/dev/net/tun", "r+b", buffering=0)
fcntl.ioctl(tun, TUNSETIFF, struct.pack("16sH22x", sys.argv[1].encode(), IFF_TUN | IFF_NO_PI))

seen = set()


def deliver(kind, outer_version, inner, source):
    version = inner[0] >> 4 if inner else 0
    if version not in (4, 6):
        return
    name = f"{kind} {version}in{outer_version}"
    if (name, source) not in seen:
        seen.add((name, source))
        print(name, "from", source, flush=True)
    try:
        tun.write(inner)
    except OSError as error:
        print("not delivered:", error, flush=True)


def ipip(version, payload, source, protocol):
    if payload and payload[0] >> 4 == (4 if protocol == IPIP else 6):
        deliver("ipip", version, payload, source)


def gre(version, payload, source, _):
    if len(payload) >= 4 and payload[:2] == b"\0\0":
        inner = {0x0800: 4, 0x86DD: 6}.get(struct.unpack("!H", payload[2:4])[0])
        if inner == payload[4] >> 4:
            deliver("gre", version, payload[4:], source)


def gue(version, payload, source, _):
    if payload[0] >> 6 == 1:
        deliver("gue1", version, payload, source)
    elif payload[:1] == b"\0" and payload[2:4] == b"\0\0" and payload[1] in (IPIP, IPV6):
        deliver("gue0", version, payload[4:], source)


poll = selectors.DefaultSelector()


def listen(family, kind, protocol, handler, port=None):
    s = socket.socket(family, kind, protocol)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
    if port:
        if family == socket.AF_INET6:
            s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        s.bind(("", port))
    poll.register(s, selectors.EVENT_READ, (handler, protocol))


for family in (socket.AF_INET, socket.AF_INET6):
    for protocol, handler in ((IPIP, ipip), (IPV6, ipip), (GRE, gre)):
        listen(family, socket.SOCK_RAW, protocol, handler)
    listen(family, socket.SOCK_DGRAM, UDP, gue, 6080)

print("ready", flush=True)
while True:
    for key, _ in poll.select():
        data, peer = key.fileobj.recvfrom(65535)
        handler, protocol = key.data
        version = 4 if key.fileobj.family == socket.AF_INET else 6
        if version == 4 and key.fileobj.type == socket.SOCK_RAW:
            # Only a raw IPv4 socket shows the outer header.
            data = data[(data[0] & 15) * 4:]
        if data:
            handler(version, data, peer[0], protocol)
