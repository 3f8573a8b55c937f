#!/usr/bin/env python3
"""Idle TCP connections, and how they end.

idle.py serve NAME OUT PORT...             answers every connection with NAME, then is silent
idle.py call VIP PORT COUNT OUT            opens COUNT connections, hears the names, then is silent

Each writes one line a connection to OUT: to begin with "open NAME", at its end "reset", "closed" or what else it was. The
caller ends when all of its connections have, or after a minute.
"""

import errno
import socket
import sys
import threading

lock = threading.Lock()


def say(out, line):
    with lock:
        print(line, file=out, flush=True)


def end(connection, out, name):
    try:
        how = "closed" if not connection.recv(1) else "spoken to"
    except OSError as error:
        how = "reset" if error.errno == errno.ECONNRESET else repr(error)
    say(out, f"{how} {name}")


def serve(name, out, ports):
    def accept(port):
        listener = socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=256)
        while True:
            connection, _ = listener.accept()
            connection.sendall(name.encode() + b"\n")
            say(out, f"open {name}")
            threading.Thread(target=end, args=(connection, out, name)).start()

    threads = [threading.Thread(target=accept, args=(int(port),)) for port in ports]
    for thread in threads:
        thread.start()
    print("ready", flush=True)


def call(vip, port, count, out):
    threads = []
    for _ in range(count):
        connection = socket.create_connection((vip, port), timeout=20)
        name = connection.makefile().readline().strip()
        connection.settimeout(60)
        say(out, f"open {name}")
        threads.append(threading.Thread(target=end, args=(connection, out, name)))
        threads[-1].start()
    print("ready", flush=True)
    for thread in threads:
        thread.join()


if sys.argv[1] == "serve":
    serve(sys.argv[2], open(sys.argv[3], "w"), sys.argv[4:])
else:
    call(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), open(sys.argv[5], "w"))
