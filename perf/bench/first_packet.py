#!/usr/bin/env python3
"""First packets after silence: first_packet.py ADDRESS PORT COUNT SILENCE_MS

Sends one datagram at a time to an echo server, with silence in between, and prints how long the answers took, as JSON
(microseconds).
"""

import json
import socket
import sys
import time

address, port, count, silence = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]) / 1000
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.connect((address, port))
s.settimeout(1)
took, lost = [], 0
for number in range(count + 5):
    time.sleep(silence)
    data = b"%08d" % number
    start = time.perf_counter_ns()
    s.send(data)
    try:
        while s.recv(64) != data:
            pass
    except TimeoutError:
        lost += 1
        continue
    # The first few fill caches, of neighbours too.
    if number >= 5:
        took.append((time.perf_counter_ns() - start) / 1000)
took.sort()
at = lambda share: took[min(len(took) - 1, int(len(took) * share))] if took else None
print(json.dumps({"count": len(took), "lost": lost, "p50_us": at(0.5), "p90_us": at(0.9), "p99_us": at(0.99)}))
