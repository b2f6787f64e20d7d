"""Filters that some services want: installed everywhere, empty, and filled in routes, because a changed listener drains
its connections, and changed routes do not."""

from __future__ import annotations

import math
from collections.abc import Iterable

from envoy.config.core.v3 import base_pb2
from envoy.config.route.v3 import route_components_pb2
from envoy.extensions.common.ratelimit.v3 import ratelimit_pb2
from envoy.extensions.filters.common.fault.v3 import fault_pb2
from envoy.extensions.filters.http.fault.v3 import fault_pb2 as http_fault_pb2
from envoy.extensions.filters.http.local_ratelimit.v3 import local_rate_limit_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2
from envoy.type.v3 import percent_pb2, token_bucket_pb2
from google.protobuf.wrappers_pb2 import BoolValue, UInt32Value

from shoal.mesh.messages import duration, packed, set_header
from shoal.mesh.snapshot import Message
from shoal.model.traffic import Fault, Limit

_FAULT = "envoy.filters.http.fault"
_LIMIT = "envoy.filters.http.local_ratelimit"
_MILLION = 1_000_000
_BY_CALLER = "caller"


def empty_filters() -> list[Message]:
    """What every listener has before its router."""
    limit = local_rate_limit_pb2.LocalRateLimit(stat_prefix="limit")
    return [
        http_connection_manager_pb2.HttpFilter(name=_LIMIT, typed_config=packed(limit)),
        http_connection_manager_pb2.HttpFilter(name=_FAULT, typed_config=packed(http_fault_pb2.HTTPFault())),
    ]


def put_fault(route: Message, fault: Fault) -> None:
    """On one route. A delay is before the service is asked, and not counted in its time-out."""
    percentage = percent_pb2.FractionalPercent(
        numerator=round(fault.percent * _MILLION / 100), denominator=percent_pb2.FractionalPercent.MILLION
    )
    wanted = http_fault_pb2.HTTPFault()
    if fault.delay_s:
        wanted.delay.CopyFrom(fault_pb2.FaultDelay(fixed_delay=duration(fault.delay_s), percentage=percentage))
    if fault.abort:
        wanted.abort.CopyFrom(http_fault_pb2.FaultAbort(http_status=fault.abort, percentage=percentage))
    route.typed_per_filter_config[_FAULT].CopyFrom(packed(wanted))


def put_limit(host: Message, limit: Limit | None, callers: Iterable[tuple[str, Limit]], *, header: str) -> None:
    """On a virtual host, so that all its routes take from one bucket; and those of each caller, which `header` names,
    from its own beside it. Envoy has one bucket for each place where it is written, for all workers."""
    own = [(caller, each) for caller, each in callers if each.requests]
    if not (limit and limit.requests) and not own:
        return
    slowest = min((each for each in (limit, *(each for _, each in own)) if each and each.requests), key=_rate)
    wanted = local_rate_limit_pb2.LocalRateLimit(
        stat_prefix="limit",
        token_bucket=_bucket(limit if limit and limit.requests else Limit(requests=_MILLION, per_s=1.0)),
        filter_enabled=_always(),
        filter_enforced=_always(),
        rate_limited_as_resource_exhausted=True,
        response_headers_to_add=[set_header("retry-after", str(max(1, math.ceil(1 / _rate(slowest)))))],
        local_rate_limit_per_downstream_connection=False,
        always_consume_default_token_bucket=BoolValue(value=True),
    )
    for caller, each in own:
        entry = ratelimit_pb2.RateLimitDescriptor.Entry(key=_BY_CALLER, value=caller)
        wanted.descriptors.append(ratelimit_pb2.LocalRateLimitDescriptor(entries=[entry], token_bucket=_bucket(each)))
    if own:
        action = route_components_pb2.RateLimit.Action(
            request_headers=route_components_pb2.RateLimit.Action.RequestHeaders(
                header_name=header, descriptor_key=_BY_CALLER
            )
        )
        wanted.rate_limits.append(route_components_pb2.RateLimit(actions=[action]))
    host.typed_per_filter_config[_LIMIT].CopyFrom(packed(wanted))


def _rate(limit: Limit) -> float:
    return limit.requests / limit.per_s


def _bucket(limit: Limit) -> Message:
    burst = limit.burst if limit.burst is not None else max(1, math.ceil(_rate(limit)))
    return token_bucket_pb2.TokenBucket(
        max_tokens=burst,
        tokens_per_fill=UInt32Value(value=limit.requests),
        fill_interval=duration(limit.per_s),
    )


def _always() -> Message:
    everybody = percent_pb2.FractionalPercent(numerator=100)
    return base_pb2.RuntimeFractionalPercent(default_value=everybody)
