"""What Envoy counts of each attempt to have a request answered by a replica.

An attempt, not a request: what a retry rescues never reaches the caller, and is still a failure of the replica that was
tried first. A canary that answers 503 to everything would else look as healthy as those that answer in its place.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from envoy.config.accesslog.v3 import accesslog_pb2
from google.protobuf.struct_pb2 import Struct
from xds.type.v3 import typed_struct_pb2

from shoal.mesh.endpoints import REVISION_METADATA
from shoal.mesh.messages import packed
from shoal.mesh.snapshot import Message

METER = "shoal_attempts"
"""The prefix of the statistics' names."""
METERING = "shoal.metering"
"""Envoy's runtime key: how many per cent of all attempts are counted, 0 or 100. 0 when Envoy starts: what nobody asks
for costs nothing."""

_CONFIG = "type.googleapis.com/envoy.extensions.access_loggers.stats.v3.Config"


@cache
def attempts_logs() -> tuple[Message, Message]:
    """For `upstream_log` of the router. Counted at an attempt's end, while METERING is on, by service and revision of
    the replica:

    - `count`, also by `code` (0: no answer), `flags` (why there is none) and `grpc` (the status; empty for others)
    - `time`, a histogram in µs: from the last byte of the request to the first of the answer. That is the replica's own
      time: callers that send or read slowly, and streams that stay open for hours, are not in it
    """
    time = {
        "stat": _stat("time"),
        "unit": "Microseconds",
        "value_format": "%COMMON_DURATION(US_TX_END:US_RX_BEG:us)%",
    }
    count = _stat("count", code="%RESPONSE_CODE%", flags="%RESPONSE_FLAGS%", grpc="%GRPC_STATUS_NUMBER%")
    metering = accesslog_pb2.AccessLogFilter()
    metering.runtime_filter.runtime_key = METERING
    # Else Envoy looks into the request's id for chance.
    metering.runtime_filter.use_independent_randomness = True
    counting, timing = _log({"counters": [{"stat": count, "value_fixed": 1}]}), _log({"histograms": [time]})
    counting.filter.CopyFrom(metering)
    # Apart: Envoy complains in its log of each attempt without an answer, which has no time.
    answered = accesslog_pb2.AccessLogFilter()
    answered.status_code_filter.comparison.op = accesslog_pb2.ComparisonFilter.GE
    answered.status_code_filter.comparison.value.default_value = 100
    answered.status_code_filter.comparison.value.runtime_key = f"{METERING}.answered"
    timing.filter.and_filter.filters.extend([metering, answered])
    return counting, timing


@cache
def timeouts_log() -> Message:
    """For the connection manager: `timeout`, by service, revision and `why`. An attempt that Envoy ends because the
    whole request has taken too long looks, in the log above, like one that the caller has given up."""
    log = _log({"counters": [{"stat": _stat("timeout", why="%RESPONSE_CODE_DETAILS%"), "value_fixed": 1}]})
    log.filter.response_flag_filter.flags.append("UT")
    return log


def _log(config: dict[str, Any]) -> Message:
    """Written as a structure: xds-protos does not know `stats_scope` yet, and Envoy calls the prefix that it knows
    deprecated, in a line for each listener."""
    value = Struct()
    value.update({"stats_scope": {"prefix": METER}, **config})
    typed = typed_struct_pb2.TypedStruct(type_url=_CONFIG, value=value)
    return accesslog_pb2.AccessLog(name="envoy.access_loggers.stats", typed_config=packed(typed))


def _stat(name: str, **more: str) -> dict[str, Any]:
    namespace, key = REVISION_METADATA
    tags = {"service": "%UPSTREAM_CLUSTER%", "revision": f"%UPSTREAM_METADATA({namespace}:{key})%", **more}
    return {"name": name, "tags": [{"name": tag, "value_format": value} for tag, value in tags.items()]}
