"""Holds the mesh network: `python -I -S holder.py SOCKET`, started in a new one. Gives out sockets of it.

A socket belongs to the network it was made in, whoever connects it later: so the daemon, which is in none of the
app's networks, probes the replicas in them. One request a connection: a line with a process id (a socket of that
process's network) or `mesh`; the answer is `+` with the descriptor, or words.
"""

from __future__ import annotations

import importlib
import os
import socket
import sys
from typing import Any

_ANSWER_S_MAX = 2.0
"""A client that sends nothing must not keep the others waiting for long."""


def main(path: str) -> None:
    linux = importlib.import_module("keeper.linux")
    try:
        os.unlink(path)  # of a holder that was killed
    except FileNotFoundError:
        pass
    with socket.socket(socket.AF_UNIX) as door:
        os.umask(0o177)
        door.bind(path)
        door.listen(64)
        mesh = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        while True:
            connection, _ = door.accept()
            with connection:
                connection.settimeout(_ANSWER_S_MAX)
                try:
                    _serve(connection, linux, mesh)
                except OSError:
                    pass  # it is gone, or does not read


def _serve(connection: socket.socket, linux: Any, mesh: int) -> None:
    asked = connection.recv(64).decode("ascii", "replace").strip()
    try:
        made = _socket() if asked == "mesh" else _socket_of(asked, linux, mesh)
    except (OSError, ValueError) as error:
        connection.sendall(f"{error}\n".encode("utf-8", "replace"))
        return
    with made:
        socket.send_fds(connection, [b"+"], [made.fileno()])


def _socket() -> socket.socket:
    return socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)


def _socket_of(pid: str, linux: Any, mesh: int) -> socket.socket:
    other = os.open(f"/proc/{int(pid)}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        linux.setns(other, linux.CLONE_NEWNET)
    finally:
        os.close(other)
    try:
        return _socket()
    finally:
        linux.setns(mesh, linux.CLONE_NEWNET)


if __name__ == "__main__":
    sys.path[0:1] = []
    sys.path.append(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    main(sys.argv[1])
