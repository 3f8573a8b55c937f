#!/usr/bin/env python3
"""Writes the golden packets with scapy (Debian: python3-scapy): an independent idea of every byte.

Each file holds pairs: a frame that arrives, and the frame that must leave, or nothing more where a frame must be
dropped (then its name ends in .drop.pcap and it holds arriving frames alone). Ports are named by hardware address:
02:00:00:00:00:01 is the balancer's WAN port, 02:00:00:00:00:02 its LAN port. Services and backends are those of
../golden.rs.
"""
from scapy.all import (ARP, DNS, DNSQR, GRE, ICMP, IP, IPv6, IPv6ExtHdrDestOpt, IPv6ExtHdrFragment, IPOption_NOP, TCP, UDP, Dot1AD, Dot1Q, Ether, ICMPv6EchoReply, ICMPv6EchoRequest, ICMPv6DestUnreach, ICMPv6PacketTooBig, ICMPv6ParamProblem,
                       ICMPv6TimeExceeded, ICMPv6ND_NA, ICMPv6ND_NS, ICMPv6NDOptDstLLAddr, ICMPv6NDOptSrcLLAddr, Raw, wrpcap)

WAN, LAN = "02:00:00:00:00:01", "02:00:00:00:00:02"
GATEWAY = "02:00:00:00:aa:01"
# .11 and ::11 on the LAN.
BACKENDS = {4: "02:00:00:00:01:0b", 6: "02:00:00:00:01:11"}
C4, V4, B4 = "198.51.100.7", "192.0.2.10", "10.1.0.11"
C6, V6, B6 = "2001:db8:ffff::7", "2001:db8:a::10", "2001:db8:1::11"
D4, D6 = "192.0.2.20", "2001:db8:a::20"  # dsr
F4, F6 = "192.0.2.30", "2001:db8:a::30"  # full-nat
L4, L6, LOCAL_PORT = "10.1.0.1", "2001:db8:1::1", 40001  # what backends see in place of the client


def ip(version, src, dst, hops, **more):
    if version == 4:
        return IP(src=src, dst=dst, ttl=hops, id=0x1234, **more)
    return IPv6(src=src, dst=dst, hlim=hops, fl=0xABCDE, tc=more.get("tos", 0))


def save(name, packets):
    # A fixed clock: the same script writes the same bytes.
    for n, packet in enumerate(packets):
        packet.time = n
    wrpcap(f"{name}.pcap", packets)


def request(version, l4_in, l4_out, client, vip, backend, hops=64, **more):
    return [Ether(dst=WAN, src=GATEWAY) / ip(version, client, vip, hops, **more) / l4_in,
            Ether(dst=BACKENDS[version], src=LAN) / ip(version, client, backend, hops - 1, **more) / l4_out]


def reply(version, l4_in, l4_out, client, vip, backend, hops=64, **more):
    return [Ether(dst=LAN, src=BACKENDS[version]) / ip(version, backend, client, hops, **more) / l4_in,
            Ether(dst=GATEWAY, src=WAN) / ip(version, vip, client, hops - 1, **more) / l4_out]


OPTIONS = [("MSS", 1460), ("SAckOK", b""), ("Timestamp", (1, 0)), ("NOP", None), ("WScale", 7)]

for v, client, vip, backend in ((4, C4, V4, B4), (6, C6, V6, B6)):
    a = (client, vip, backend)

    def seg(sport, dport, flags, seq, ack, data=b"", **more):
        return TCP(sport=sport, dport=dport, flags=flags, seq=seq, ack=ack, window=5000, **more) / Raw(data)

    tcp = []
    for flags, seq, ack, data, way, more in (
        ("S", 100, 0, b"", "in", {"options": OPTIONS}),
        ("SA", 900, 101, b"", "out", {"options": OPTIONS}),
        ("A", 101, 901, b"", "in", {}),
        ("PA", 101, 901, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", "in", {}),
        ("PA", 901, 128, b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nodd", "out", {}),
        ("A", 128, 942, b"", "in", {"urgptr": 0}),
        ("FA", 942, 128, b"", "out", {}),
        ("FA", 128, 943, b"", "in", {}),
        ("A", 943, 129, b"", "out", {}),
    ):
        if way == "in":
            tcp += request(v, seg(40000, 80, flags, seq, ack, data, **more), seg(40000, 8080, flags, seq, ack, data, **more), *a)
        else:
            tcp += reply(v, seg(8080, 40000, flags, seq, ack, data, **more), seg(80, 40000, flags, seq, ack, data, **more), *a)
    save(f"nat-tcp-v{v}", tcp)

    udp = []
    query = DNS(id=7, rd=1, qd=DNSQR(qname="example.org"))
    for data in (query, Raw(b""), Raw(b"x"), Raw(b"\xff" * 1400)):
        udp += request(v, UDP(sport=40000, dport=53) / data, UDP(sport=40000, dport=5353) / data, *a, hops=2, tos=0xB8)
        udp += reply(v, UDP(sport=5353, dport=40000) / data, UDP(sport=53, dport=40000) / data, *a, hops=255, tos=0x03)
    if v == 4:
        none = UDP(sport=40000, dport=53, chksum=0) / Raw(b"no checksum")
        udp += request(v, none, UDP(sport=40000, dport=5353, chksum=0) / Raw(b"no checksum"), *a)
    save(f"nat-udp-v{v}", udp)

    # The source changes as well: address and port.
    vip, local = (F4, L4) if v == 4 else (F6, L6)

    def through(request_in, request_out, hops=64, **more):
        return [Ether(dst=WAN, src=GATEWAY) / ip(v, client, vip, hops, **more) / request_in,
                Ether(dst=BACKENDS[v], src=LAN) / ip(v, local, backend, hops - 1, **more) / request_out]

    def back(answer_in, answer_out, hops=64, **more):
        return [Ether(dst=LAN, src=BACKENDS[v]) / ip(v, backend, local, hops, **more) / answer_in,
                Ether(dst=GATEWAY, src=WAN) / ip(v, vip, client, hops - 1, **more) / answer_out]

    full = []
    for flags, seq, ack, data, way, more in (
        ("S", 100, 0, b"", through, {"options": OPTIONS}),
        ("SA", 900, 101, b"", back, {"options": OPTIONS}),
        ("PA", 101, 901, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", through, {}),
        ("PA", 901, 128, b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nodd", back, {}),
        ("FA", 942, 128, b"", back, {}),
        ("FA", 128, 943, b"", through, {}),
        ("A", 943, 129, b"", back, {}),
    ):
        if way is through:
            full += through(seg(40000, 80, flags, seq, ack, data, **more), seg(LOCAL_PORT, 8080, flags, seq, ack, data, **more))
        else:
            full += back(seg(8080, LOCAL_PORT, flags, seq, ack, data, **more), seg(80, 40000, flags, seq, ack, data, **more))
    for data in (query, Raw(b""), Raw(b"x"), Raw(b"\xff" * 1400)):
        full += through(UDP(sport=40000, dport=53) / data, UDP(sport=LOCAL_PORT, dport=5353) / data, hops=2, tos=0xB8)
        full += back(UDP(sport=5353, dport=LOCAL_PORT) / data, UDP(sport=53, dport=40000) / data, hops=255, tos=0x03)
    save(f"full-nat-v{v}", full)

    vip = D4 if v == 4 else D6
    dsr = []
    for l4 in (seg(40000, 80, "S", 1, 0, options=OPTIONS), seg(40000, 80, "A", 2, 900), seg(40000, 80, "PA", 2, 900, b"data"),
               UDP(sport=40000, dport=80) / Raw(b"datagram")):
        dsr += [Ether(dst=WAN, src=GATEWAY) / ip(v, client, vip, 64) / l4,
                Ether(dst=BACKENDS[v], src=LAN) / ip(v, client, vip, 63) / l4]
    save(f"dsr-v{v}", dsr)



# --- tunnels: the outer packet comes from the port's own address on the LAN ---------------------------------------

def outer(version, tos, number):
    if version == 4:
        return IP(src="10.1.0.1", dst=B4, ttl=64, id=0, flags="DF", tos=tos, proto=number)
    # The flow label follows from the secret of the boot, as does GUE's source port: the test puts these in.
    return IPv6(src="2001:db8:1::1", dst=B6, hlim=64, tc=tos, fl=0, nh=number)


def layer(kind, outer_version, inner_version):
    inner = 4 if inner_version == 4 else 41
    checksum = {"chksum": 0} if outer_version == 4 else {}
    if kind == "ipip":
        return inner, None
    if kind == "gre":
        return 47, GRE(proto=0x0800 if inner_version == 4 else 0x86DD)
    udp = UDP(sport=49152, dport=6080, **checksum)
    return 17, udp if kind == "gue1" else udp / Raw(bytes([0, inner, 0, 0]))


for number, kind in enumerate(("ipip", "gue1", "gue0", "gre")):
    packets = []
    for inner_version, client in ((4, C4), (6, C6)):
        for at, outer_version in enumerate((4, 6)):
            last = 40 + 2 * number + at
            vip = f"192.0.2.{last}" if inner_version == 4 else f"2001:db8:a::{last}"
            transports = [(0xB8 | 2, seg(40000, 80, "S", 1, 0, options=OPTIONS)), (1, seg(40000, 80, "A", 2, 900)),
                          (3, seg(40000, 80, "PA", 2, 900, b"odd")), (0x28, UDP(sport=40000, dport=80) / Raw(b"datagram"))]
            if inner_version == 4:
                transports.append((0, UDP(sport=40000, dport=80, chksum=0) / Raw(b"no checksum")))
            for tos, l4 in transports:
                protocol, between = layer(kind, outer_version, inner_version)
                inner = ip(inner_version, client, vip, 63, tos=tos) / l4
                arrived = ip(inner_version, client, vip, 64, tos=tos) / l4
                inside = inner if between is None else between / Raw(bytes(inner))
                packets += [Ether(dst=WAN, src=GATEWAY) / arrived,
                            Ether(dst=BACKENDS[outer_version], src=LAN) / outer(outer_version, tos, protocol) / inside]
    save(f"tunnel-{kind}", packets)

# --- errors of the balancer's own ---------------------------------------------------------------------------------

def error(version, src, dst, message, quoted):
    # At most 576 and 1280 bytes in all.
    quote = Raw(bytes(quoted)[:548 if version == 4 else 1232])
    if version == 4:
        return Ether(dst=GATEWAY, src=WAN) / IP(src=src, dst=dst, ttl=64, id=0, flags="DF", tos=0xC0) / message / quote
    return Ether(dst=GATEWAY, src=WAN) / IPv6(src=src, dst=dst, hlim=64, tc=0xC0) / message / quote


refused = []
for v, client, vip, tunnelled, port in ((4, C4, V4, "192.0.2.40", "10.0.0.2"), (6, C6, V6, "2001:db8:a::41", "2001:db8::2")):
    last = ip(v, client, vip, 1) / UDP(sport=40000, dport=53) / Raw(b"traceroute")
    expired = ICMP(type=11, code=0) if v == 4 else ICMPv6TimeExceeded(code=0)
    refused += [Ether(dst=WAN, src=GATEWAY) / last, error(v, port, client, expired, last)]
    # One byte more than fits into IPIP on a link of 1500.
    fits = 1480 if v == 4 else 1460
    big = ip(v, client, tunnelled, 64) / UDP(sport=40000, dport=80) / Raw(b"x" * (fits + 1 - (28 if v == 4 else 48)))
    too_big = ICMP(type=3, code=4, nexthopmtu=fits) if v == 4 else ICMPv6PacketTooBig(mtu=fits)
    refused += [Ether(dst=WAN, src=GATEWAY) / big, error(v, tunnelled, client, too_big, big)]
save("refused", refused)

# --- fragments ----------------------------------------------------------------------------------------------------

def parts(version, packet, size=400, number=17):
    """The fragments of a packet of protocol `number`."""
    payload = bytes(packet)[20 if version == 4 else 40:]
    for start in range(0, len(payload), size):
        piece, more = Raw(payload[start:start + size]), start + size < len(payload)
        head = packet.copy()
        head.remove_payload()
        if version == 4:
            head.proto, head.frag, head.flags = number, start // 8, "MF" if more else 0
            yield head / piece
        else:
            head.nh = 44
            yield head / IPv6ExtHdrFragment(nh=number, offset=start // 8, m=int(more), id=0x12345678) / piece


ODD = Raw(bytes(range(256)) * 3 + b"odd")
for v, client in ((4, C4), (6, C6)):
    backend = B4 if v == 4 else B6
    packets = []
    for vip, local, sport in ((V4 if v == 4 else V6, client, 40000), (F4 if v == 4 else F6, L4 if v == 4 else L6, LOCAL_PORT)):
        for arrives, leaves, ends in (
            (ip(v, client, vip, 64) / UDP(sport=40000, dport=53) / ODD, ip(v, local, backend, 63) / UDP(sport=sport, dport=5353) / ODD,
             (GATEWAY, WAN, LAN, BACKENDS[v])),
            (ip(v, backend, local, 64) / UDP(sport=5353, dport=sport) / ODD, ip(v, vip, client, 63) / UDP(sport=53, dport=40000) / ODD,
             (BACKENDS[v], LAN, WAN, GATEWAY)),
        ):
            for before, after in zip(parts(v, arrives), parts(v, leaves)):
                packets += [Ether(src=ends[0], dst=ends[1]) / before, Ether(src=ends[2], dst=ends[3]) / after]
    vip = D4 if v == 4 else D6
    arrives, leaves = (ip(v, client, vip, hops) / UDP(sport=40000, dport=80) / ODD for hops in (64, 63))
    for before, after in zip(parts(v, arrives), parts(v, leaves)):
        packets += [Ether(src=GATEWAY, dst=WAN) / before, Ether(src=LAN, dst=BACKENDS[v]) / after]
    save(f"fragments-v{v}", packets)

packets = []
for number, kind in enumerate(("ipip", "gue1", "gue0", "gre")):
    for v, client in ((4, C4), (6, C6)):
        for at, outer_version in enumerate((4, 6)):
            last = 40 + 2 * number + at
            vip = f"192.0.2.{last}" if v == 4 else f"2001:db8:a::{last}"
            protocol, between = layer(kind, outer_version, v)
            arrives, leaves = (ip(v, client, vip, hops) / UDP(sport=40000, dport=80) / ODD for hops in (64, 63))
            for before, after in zip(parts(v, arrives), parts(v, leaves)):
                inside = after if between is None else between / Raw(bytes(after))
                packets += [Ether(dst=WAN, src=GATEWAY) / before,
                            Ether(dst=BACKENDS[outer_version], src=LAN) / outer(outer_version, 0, protocol) / inside]
save("tunnel-fragments", packets)

# --- errors of others about connections ---------------------------------------------------------------------------

INSIDE = {4: ("10.1.0.77", "02:00:00:00:01:4d"), 6: ("2001:db8:1::77", "02:00:00:00:01:77")}  # a router before the backend
OUTSIDE = {4: "203.0.113.9", 6: "2001:db8:eeee::9"}  # a router on the way to the client


def complaint(version, what):
    if version == 4:
        return {"big": ICMP(type=3, code=4, nexthopmtu=1280), "port": ICMP(type=3, code=3), "hops": ICMP(type=11, code=0),
                "parameter": ICMP(type=12, code=0, ptr=1), "host": ICMP(type=3, code=1)}[what]
    return {"big": ICMPv6PacketTooBig(mtu=1280), "port": ICMPv6DestUnreach(code=4), "hops": ICMPv6TimeExceeded(code=0),
            "parameter": ICMPv6ParamProblem(code=0, ptr=6), "host": ICMPv6DestUnreach(code=3)}[what]


def about(version, ends, hops, addresses, what, quoted, length=None):
    """An error between hardware addresses `ends` and IP `addresses` that quotes `length` bytes of the payload."""
    quote = bytes(quoted)
    if length is not None:
        quote = quote[:(20 if version == 4 else 40) + length]
    return (Ether(src=ends[0], dst=ends[1]) / ip(version, *addresses, hops, tos=0xC0) / complaint(version, what) / Raw(quote))


for v, client in ((4, C4), (6, C6)):
    backend = B4 if v == 4 else B6
    inside, inside_mac = INSIDE[v]
    port = "10.0.0.2" if v == 4 else "2001:db8::2"
    packets = []
    for vip, local, sport in ((V4 if v == 4 else V6, client, 40000), (F4 if v == 4 else F6, L4 if v == 4 else L6, LOCAL_PORT)):
        def seg(s, d, flags, seq, ack, data=b""):
            return TCP(sport=s, dport=d, flags=flags, seq=seq, ack=ack, window=5000) / Raw(data)

        for ask, asked, answer, answered in (
            (seg(40000, 80, "S", 100, 0), seg(sport, 8080, "S", 100, 0),
             seg(8080, sport, "SA", 900, 101, b"x" * 33), seg(80, 40000, "SA", 900, 101, b"x" * 33)),
            (UDP(sport=40000, dport=53) / Raw(b"question"), UDP(sport=sport, dport=5353) / Raw(b"question"),
             UDP(sport=5353, dport=sport) / Raw(b"the answer"), UDP(sport=53, dport=40000) / Raw(b"the answer")),
        ):
            # Each packet as the four parties see it.
            said, heard = ip(v, client, vip, 64) / ask, ip(v, local, backend, 63) / asked
            replied, returned = ip(v, backend, local, 64) / answer, ip(v, vip, client, 63) / answered
            packets += [Ether(dst=WAN, src=GATEWAY) / said, Ether(dst=BACKENDS[v], src=LAN) / heard,
                        Ether(dst=LAN, src=BACKENDS[v]) / replied, Ether(dst=GATEWAY, src=WAN) / returned]
            said, replied = ip(v, client, vip, 63) / ask, ip(v, backend, local, 63) / answer
            for what, length in (("big", None), ("big", 8), ("hops", None), ("parameter", 16), ("host", 20)):
                speaker = port if what == "hops" else vip
                packets += [about(v, (inside_mac, LAN), 64, (inside, local), what, heard, length),
                            about(v, (WAN, GATEWAY), 63, (speaker, client), what, said, length)]
                speaker = OUTSIDE[v] if local == client else local
                packets += [about(v, (GATEWAY, WAN), 50, (OUTSIDE[v], vip), what, returned, length),
                            about(v, (LAN, BACKENDS[v]), 49, (speaker, backend), what, replied, length)]
            # The ends themselves.
            packets += [about(v, (BACKENDS[v], LAN), 64, (backend, local), "port", heard),
                        about(v, (WAN, GATEWAY), 63, (vip, client), "port", said),
                        about(v, (GATEWAY, WAN), 50, (client, vip), "port", returned),
                        about(v, (LAN, BACKENDS[v]), 49, (local, backend), "port", replied)]
    vip = D4 if v == 4 else D6
    said, passed = (ip(v, client, vip, hops) / UDP(sport=40000, dport=80) / Raw(b"datagram") for hops in (64, 63))
    direct = ip(v, vip, client, 60) / UDP(sport=80, dport=40000) / Raw(b"straight to the client")
    packets += [Ether(dst=WAN, src=GATEWAY) / said, Ether(dst=BACKENDS[v], src=LAN) / passed,
                about(v, (GATEWAY, WAN), 50, (OUTSIDE[v], vip), "big", direct, 8),
                about(v, (LAN, BACKENDS[v]), 49, (OUTSIDE[v], vip), "big", direct, 8),
                about(v, (inside_mac, LAN), 64, (inside, client), "hops", passed),
                about(v, (WAN, GATEWAY), 63, (inside, client), "hops", passed)]
    save(f"errors-v{v}", packets)

packets = []
for number, kind in enumerate(("ipip", "gue1", "gue0", "gre")):
    for v, client in ((4, C4), (6, C6)):
        for at, outer_version in enumerate((4, 6)):
            last = 40 + 2 * number + at
            vip = f"192.0.2.{last}" if v == 4 else f"2001:db8:a::{last}"
            protocol, between = layer(kind, outer_version, v)

            def inside(packet, tos=0):
                body = packet if between is None else between / Raw(bytes(packet))
                return outer(outer_version, tos, protocol) / body

            udp = UDP(sport=40000, dport=80) / Raw(b"datagram")
            said, passed = ip(v, client, vip, 64) / udp, ip(v, client, vip, 63) / udp
            direct = ip(v, vip, client, 60) / UDP(sport=80, dport=40000) / Raw(b"straight to the client")
            packets += [Ether(dst=WAN, src=GATEWAY) / said, Ether(dst=BACKENDS[outer_version], src=LAN) / inside(passed)]
            # A router on the way from the backend to the client.
            arrived = about(v, (GATEWAY, WAN), 50, (OUTSIDE[v], vip), "big", direct)
            left = about(v, (GATEWAY, WAN), 49, (OUTSIDE[v], vip), "big", direct)
            packets += [arrived, Ether(dst=BACKENDS[outer_version], src=LAN) / inside(left[Ether].payload, 0xC0)]
            # A router in the tunnel.
            overhead = len(bytes(inside(passed))) - len(bytes(passed))
            mtu = 1280 - overhead if v == 4 else max(1280 - overhead, 1280)
            told = ICMP(type=3, code=4, nexthopmtu=mtu) if v == 4 else ICMPv6PacketTooBig(mtu=mtu)
            hop, hop_mac = INSIDE[outer_version]
            source = "10.1.0.1" if outer_version == 4 else "2001:db8:1::1"
            packets += [about(outer_version, (hop_mac, LAN), 64, (hop, source), "big", inside(passed)), error(v, vip, client, told, passed)]
save("tunnel-errors", packets)

# --- between address families (RFC 7915) --------------------------------------------------------------------------

X4, X6 = "192.0.2.60", "2001:db8:a::60"  # full-nat; the backend is of the other family


class Names:
    """The identifications that the balancer gives to IPv4 packets: one more with each that it translates."""
    last = 0


def family(version, src, dst, hops, l4, tos=0, translated=False):
    """A packet as its sender makes it, or as it is after translation: RFC 7915 sections 4.1 and 5.1."""
    if not translated:
        return ip(version, src, dst, hops, tos=tos) / l4
    Names.last += 1
    if version == 6:
        return IPv6(src=src, dst=dst, hlim=hops, tc=tos, fl=0) / l4
    whole = IP(src=src, dst=dst, ttl=hops, tos=tos) / l4
    atomic = len(whole) > 1260
    return IP(src=src, dst=dst, ttl=hops, tos=tos, id=0 if atomic else Names.last, flags="DF" if atomic else 0) / l4


for v in (4, 6):
    w = 10 - v
    client, vip = (C4, X4) if v == 4 else (C6, X6)
    local, backend = (L6, B6) if v == 4 else (L4, B4)
    inside, inside_mac = INSIDE[w]
    port = "10.0.0.2" if v == 4 else "2001:db8::2"
    Names.last = 0
    packets = []

    def asks(before, after, hops=64, tos=0):
        return [Ether(dst=WAN, src=GATEWAY) / family(v, client, vip, hops, before, tos),
                Ether(dst=BACKENDS[w], src=LAN) / family(w, local, backend, hops - 1, after, tos, True)]

    def answers(before, after, hops=64, tos=0):
        return [Ether(dst=LAN, src=BACKENDS[w]) / family(w, backend, local, hops, before, tos),
                Ether(dst=GATEWAY, src=WAN) / family(v, vip, client, hops - 1, after, tos, True)]

    def seg(sport, dport, flags, seq, ack, data=b"", **more):
        return TCP(sport=sport, dport=dport, flags=flags, seq=seq, ack=ack, window=5000, **more) / Raw(data)

    for flags, seq, ack, data, way, more in (
        ("S", 100, 0, b"", asks, {"options": OPTIONS}),
        ("SA", 900, 101, b"", answers, {"options": OPTIONS}),
        ("PA", 101, 901, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", asks, {}),
        ("PA", 901, 128, b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nodd", answers, {}),
        ("PA", 942, 128, b"\xfe" * 1400, answers, {}),
        ("FA", 2342, 128, b"", answers, {}),
        ("FA", 128, 2343, b"", asks, {}),
        ("A", 2343, 129, b"", answers, {}),
    ):
        if way is asks:
            packets += asks(seg(40000, 80, flags, seq, ack, data, **more), seg(LOCAL_PORT, 8080, flags, seq, ack, data, **more))
        else:
            packets += answers(seg(8080, LOCAL_PORT, flags, seq, ack, data, **more), seg(80, 40000, flags, seq, ack, data, **more))
    for data in (DNS(id=7, rd=1, qd=DNSQR(qname="example.org")), Raw(b""), Raw(b"x"), Raw(b"\xff" * 1400)):
        packets += asks(UDP(sport=40000, dport=53) / data, UDP(sport=LOCAL_PORT, dport=5353) / data, hops=2, tos=0xB8)
        packets += answers(UDP(sport=5353, dport=LOCAL_PORT) / data, UDP(sport=53, dport=40000) / data, hops=255, tos=0x03)
    none = b"no checksum"
    if v == 4:
        packets += asks(UDP(sport=40000, dport=53, chksum=0) / Raw(none), UDP(sport=LOCAL_PORT, dport=5353) / Raw(none))
    else:
        packets += answers(UDP(sport=5353, dport=LOCAL_PORT, chksum=0) / Raw(none), UDP(sport=53, dport=40000) / Raw(none))
    save(f"families-v{v}", packets)

    # Errors, in both directions, and what they quote.
    ask, asked = UDP(sport=40000, dport=53) / Raw(b"question"), UDP(sport=LOCAL_PORT, dport=5353) / Raw(b"question")
    answer, answered = UDP(sport=5353, dport=LOCAL_PORT) / Raw(b"the answer"), UDP(sport=53, dport=40000) / Raw(b"the answer")
    Names.last = 0
    packets = asks(ask, asked) + answers(answer, answered)
    heard, returned = packets[1][Ether].payload, packets[3][Ether].payload

    def quoted(version, src, dst, l4):
        """What the end that is told has sent, with the hops that were left of it; it had no name."""
        packet = family(version, src, dst, 63, l4, 0, True)
        Names.last -= 1
        if version == 4:
            packet.id = 0
        return packet

    def told(version, ends, hops, addresses, message, quote):
        return Ether(src=ends[0], dst=ends[1]) / family(version, *addresses, hops, message / Raw(bytes(quote)), 0xC0, True)

    # In the words of either family: RFC 7915 sections 4.2 and 5.2.
    words = {"big": (ICMP(type=3, code=4, nexthopmtu=1300), ICMPv6PacketTooBig(mtu=1320)),
             "small": (ICMP(type=3, code=4, nexthopmtu=1280), ICMPv6PacketTooBig(mtu=1300)),
             "hops": (ICMP(type=11, code=0), ICMPv6TimeExceeded(code=0)), "port": (ICMP(type=3, code=3), ICMPv6DestUnreach(code=4)),
             "barred": (ICMP(type=3, code=10), ICMPv6DestUnreach(code=1)), "host": (ICMP(type=3, code=1), ICMPv6DestUnreach(code=0)),
             "parameter": (ICMP(type=12, code=0, ptr=9), ICMPv6ParamProblem(code=0, ptr=6)),
             "protocol": (ICMP(type=3, code=2), ICMPv6ParamProblem(code=1, ptr=6))}
    for what, (narrow, wide) in words.items():
        of = {4: narrow, 6: wide}
        speaker = port if what == "hops" else vip
        packets += [Ether(src=inside_mac, dst=LAN) / ip(w, inside, local, 64, tos=0xC0) / of[w] / Raw(bytes(heard)),
                    told(v, (WAN, GATEWAY), 63, (speaker, client), of[v], quoted(v, client, vip, ask))]
        packets += [Ether(src=GATEWAY, dst=WAN) / ip(v, OUTSIDE[v], vip, 50, tos=0xC0) / of[v] / Raw(bytes(returned)),
                    told(w, (LAN, BACKENDS[w]), 49, (local, backend), of[w], quoted(w, backend, local, answer))]
    # One byte more than fits: the sender hears of its own side's size.
    fits = 1480 if v == 4 else None
    if fits:
        big = ip(v, client, vip, 64) / UDP(sport=40000, dport=53) / Raw(b"x" * (fits + 1 - 28))
        packets += [Ether(dst=WAN, src=GATEWAY) / big, error(v, vip, client, ICMP(type=3, code=4, nexthopmtu=fits), big)]
    save(f"families-errors-v{v}", packets)

    # Fragments: the header of IPv4 and that of IPv6 say the same.
    packets = []
    for arrives, leaves, ends in (
        ((v, client, vip, 64, UDP(sport=40000, dport=53) / ODD), (w, local, backend, 63, UDP(sport=LOCAL_PORT, dport=5353) / ODD),
         (GATEWAY, WAN, LAN, BACKENDS[w])),
        ((w, backend, local, 64, UDP(sport=5353, dport=LOCAL_PORT) / ODD), (v, vip, client, 63, UDP(sport=53, dport=40000) / ODD),
         (BACKENDS[w], LAN, WAN, GATEWAY)),
    ):
        before = ip(arrives[0], *arrives[1:4]) / arrives[4]
        after = ip(leaves[0], *leaves[1:4]) / leaves[4]
        for one, other in zip(parts(arrives[0], before), parts(leaves[0], after)):
            if leaves[0] == 4:
                other[IP].id = 0x5678
            else:
                other[IPv6].fl = 0
                other[IPv6ExtHdrFragment].id = 0x1234
            packets += [Ether(src=ends[0], dst=ends[1]) / one, Ether(src=ends[2], dst=ends[3]) / other]
    save(f"families-fragments-v{v}", packets)
# --- every mode, family and protocol once more: what the files above leave out ------------------------------------

class Way:
    """How packets of one mode look on both sides."""

    def __init__(self, version, vip, translated=False, local=None, kind=None, outer_version=None):
        self.version, self.vip, self.translated, self.kind, self.outer_version = version, vip, translated, kind, outer_version
        self.client = C4 if version == 4 else C6
        self.backend = (B4 if version == 4 else B6) if translated else vip
        self.source, self.sport = (local, LOCAL_PORT) if local else (self.client, 40000)

    def ports(self, tcp):
        """That of the service, and that of the backend."""
        if not self.translated:
            return 80, 80
        return (80, 8080) if tcp else (53, 5353)

    def said(self, l4, tcp, hops=64, **more):
        return ip(self.version, self.client, self.vip, hops, **more) / l4(40000, self.ports(tcp)[0])

    def heard(self, l4, tcp, hops=63, **more):
        return ip(self.version, self.source, self.backend, hops, **more) / l4(self.sport, self.ports(tcp)[1])

    def to_backend(self, packet, tos=0):
        """The frame in which `packet` leaves."""
        if self.kind is None:
            return Ether(dst=BACKENDS[self.version], src=LAN) / packet
        protocol, between = layer(self.kind, self.outer_version, self.version)
        inside = packet if between is None else between / Raw(bytes(packet))
        return Ether(dst=BACKENDS[self.outer_version], src=LAN) / outer(self.outer_version, tos, protocol) / inside

    def overhead(self):
        packet = ip(self.version, self.client, self.vip, 1)
        return len(bytes(self.to_backend(packet))) - len(bytes(packet)) - 14

    def request(self, l4, tcp):
        return [Ether(dst=WAN, src=GATEWAY) / self.said(l4, tcp), self.to_backend(self.heard(l4, tcp))]

    def replied(self, l4, tcp, hops=64):
        return ip(self.version, self.backend, self.source, hops) / l4(self.ports(tcp)[1], self.sport)

    def returned(self, l4, tcp, hops=63):
        return ip(self.version, self.vip, self.client, hops) / l4(self.ports(tcp)[0], 40000)


def ways(version):
    four = version == 4
    yield Way(version, V4 if four else V6, translated=True)
    yield Way(version, F4 if four else F6, translated=True, local=L4 if four else L6)
    yield Way(version, D4 if four else D6)


def tunnels(version):
    for number, kind in enumerate(("ipip", "gue1", "gue0", "gre")):
        for at, outer_version in enumerate((4, 6)):
            last = 40 + 2 * number + at
            yield Way(version, f"192.0.2.{last}" if version == 4 else f"2001:db8:a::{last}", kind=kind, outer_version=outer_version)


class L3dsr(Way):
    """Nothing is around the packet: the backend's address is in it, and the DSCP says which VIP it was for."""
    DSCP = 5

    def __init__(self, version):
        super().__init__(version, "192.0.2.48" if version == 4 else "2001:db8:a::48", kind="l3dsr")
        self.backend = B4 if version == 4 else B6

    def marked(self, tos):
        return self.DSCP << 2 | tos & 3

    def heard(self, l4, tcp, hops=63, tos=0):
        return ip(self.version, self.client, self.backend, hops, tos=self.marked(tos)) / l4(40000, 80)

    def recalled(self, l4, tcp, hops=63, tos=0):
        """What the client is told of `heard`: to the VIP again. Which DSCP it had, nobody knows any more."""
        return ip(self.version, self.client, self.vip, hops, tos=self.marked(tos)) / l4(40000, 80)

    def to_backend(self, packet, tos=0):
        packet = packet.copy()
        packet.dst = self.backend
        if self.version == 4:
            packet.tos = self.marked(packet.tos)
        else:
            packet.tc = self.marked(packet.tc)
        return Ether(dst=BACKENDS[self.version], src=LAN) / packet

    def overhead(self):
        return 0

    def told(self, what, l4, tcp, speaker, **cut):
        """A router before the backend complains of `heard`, and what the client hears."""
        hop, hop_mac = INSIDE[self.version]
        return [about(self.version, (hop_mac, LAN), 64, (hop, self.client), what, self.heard(l4, tcp), **cut),
                about(self.version, (WAN, GATEWAY), 63, (speaker, self.client), what, self.recalled(l4, tcp), **cut)]

    def hears_itself(self, protocol):
        """A router on the way to the client complains of what the backend sent."""
        direct = ip(self.version, self.vip, self.client, 60) / protocol
        arrived, left = (about(self.version, (GATEWAY, WAN), hops, (OUTSIDE[self.version], self.vip), "big", direct)
                         for hops in (50, 49))
        return [arrived, self.to_backend(left[Ether].payload)]


def readdressed(version):
    yield L3dsr(version)


def syn(s, d):
    return TCP(sport=s, dport=d, flags="S", seq=100, window=5000)


def segment(data, flags="A", seq=101, ack=901):
    return lambda s, d: TCP(sport=s, dport=d, flags=flags, seq=seq, ack=ack, window=5000) / Raw(data)


def datagram(data, **more):
    return lambda s, d: UDP(sport=s, dport=d, **more) / Raw(data)


for prefix, all_ways in (("", ways), ("tunnel-", tunnels), ("l3dsr-", readdressed)):
    big, hops, options, pieces, errors = [], [], [], [], []
    for v in (4, 6):
        for way in all_ways(v):
            # TCP begins with a SYN, which full NAT insists on.
            begin = way.request(syn, True)
            for packets in (big, options, pieces, errors):
                packets += begin

            # One byte more than the way takes.
            fits = 1500 - way.overhead()
            for tcp in (True, False):
                make = segment if tcp else datagram
                long = way.said(make(b"x" * (fits + 1 - (20 if v == 4 else 40) - (20 if tcp else 8))), tcp)
                told = ICMP(type=3, code=4, nexthopmtu=fits) if v == 4 else ICMPv6PacketTooBig(mtu=fits)
                big += [Ether(dst=WAN, src=GATEWAY) / long, error(v, way.vip, way.client, told, long)]

            # No hop left: said by the port, not by the service.
            for tcp in (True, False):
                last = way.said(syn if tcp else datagram(b"traceroute"), tcp, hops=1)
                expired = ICMP(type=11, code=0) if v == 4 else ICMPv6TimeExceeded(code=0)
                port = "10.0.0.2" if v == 4 else "2001:db8::2"
                hops += [Ether(dst=WAN, src=GATEWAY) / last, error(v, port, way.client, expired, last)]

            # IPv4 options, IPv6 extension headers.
            for tcp in (True, False):
                make = segment if tcp else datagram

                def extended(packet):
                    if v == 4:
                        packet.options = [IPOption_NOP()] * 4
                        return packet
                    transport = packet.payload.copy()
                    packet.remove_payload()
                    return packet / IPv6ExtHdrDestOpt() / transport

                options += [Ether(dst=WAN, src=GATEWAY) / extended(way.said(make(b"extended"), tcp)),
                            way.to_backend(extended(way.heard(make(b"extended"), tcp)))]

            # TCP in fragments; UDP is above.
            for before, after in zip(parts(v, way.said(segment(bytes(ODD)), True), number=6), parts(v, way.heard(segment(bytes(ODD)), True), number=6)):
                pieces += [Ether(dst=WAN, src=GATEWAY) / before, way.to_backend(after)]
            if way.translated:
                back = segment(bytes(ODD), ack=102, seq=901)
                for before, after in zip(parts(v, way.replied(back, True), number=6), parts(v, way.returned(back, True), number=6)):
                    pieces += [Ether(dst=LAN, src=BACKENDS[v]) / before, Ether(dst=GATEWAY, src=WAN) / after]

            # Errors about TCP with dsr, in both directions; translated ones are above.
            if not way.translated:
                direct = ip(v, way.vip, way.client, 60) / segment(b"straight to the client")(80, 40000)
                arrived = about(v, (GATEWAY, WAN), 50, (OUTSIDE[v], way.vip), "big", direct)
                left = about(v, (GATEWAY, WAN), 49, (OUTSIDE[v], way.vip), "big", direct)
                errors += [arrived, way.to_backend(left[Ether].payload, 0xC0)]
                heard = way.heard(syn, True)
                if way.kind == "l3dsr":
                    port = "10.0.0.2" if v == 4 else "2001:db8::2"
                    errors += way.told("hops", syn, True, port) + way.told("big", syn, True, way.vip, length=8)
                elif way.kind is None:
                    hop, hop_mac = INSIDE[v]
                    errors += [about(v, (hop_mac, LAN), 64, (hop, way.client), "hops", heard),
                               about(v, (WAN, GATEWAY), 63, (hop, way.client), "hops", heard)]
                else:
                    mtu = 1280 - way.overhead() if v == 4 else max(1280 - way.overhead(), 1280)
                    told = ICMP(type=3, code=4, nexthopmtu=mtu) if v == 4 else ICMPv6PacketTooBig(mtu=mtu)
                    hop, hop_mac = INSIDE[way.outer_version]
                    source = "10.1.0.1" if way.outer_version == 4 else "2001:db8:1::1"
                    quoted = way.to_backend(heard)[Ether].payload
                    errors += [about(way.outer_version, (hop_mac, LAN), 64, (hop, source), "big", quoted), error(v, way.vip, way.client, told, heard)]

    save(f"{prefix}too-big", big)
    save(f"{prefix}hop-limit", hops)
    save(f"{prefix}options", options)
    save(f"{prefix}fragments-tcp", pieces)
    save(f"{prefix}errors-tcp", errors)

# L3DSR: TCP and UDP with every ECN, UDP in fragments, errors about UDP.
plain, pieces, errors = [], [], []
for v in (4, 6):
    way = L3dsr(v)
    for tos, l4, tcp in ((0xB8 | 2, lambda s, d: TCP(sport=s, dport=d, flags="S", seq=1, options=OPTIONS), True), (1, segment(b""), True),
                         (3, segment(b"odd", "PA"), True), (0xFC, segment(b"even"), True), (0x14, segment(b"marked already"), True),
                         (0x28, datagram(b"datagram"), False), (3, datagram(b""), False)):
        plain += [Ether(dst=WAN, src=GATEWAY) / way.said(l4, tcp, tos=tos), way.to_backend(way.heard(l4, tcp, tos=tos))]
    if v == 4:
        plain += way.request(datagram(b"no checksum", chksum=0), False)
    for before, after in zip(parts(v, way.said(datagram(bytes(ODD)), False, tos=1)), parts(v, way.heard(datagram(bytes(ODD)), False, tos=1))):
        pieces += [Ether(dst=WAN, src=GATEWAY) / before, way.to_backend(after)]
    port = "10.0.0.2" if v == 4 else "2001:db8::2"
    l4 = datagram(b"datagram")
    errors += way.request(l4, False) + way.hears_itself(UDP(sport=80, dport=40000) / Raw(b"straight to the client"))
    for what, speaker in (("big", way.vip), ("hops", port), ("host", way.vip)):
        errors += way.told(what, l4, False, speaker) + way.told(what, l4, False, speaker, length=8)
save("l3dsr", plain)
save("l3dsr-fragments", pieces)
save("l3dsr-errors", errors)

# UDP without a checksum stays without.
save("unsummed", [frame for way in ways(4) for frame in way.request(datagram(b"no checksum", chksum=0), False)])

save("arp", [Ether(dst="ff:ff:ff:ff:ff:ff", src=GATEWAY) / ARP(op=1, hwsrc=GATEWAY, psrc="10.0.0.1", pdst=V4),
             Ether(dst=GATEWAY, src=WAN) / ARP(op=2, hwsrc=WAN, psrc=V4, hwdst=GATEWAY, pdst="10.0.0.1"),
             Ether(dst="ff:ff:ff:ff:ff:ff", src=BACKENDS[4]) / ARP(op=1, hwsrc=BACKENDS[4], psrc=B4, pdst="10.1.0.1"),
             Ether(dst=BACKENDS[4], src=LAN) / ARP(op=2, hwsrc=LAN, psrc="10.1.0.1", hwdst=BACKENDS[4], pdst=B4)])
save("ndp", [Ether(dst="33:33:ff:00:00:10", src=GATEWAY) / IPv6(src="2001:db8::1", dst="ff02::1:ff00:10", hlim=255)
             / ICMPv6ND_NS(tgt=V6) / ICMPv6NDOptSrcLLAddr(lladdr=GATEWAY),
             Ether(dst=GATEWAY, src=WAN) / IPv6(src=V6, dst="2001:db8::1", hlim=255)
             / ICMPv6ND_NA(tgt=V6, R=0, S=1, O=1) / ICMPv6NDOptDstLLAddr(lladdr=WAN)])
save("echo", [Ether(dst=WAN, src=GATEWAY) / IP(src=C4, dst=V4, ttl=9, id=1) / ICMP(type=8, id=5, seq=6) / Raw(b"abcdefg"),
              Ether(dst=GATEWAY, src=WAN) / IP(src=V4, dst=C4, ttl=64, id=1) / ICMP(type=0, id=5, seq=6) / Raw(b"abcdefg"),
              Ether(dst=WAN, src=GATEWAY) / IPv6(src=C6, dst=V6, hlim=9) / ICMPv6EchoRequest(id=5, seq=6, data=b"abcdefg"),
              Ether(dst=GATEWAY, src=WAN) / IPv6(src=V6, dst=C6, hlim=64) / ICMPv6EchoReply(id=5, seq=6, data=b"abcdefg")])

# One device with the WAN as VLAN 100 and the LAN as VLAN 200: all frames have the hardware address of the WAN port. A
# priority is not kept.
stick = []
for v, client, vip, backend in ((4, C4, V4, B4), (6, C6, V6, B6)):
    for l4_in, l4_out in ((TCP(sport=40000, dport=80, flags="S", seq=100, options=OPTIONS), TCP(sport=40000, dport=8080, flags="S", seq=100, options=OPTIONS)),
                          (UDP(sport=40000, dport=53) / Raw(b"query"), UDP(sport=40000, dport=5353) / Raw(b"query"))):
        stick += [Ether(dst=WAN, src=GATEWAY) / Dot1Q(vlan=100, prio=5) / ip(v, client, vip, 64) / l4_in,
                  Ether(dst=BACKENDS[v], src=WAN) / Dot1Q(vlan=200) / ip(v, client, backend, 63) / l4_out]
    for l4_in, l4_out in ((TCP(sport=8080, dport=40000, flags="SA", seq=900, ack=101, options=OPTIONS), TCP(sport=80, dport=40000, flags="SA", seq=900, ack=101, options=OPTIONS)),
                          (UDP(sport=5353, dport=40000) / Raw(b"answer"), UDP(sport=53, dport=40000) / Raw(b"answer"))):
        stick += [Ether(dst=WAN, src=BACKENDS[v]) / Dot1Q(vlan=200, id=1) / ip(v, backend, client, 64) / l4_in,
                  Ether(dst=GATEWAY, src=WAN) / Dot1Q(vlan=100) / ip(v, vip, client, 63) / l4_out]
stick += [Ether(dst="ff:ff:ff:ff:ff:ff", src=GATEWAY) / Dot1Q(vlan=100) / ARP(op=1, hwsrc=GATEWAY, psrc="10.0.0.1", pdst=V4),
          Ether(dst=GATEWAY, src=WAN) / Dot1Q(vlan=100) / ARP(op=2, hwsrc=WAN, psrc=V4, hwdst=GATEWAY, pdst="10.0.0.1"),
          Ether(dst="ff:ff:ff:ff:ff:ff", src=BACKENDS[4]) / Dot1Q(vlan=200) / ARP(op=1, hwsrc=BACKENDS[4], psrc=B4, pdst="10.1.0.1"),
          Ether(dst=BACKENDS[4], src=WAN) / Dot1Q(vlan=200) / ARP(op=2, hwsrc=WAN, psrc="10.1.0.1", hwdst=BACKENDS[4], pdst=B4),
          Ether(dst=WAN, src=GATEWAY) / Dot1Q(vlan=100) / IP(src=C4, dst="10.0.0.2", ttl=9) / ICMP(id=5, seq=6) / Raw(b"abcdefg"),
          Ether(dst=GATEWAY, src=WAN) / Dot1Q(vlan=100) / IP(src="10.0.0.2", dst=C4, ttl=64) / ICMP(type=0, id=5, seq=6) / Raw(b"abcdefg")]
save("vlan", stick)

save("hostile.drop", [
    Ether(dst=WAN, src=GATEWAY) / IP(src=C4, dst=V4, flags="MF", frag=2, proto=6) / Raw(b"over TCP's header"[:16]),
    Ether(dst=WAN, src=GATEWAY) / IP(src=C4, dst=V4, chksum=1) / UDP(sport=1, dport=53),
    Ether(dst=WAN, src=GATEWAY) / IP(src="127.0.0.1", dst=V4) / UDP(sport=1, dport=53),
    Ether(dst=WAN, src=GATEWAY) / IP(src=C4, dst=V4, len=200) / UDP(sport=1, dport=53),
    Ether(dst=WAN, src=GATEWAY) / IP(src=C4, dst=V4) / UDP(sport=1, dport=53, len=4),
    Ether(dst=WAN, src=GATEWAY) / IP(src=C4, dst=V4) / TCP(sport=1, dport=80, dataofs=3),
    Ether(dst=WAN, src=GATEWAY) / IP(src=C4, dst=V4) / UDP(sport=1, dport=54),
    Ether(dst=WAN, src=GATEWAY) / IPv6(src="ff02::1", dst=V6) / UDP(sport=1, dport=53),
    Ether(dst=WAN, src=GATEWAY, type=0x88CC) / Raw(b"\0" * 46),
    # Tags, where there are no VLANs.
    Ether(dst=WAN, src=GATEWAY) / Dot1Q(vlan=100) / IP(src=C4, dst=V4) / UDP(sport=1, dport=53),
    Ether(dst=WAN, src=GATEWAY) / Dot1AD(vlan=100) / Dot1Q(vlan=200) / IP(src=C4, dst=V4) / UDP(sport=1, dport=53),
    Ether(dst=WAN, src=GATEWAY) / Dot1Q(vlan=0) / Dot1Q(vlan=0) / IP(src=C4, dst=V4) / UDP(sport=1, dport=53),
    Ether(dst=WAN, src=GATEWAY, type=0x8100) / Raw(b"\0\x64"),
])
