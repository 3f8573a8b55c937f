"""Listens as a service manager does (sd_notify(3)): notify.py SOCKET FILE

Every line of every message goes to FILE, with the time in seconds in front.
"""

import socket
import sys
import time

path, out = sys.argv[1:]
listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
listener.bind(path)
while True:
    message = listener.recv(65536).decode()
    with open(out, "a") as file:
        for line in message.splitlines():
            file.write(f"{time.monotonic():.3f} {line}\n")
