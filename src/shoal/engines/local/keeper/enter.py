"""Runs a command in a service's surroundings (`shoal exec`):
`python -I -S enter.py HOSTS|- NSSWITCH|- [MESH_PID:REPLICA_PID[:RESOLV]|-] [FILES] -- ARGV...`, with a network that it
enters, and what is at absolute paths there: JSON, as in the keeper's `spawn`.

Becomes the command, so that terminal, signals and exit code are the command's own. 127: no such command, 126: it
cannot be run, 125: no namespace, each with the reason on stderr.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from typing import Any


def main(argv: list[str]) -> int:
    end = argv.index("--") if "--" in argv else 0
    if end not in (3, 4, 5) or len(argv) == end + 1:
        return _say(125, "usage: enter.py HOSTS|- NSSWITCH|- [MESH_PID:REPLICA_PID|-] [FILES] -- COMMAND [ARGUMENT...]")
    namespaces = importlib.import_module("keeper.namespaces")
    child = importlib.import_module("keeper.child")
    try:
        hosts, nsswitch = (None if path == "-" else path for path in argv[1:3])
        network = _network(argv[3]) if end > 3 and argv[3] != "-" else None
        namespaces.enter(hosts, nsswitch, network, _files(argv[4]) if end > 4 else None)
    except OSError as error:
        return _say(125, f"the network of the replica is not to be had: {error}")
    except namespaces.FilesError as error:
        return _say(125, f"the service's files are not to be had here: {error}")
    except namespaces.NamespaceError as error:
        return _say(125, f"the app's names are not to be had here: {error}")
    try:
        child.become(argv[end + 1 :], dict(os.environ))
    except child.ExecError as error:
        return _say(127 if error.missing else 126, str(error))
    raise AssertionError("become does not return")


def _network(pids: str) -> Any:
    """OSError: one of the processes ended."""
    networks = importlib.import_module("keeper.networks")
    mesh, replica, *resolv = pids.split(":", 2)
    user, net = networks.namespaces_of(int(mesh))
    os.close(net)
    other, net = networks.namespaces_of(int(replica))
    os.close(other)
    return networks.Network(networks.ENTER, user=user, net=net, resolv=resolv[0] if resolv else None)


def _files(text: str) -> Any:
    mounts = importlib.import_module("keeper.mounts")
    wanted = json.loads(text)
    found = [mounts.Mount(source, target, read_only=read_only) for source, target, read_only in wanted["mounts"]]
    return mounts.Mounts(wanted["place"], found)


def _say(code: int, words: str) -> int:
    sys.stderr.write(f"shoal: {words}\n")
    return code


if __name__ == "__main__":
    sys.path.append(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    sys.exit(main(sys.argv))
