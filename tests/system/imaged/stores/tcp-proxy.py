#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A line that can break.

tcp-proxy.py PORT TO-PORT: on 127.0.0.1. SIGUSR1 resets every connection on both sides; SIGUSR2 only the client's side: the
server is told nothing, as by a computer that was switched off or a router that forgot.
"""
import select
import signal
import socket
import struct
import sys

listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
to = ("127.0.0.1", int(sys.argv[2]))
peer = {}  # each socket's other side
silent = []  # what the server holds on to


def reset(sock):
    peer.pop(sock, None)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def both(*_):
    for sock in list(peer):
        reset(sock)


def clients(*_):
    for sock in list(peer):
        if sock.getsockname()[1] == listener.getsockname()[1]:
            server = peer[sock]
            silent.append(server)
            del peer[server]
            reset(sock)


signal.signal(signal.SIGUSR1, lambda *_: wanted.append(both))
signal.signal(signal.SIGUSR2, lambda *_: wanted.append(clients))
wanted = []
wake, woken = socket.socketpair()
woken.setblocking(False)
signal.set_wakeup_fd(woken.fileno())
while True:
    ready, _, _ = select.select([listener, wake, *peer], [], [])
    if wake in ready:
        wake.recv(64)
    while wanted:
        wanted.pop()()
    for sock in ready:
        if sock is listener:
            client, server = listener.accept()[0], socket.create_connection(to)
            peer[client], peer[server] = server, client
        elif sock in peer:
            try:
                data = sock.recv(65536)
                if data:
                    peer[sock].sendall(data)
                    continue
            except OSError:
                pass
            other = peer[sock]
            sock.close()
            other.close()
            del peer[sock], peer[other]
