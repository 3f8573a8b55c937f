#!/usr/bin/env python3
"""A VLAN sub-interface for kernels without 802.1Q: vlan_host.py LINK ID [ID...]

Makes a tap device "vlanID" for each ID, with the hardware address of LINK, and carries frames between them: with a tag on LINK,
without one on the tap. Also counts, and prints on SIGUSR1, what it saw on LINK with another tag or none ("stray"), and the
priorities. Runs until it is ended; the taps go with it.
"""

import fcntl
import os
import selectors
import signal
import socket
import struct
import sys

SO_RCVBUFFORCE = 33
SOL_PACKET, PACKET_AUXDATA, PACKET_OUTGOING = 263, 8, 4
TP_STATUS_VLAN_VALID = 1 << 4
ETH_P_ALL, TPID = 3, 0x8100
TUNSETIFF, IFF_TAP, IFF_NO_PI = 0x400454CA, 0x0002, 0x1000
SIOCGIFHWADDR, SIOCSIFHWADDR, SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP = 0x8927, 0x8924, 0x8913, 0x8914, 1

link, ids = sys.argv[1], [int(vlan) for vlan in sys.argv[2:]]
wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
wire.setsockopt(SOL_PACKET, PACKET_AUXDATA, 1)
wire.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 8 << 20)
wire.bind((link, ETH_P_ALL))
address = fcntl.ioctl(wire, SIOCGIFHWADDR, struct.pack("16s24x", link.encode()))[16:24]

taps = {}
poll = selectors.DefaultSelector()
for vlan in ids:
    name = f"vlan{vlan}".encode()
    tap = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(tap, TUNSETIFF, struct.pack("16sH22x", name, IFF_TAP | IFF_NO_PI))
    fcntl.ioctl(wire, SIOCSIFHWADDR, struct.pack("16s8s16x", name, address))
    flags = struct.unpack_from("H", fcntl.ioctl(wire, SIOCGIFFLAGS, struct.pack("16s24x", name)), 16)[0]
    fcntl.ioctl(wire, SIOCSIFFLAGS, struct.pack("16sH22x", name, flags | IFF_UP))
    taps[vlan] = tap
    poll.register(tap, selectors.EVENT_READ, vlan)
poll.register(wire, selectors.EVENT_READ, None)

stray, priorities = 0, set()


def report(*_):
    print(f"stray {stray} priorities {sorted(priorities)}", flush=True)


def tag_of(ancillary, frame):
    """The tag that the kernel took off, or that is still there, and the frame without it."""
    for level, kind, data in ancillary:
        if (level, kind) == (SOL_PACKET, PACKET_AUXDATA):
            status, _, _, _, _, control, _ = struct.unpack_from("=IIIHHHH", data)
            if status & TP_STATUS_VLAN_VALID:
                return control, frame
    if frame[12:14] == TPID.to_bytes(2, "big"):
        return int.from_bytes(frame[14:16], "big"), frame[:12] + frame[16:]
    return None, frame


signal.signal(signal.SIGUSR1, report)
print("ready", flush=True)
while True:
    for key, _ in poll.select():
        if key.data is not None:
            frame = os.read(key.fileobj, 65535)
            wire.send(frame[:12] + struct.pack("!HH", TPID, key.data) + frame[12:])
            continue
        frame, ancillary, _, sender = wire.recvmsg(65535, 256)
        if sender[2] == PACKET_OUTGOING:
            continue
        control, frame = tag_of(ancillary, frame)
        if control is None or control & 0xFFF not in taps:
            # A bridge floods what it does not know: group addresses of the other VLAN are no news.
            stray += frame[0] & 1 == 0 and frame[:6] == address[2:8]
            continue
        priorities.add(control >> 13)
        os.write(taps[control & 0xFFF], frame)
