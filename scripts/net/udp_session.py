#!/usr/bin/env python3
"""A long UDP session with an echo server (udp_echo.py): udp_session.py VIP PORT SECONDS LARGEST [--resends N] [--loss PERCENT]

One socket sends numbered datagrams of 16 to LARGEST bytes, at most 16 of them under way at a time, for SECONDS, and expects
each to come back as it was, from VIP:PORT, in a time of its own. What does not is sent again; more than N resends fail (N is
for what path-MTU discovery costs), beside PERCENT of all datagrams: rings of the kernel overflow where other traffic keeps both
CPUs busy. One backend must answer all the while.
"""

import argparse
import random
import selectors
import socket
import struct
import sys
import time

WINDOW, PAUSE, PATIENCE, TRIES = 16, 0.002, 3.0, 4

arguments = argparse.ArgumentParser()
arguments.add_argument("vip")
arguments.add_argument("port", type=int)
arguments.add_argument("seconds", type=float)
arguments.add_argument("largest", type=int)
arguments.add_argument("--resends", type=int, default=0)
arguments.add_argument("--loss", type=float, default=0)
args = arguments.parse_args()

s = socket.socket(socket.AF_INET6 if ":" in args.vip else socket.AF_INET, socket.SOCK_DGRAM)
s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
s.setblocking(False)
poll = selectors.DefaultSelector()
poll.register(s, selectors.EVENT_READ)
rng = random.Random(5)
under_way, names = {}, set()
sent = received = resent = octets = 0


def receive(wait):
    """Takes what has come back, after WAIT seconds at most."""
    global received, octets
    if not poll.select(wait):
        return
    while True:
        try:
            answer, peer = s.recvfrom(65535)
        except BlockingIOError:
            return
        except OSError as error:  # what an ICMP error said about something sent before
            print("told:", error, flush=True)
            continue
        if peer[:2] != (args.vip, args.port):
            sys.exit(f"an answer came from {peer[:2]}, not from the VIP")
        if len(answer) < 16:
            names.add(answer.decode())
            continue
        number, = struct.unpack("!Q", answer[:8])
        if number not in under_way:
            if number < sent and resent:
                continue  # the answer to the first try, after all
            sys.exit(f"number {number} came back twice, or was never sent")
        if under_way.pop(number)[0] != answer:
            sys.exit(f"number {number}, {len(answer)} bytes, came back changed")
        received += 1
        octets += len(answer)


def send(data):
    try:
        s.sendto(data, (args.vip, args.port))
    except BlockingIOError:
        pass
    except OSError as error:
        print("told:", error, flush=True)
        s.sendto(data, (args.vip, args.port))


def again():
    """Sends once more what has been under way for too long."""
    global resent
    now = time.monotonic()
    for number, (data, when, tries) in list(under_way.items()):
        if now - when > PATIENCE:
            if tries == TRIES:
                sys.exit(f"number {number}, {len(data)} bytes, never came back; {received} did")
            under_way[number] = (data, now, tries + 1)
            resent += 1
            send(data)


def ask_name():
    send(b"who")


end = time.monotonic() + args.seconds
ask_name()
while time.monotonic() < end or under_way:
    if len(under_way) < WINDOW and time.monotonic() < end:
        data = struct.pack("!Q", sent) + rng.randbytes(rng.randint(8, args.largest - 8))
        under_way[sent] = (data, time.monotonic(), 1)
        send(data)
        sent += 1
        receive(PAUSE)
    else:
        receive(0.1)
    again()
ask_name()
deadline = time.monotonic() + 5
while not names and time.monotonic() < deadline:
    receive(0.1)
receive(0.2)
print(f"{received} datagrams, {octets} bytes each way, {resent} resent, answered by {', '.join(sorted(names))}")
if received != sent or len(names) != 1 or resent > args.resends + sent * args.loss / 100 or received < 50 * args.seconds:
    sys.exit(f"of {sent} sent")
