#!/usr/bin/env python3
"""Long-lived HTTP connections: hold.py VIP PORT COUNT DIRECTORY

Opens COUNT connections and keeps asking on each, ten times a second, until DIRECTORY/hold.stop exists (or five minutes
have passed). Writes the name of each connection's backend, one a line, to DIRECTORY/hold.names once all are open.
Fails if a connection breaks, is refused, or is answered by another backend than at first.
"""

import http.client
import pathlib
import sys
import time

vip, port, count, directory = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), pathlib.Path(sys.argv[4])


def ask(connection):
    connection.request("GET", "/")
    return connection.getresponse().read().decode().strip()


connections = [http.client.HTTPConnection(vip, port, timeout=60) for _ in range(count)]
names = [ask(c) for c in connections]
for c in connections:
    c.auto_open = 0  # a broken connection is an error, not a reason to open another
partial = directory / "hold.names.part"
partial.write_text("".join(n + "\n" for n in names))
partial.rename(directory / "hold.names")
rounds, end = 0, time.monotonic() + 300
while not (directory / "hold.stop").exists() and time.monotonic() < end:
    for i, c in enumerate(connections):
        name = ask(c)
        if name != names[i]:
            sys.exit(f"connection {i} moved from {names[i]} to {name}")
    rounds += 1
    time.sleep(0.1)
print(f"{count} connections held over {rounds} rounds")
