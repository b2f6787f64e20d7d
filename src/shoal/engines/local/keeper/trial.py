"""Tries once whether this machine lets us have networks: `python -I -S trial.py`. Exit code 0, or words on stderr.

It goes all the way: a mesh network, two networks tied to it, a call from one by an address of an edge, and none from
one to the other. Everything it makes ends with it.
"""

from __future__ import annotations

import importlib
import os
import socket
import sys
from typing import Any

_TRY_S_MAX = 2.0
_PORT = 80


def main() -> int:
    namespaces = importlib.import_module("keeper.namespaces")
    networks = importlib.import_module("keeper.networks")
    # In a process of its own, as the others join its namespaces from ours.
    ready_r, ready_w = os.pipe2(os.O_CLOEXEC)
    end_r, end_w = os.pipe2(os.O_CLOEXEC)
    mesh = os.fork()
    if mesh == 0:
        os.close(end_w)
        os._exit(_guarded(_hold, namespaces, networks, ready_w, end_r))
    os.close(ready_w)
    os.close(end_r)
    code = 1
    if os.read(ready_r, 1):
        user, net = networks.namespaces_of(mesh)
        code = _guarded(_replicas, namespaces, networks, user, net)
    os.close(end_w)
    _, status = os.waitpid(mesh, 0)
    return code or os.waitstatus_to_exitcode(status)


def _guarded(step: Any, *arguments: Any) -> int:
    try:
        step(*arguments)
    except Exception as error:
        if str(error):
            sys.stderr.write(f"{error}\n")
            sys.stderr.flush()
        return 1
    return 0


def _hold(namespaces: Any, networks: Any, ready: int, end: int) -> None:
    namespaces.enter(None, None, networks.Network(networks.CREATE))
    with socket.create_server((networks.address_on_edge(1), _PORT)):
        os.write(ready, b"+")
        os.close(ready)
        os.read(end, 1)


def _replicas(namespaces: Any, networks: Any, user: int, net: int) -> None:
    listens_r, listens_w = os.pipe2(os.O_CLOEXEC)
    end_r, end_w = os.pipe2(os.O_CLOEXEC)

    def network(number: int) -> Any:
        return networks.Network(networks.OWN, address=networks.address_of(number), user=user, net=net)

    def listen() -> None:
        namespaces.enter(None, None, network(networks.FIRST))
        with socket.create_server(("0.0.0.0", _PORT)):
            os.write(listens_w, b"+")
            os.close(listens_w)
            os.read(end_r, 1)

    def call() -> None:
        namespaces.enter(None, None, network(networks.FIRST + 1))
        socket.create_connection((networks.address_on_edge(1), _PORT), timeout=_TRY_S_MAX).close()
        try:
            socket.create_connection((networks.address_of(networks.FIRST), _PORT), timeout=0.2).close()
        except OSError:
            return
        raise OSError("networks are open to each other on this machine")

    children = []
    for step in (listen, call):
        pid = os.fork()
        if pid == 0:
            os.close(end_w)
            os._exit(_guarded(step))
        children.append(pid)
        if step is listen:
            os.close(listens_w)
            if not os.read(listens_r, 1):
                break
    codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children[1:]]
    os.close(end_w)
    codes.append(os.waitstatus_to_exitcode(os.waitpid(children[0], 0)[1]))
    if any(codes):
        raise OSError("")  # they said why


if __name__ == "__main__":
    sys.path[0:1] = []
    sys.path.append(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    sys.exit(main())
