#!/usr/bin/env python3
"""Sends frames that a balancer must survive: packet_abuse.py INTERFACE DESTINATION-MAC SEED COUNT

The same seed gives the same frames. They begin as correct TCP, UDP, ICMP, ARP and neighbour discovery in both families, to
VIPs, port addresses and strangers, and are then broken in one way each; some are noise from the first byte.
Source addresses are strangers' (198.18.0.0/15, 2001:db8:bad::/48), so that nothing here touches the clients' connections.
"""

import random
import socket
import struct
import sys
import time

interface, mac, seed, count = sys.argv[1], bytes.fromhex(sys.argv[2].replace(":", "")), int(sys.argv[3]), int(sys.argv[4])
rng = random.Random(seed)
raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
raw.bind((interface, 0))
own = raw.getsockname()[4]

TARGETS4 = [socket.inet_aton(a) for a in "192.0.2.10 192.0.2.20 10.0.0.2 10.1.0.1 192.0.2.99 203.0.113.77 255.255.255.255 0.0.0.0".split()]
TARGETS6 = [socket.inet_pton(socket.AF_INET6, a) for a in "2001:db8:f1::10 2001:db8:f2::20 2001:db8:a::2 2001:db8:b::1 2001:db8:f1::99 ff02::1 ::".split()]
TCP, UDP, ICMP, ICMP6 = 6, 17, 1, 58


def checksum(data):
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def stranger(family):
    if family == 4:
        return bytes([198, 18 + rng.randrange(2), rng.randrange(256), rng.randrange(256)])
    return bytes.fromhex("20010db80bad") + rng.randbytes(10)


def transport(protocol, pseudo):
    """A correct header with payload; returns it with its checksum in place."""
    payload = rng.randbytes(rng.choice([0, 1, 18, 100, 1000]))
    sport, dport = rng.randrange(65536), rng.choice([80, 53, 5300, 443, rng.randrange(65536)])
    if protocol == TCP:
        segment = struct.pack("!HHIIBBHHH", sport, dport, rng.getrandbits(32), 0, 0x50, rng.choice([2, 16, 18, 4, 1, 0, 255]), 1000, 0, 0) + payload
        at = 16
    elif protocol == UDP:
        segment = struct.pack("!HHHH", sport, dport, 8 + len(payload), 0) + payload
        at = 6
    else:
        kinds = [0, 3, 5, 8, 11, 13, 42] if protocol == ICMP else [1, 2, 3, 4, 128, 129, 133, 134, 137, 200]
        segment = struct.pack("!BBHHH", rng.choice(kinds), rng.randrange(16), 0, 1, 1) + payload
        at = 2
    pseudo = pseudo(len(segment)) if protocol != ICMP else b""
    return segment[:at] + struct.pack("!H", checksum(pseudo + segment)) + segment[at + 2 :]


def ipv4(protocol=None):
    protocol = protocol or rng.choice([TCP, UDP, ICMP])
    src, dst = stranger(4), rng.choice(TARGETS4)
    body = transport(protocol, lambda n: src + dst + struct.pack("!HH", protocol, n))
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(body), rng.randrange(65536), 0x4000, 64, protocol, 0) + src + dst
    return bytearray(head[:10] + struct.pack("!H", checksum(head)) + head[12:] + body)


def ipv6(protocol=None):
    protocol = protocol or rng.choice([TCP, UDP, ICMP6])
    src, dst = stranger(6), rng.choice(TARGETS6)
    body = transport(protocol, lambda n: src + dst + struct.pack("!II", n, protocol))
    return bytearray(struct.pack("!IHBB", 6 << 28, len(body), protocol, 64) + src + dst + body)


def mend4(packet):
    """Header checksum right again, so that the next check is the one under test."""
    size = max(20, min((packet[0] & 15) * 4, len(packet)))
    packet[10:12] = b"\0\0"
    packet[10:12] = struct.pack("!H", checksum(bytes(packet[:size])))
    return packet


def broken4():
    p = ipv4()
    way = rng.randrange(15)
    if way == 0:
        p[0] = rng.choice([0x44, 0x40, 0x4F, 0x4E])  # header length: too short, or past the end
    elif way == 1:
        p[0] = rng.choice([0x05, 0x55, 0x65, 0xF5])  # version
    elif way == 2:
        p[2:4] = struct.pack("!H", rng.choice([0, 19, len(p) + 1, 65535]))  # total length
    elif way == 3:
        p[8] = rng.choice([0, 1])  # time to live
    elif way == 4:
        p[10] ^= 0x5A  # header checksum
        return p
    elif way == 5:
        p[9] = rng.choice([0, 2, 4, 41, 47, 50, 51, 132, 255])  # protocol
    elif way == 6:
        p[6:8] = struct.pack("!H", rng.choice([0x2000, 0x2001, 0x1FFF, 0x3FFF, 0x0001, 0x8000]))  # fragments
    elif way == 7:
        p[12:16] = rng.choice([bytes([127, 0, 0, 1]), bytes([255] * 4), bytes([224, 0, 0, 1]), bytes(4), bytes([192, 0, 2, 10])])  # source
    elif way == 8:
        p = p[: rng.randrange(1, len(p))]  # truncated anywhere, lengths kept
        return p
    elif way == 9:
        p = ipv4(TCP)
        p[32] = rng.choice([0x00, 0x40, 0xF0])  # TCP data offset
    elif way == 10:
        p = ipv4(UDP)
        p[24:26] = struct.pack("!H", rng.choice([0, 7, 65535]))  # UDP length
    elif way == 11:
        p = ipv4()[:20] + bytearray(rng.randbytes(rng.randrange(0, 8)))  # less than a transport header
        p[2:4] = struct.pack("!H", len(p))
    elif way == 12:
        options = rng.choice([b"\x07\x04\x04\x00", b"\x44\x00\x05\x00", b"\x83\xff\x04\x00", b"\x01\x01\x01\x00"])
        p = bytearray([0x46]) + p[1:20] + options + p[20:]  # options, some impossible
        p[2:4] = struct.pack("!H", len(p))
    elif way == 13:
        quoted = ipv4()[: rng.choice([0, 10, 20, 24, 28, 60])]  # ICMP error about something
        quoted = bytearray(struct.pack("!BBHI", rng.choice([3, 11, 12]), 4, 0, 1400)) + quoted
        quoted[2:4] = struct.pack("!H", checksum(bytes(quoted)))
        p = ipv4(ICMP)[:20] + quoted
        p[2:4] = struct.pack("!H", len(p))
    else:
        return p + bytearray(rng.randbytes(rng.randrange(1, 40)))  # more in the frame than in the packet
    return mend4(p)


def broken6():
    p = ipv6()
    way = rng.randrange(11)
    if way == 0:
        p[0] = rng.choice([0x00, 0x40, 0x50, 0xF0])
    elif way == 1:
        p[4:6] = struct.pack("!H", rng.choice([0, 1, len(p), 65535]))
    elif way == 2:
        p[7] = rng.choice([0, 1])
    elif way == 3:
        p[6] = rng.choice([0, 43, 44, 51, 59, 60, 135, 255])  # an extension header that is not one
    elif way == 4:
        p = p[: rng.randrange(1, len(p))]
    elif way == 5:  # a long chain of extension headers
        chain, n = b"", rng.choice([1, 8, 30])
        for _ in range(n - 1):
            chain += bytes([60, 0, 1, 4, 0, 0, 0, 0])
        chain += bytes([p[6], 0, 1, 4, 0, 0, 0, 0])
        p[6] = 60
        p = p[:40] + chain + p[40:]
        p[4:6] = struct.pack("!H", len(p) - 40)
    elif way == 6:  # an extension header longer than the packet
        p[6] = rng.choice([0, 43, 60])
        p = p[:40] + bytearray([TCP, 255]) + p[42:]
    elif way == 7:  # fragments: first, middle, tiny
        fragment = struct.pack("!BBHI", p[6], 0, rng.choice([0x0001, 0x0009, 0x0000, 0xFFF8, 0xFFF9]), rng.getrandbits(32))
        p[6] = 44
        p = p[:40] + fragment + p[40 : 40 + rng.choice([0, 4, 8, 60])]
        p[4:6] = struct.pack("!H", len(p) - 40)
    elif way == 8:
        p[8:24] = rng.choice([bytes(16), bytes(15) + b"\1", b"\xff\x02" + bytes(13) + b"\1", socket.inet_pton(socket.AF_INET6, "2001:db8:f1::10")])
    elif way == 9:  # neighbour discovery with impossible contents
        kind = rng.choice([133, 134, 135, 136, 137])
        body = bytearray(struct.pack("!BBHI", kind, 0, 0, 0) + rng.choice(TARGETS6) + rng.choice([b"", b"\1\0", b"\1\1\2\3", b"\2\xff" + bytes(6), b"\0" * 8]))
        p[7] = rng.choice([255, 64])
        p[6] = ICMP6
        body[2:4] = struct.pack("!H", checksum(bytes(p[8:40]) + struct.pack("!II", len(body), ICMP6) + bytes(body)))
        p = p[:40] + body
        p[4:6] = struct.pack("!H", len(body))
    else:
        return p + bytearray(rng.randbytes(rng.randrange(1, 40)))
    return p


def arp():
    p = bytearray(struct.pack("!HHBBH", 1, 0x0800, 6, 4, rng.choice([1, 2])) + own + stranger(4) + bytes(6) + rng.choice(TARGETS4))
    way = rng.randrange(6)
    if way == 0:
        p[rng.randrange(8)] ^= 0xFF  # hardware, protocol, lengths, operation
    elif way == 1:
        p = p[: rng.randrange(len(p))]
    elif way == 2:
        p[8:14] = b"\xff" * 6  # broadcast as somebody's address
    elif way == 3:
        p[14:18] = p[24:28]  # gratuitous, for an address of the balancer
    return p


def frame():
    destination = mac if rng.randrange(10) else rng.choice([b"\xff" * 6, bytes.fromhex("333300000001"), bytes.fromhex("020000000001")])
    packet = content()
    # Claims about who owns an address go to the balancer alone, or the clients on the same link would believe them.
    if packet[:2] == b"\x08\x06" or packet[:2] == b"\x86\xdd" and packet[8:9] == bytes([ICMP6]):
        destination = mac
    return destination + own + packet


def content():
    """EtherType and what follows it."""
    pick = rng.randrange(20)
    if pick < 6:
        return b"\x08\x00" + broken4()
    if pick < 11:
        return b"\x86\xdd" + broken6()
    if pick < 13:
        return b"\x08\x00" + ipv4()  # well formed, to no service or without a connection
    if pick < 14:
        return b"\x86\xdd" + ipv6()
    if pick < 15:
        return b"\x08\x06" + arp()
    if pick < 16:  # EtherTypes that are not ours: VLAN, QinQ, MPLS, LLDP, PPPoE, lengths, and the wrong one of the pair
        kind = rng.choice([0x8100, 0x88A8, 0x8847, 0x88CC, 0x8864, 0x0000, 0x002E, 0xFFFF])
        return struct.pack("!H", kind) + rng.choice([b"\0\1\x08\0" + ipv4(), rng.randbytes(60)])
    if pick < 17:
        return rng.choice([b"\x86\xdd" + ipv4(), b"\x08\x00" + ipv6()])
    if pick < 18:  # as short as the interface sends
        return rng.choice([b"\x08\x00", b"\x86\xdd", b"\x08\x06"]) + rng.randbytes(rng.randrange(0, 20))
    if pick < 19:  # longer than the MTU
        p = ipv4(UDP) + bytearray(rng.randbytes(rng.choice([1501, 1900, 2020, 2500])))
        p[2:4] = struct.pack("!H", len(p))
        p[24:26] = struct.pack("!H", len(p) - 20)
        return b"\x08\x00" + mend4(p)
    return rng.randbytes(rng.randrange(2, 1400))


sent = refused = 0
for i in range(count):
    try:
        raw.send(bytes(frame()))
        sent += 1
    except OSError:  # too short or too long for the interface itself
        refused += 1
    if i % 64 == 63:
        time.sleep(0.005)  # a pace that a software port's ring can follow
print(f"{sent} frames sent, {refused} refused by the interface")
sys.exit(0 if sent > count // 2 else 1)
