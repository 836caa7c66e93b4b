#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""wire.py INTERFACE TEXT: prints "ready", then counts what crosses that interface; on SIGTERM "BYTES HITS", how often TEXT was
among them. A text that is split between two packets is not counted."""

import signal
import socket
import sys

ETH_P_ALL = 3
SO_RCVBUFFORCE = 33


class Ended(Exception):
    pass


def end(*_):
    raise Ended


def main():
    text = sys.argv[2].encode()
    total = hits = 0
    s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
    s.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 64 << 20)
    s.bind((sys.argv[1], 0))
    signal.signal(signal.SIGTERM, end)
    print("ready", flush=True)
    try:
        while True:
            packet = s.recv(1 << 17)
            total += len(packet)
            hits += packet.count(text)
    except Ended:
        print(total, hits, flush=True)


main()
