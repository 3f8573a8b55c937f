#!/usr/bin/env python3
"""What happens in the lives of TCP connections.

tcp_life.py forge INTERFACE MAC SOURCE SPORT VIP PORT COUNT   COUNT segments to MAC that claim to be the client's, RST, FIN, SYN and
                                                             SYN-ACK in turn, with sequence numbers at random
tcp_life.py serve PORT LINES                                 hears a client out, then sends LINES lines, five a second
tcp_life.py half VIP PORT LINES                              closes its half at once and counts the lines of the answer
"""

import ipaddress
import random
import socket
import struct
import sys
import threading
import time

FIN, SYN, RST, ACK = 1, 2, 4, 16


def checksum(data):
    data += b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def forge(interface, mac, source, sport, vip, port, count):
    source, vip = ipaddress.ip_address(source), ipaddress.ip_address(vip)
    s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
    s.bind((interface, 0))
    for n in range(int(count)):
        flags = (RST, RST | ACK, FIN | ACK, SYN, SYN | ACK)[n % 5]
        numbers = random.getrandbits(32), random.getrandbits(32)
        tcp = struct.pack("!HHIIBBHHH", int(sport), int(port), *numbers, 5 << 4, flags, 500, 0, 0)
        ends = source.packed + vip.packed
        if vip.version == 4:
            pseudo = ends + struct.pack("!HH", 6, len(tcp))
            ip = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(tcp), n, 0, 64, 6, 0) + ends
            ip = ip[:10] + struct.pack("!H", checksum(ip)) + ip[12:]
        else:
            pseudo = ends + struct.pack("!II", len(tcp), 6)
            ip = struct.pack("!IHBB", 6 << 28, len(tcp), 6, 64) + ends
        tcp = tcp[:16] + struct.pack("!H", checksum(pseudo + tcp)) + tcp[18:]
        kind = b"\x08\x00" if vip.version == 4 else b"\x86\xdd"
        s.send(bytes.fromhex(mac.replace(":", "")) + s.getsockname()[4] + kind + ip + tcp)
        time.sleep(0.005)
    print(f"{count} segments forged")


def answer(connection, lines):
    with connection:
        heard = b""
        while more := connection.recv(4096):
            heard += more
        for n in range(lines):
            connection.sendall(b"%d %s\n" % (n, heard))
            time.sleep(0.2)


def serve(port, lines):
    listener = socket.create_server(("::", int(port)), family=socket.AF_INET6, dualstack_ipv6=True, backlog=64)
    print("ready", flush=True)
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=answer, args=(connection, int(lines)), daemon=True).start()


def half(vip, port, lines):
    with socket.create_connection((vip, int(port)), timeout=30) as connection:
        connection.sendall(b"question")
        connection.shutdown(socket.SHUT_WR)
        got = connection.makefile().read().splitlines()
    if got != [f"{n} question" for n in range(int(lines))]:
        sys.exit(f"{len(got)} lines came, {lines} were sent: {got[-1:]}")
    print(f"{len(got)} lines after closing")


{"forge": forge, "serve": serve, "half": half}[sys.argv[1]](*sys.argv[2:])
