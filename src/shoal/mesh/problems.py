"""What Envoy itself says when no service can: problem details (RFC 9457), each with a stable code and the way out.

Texts may hold Envoy's `%COMMANDS%`; Envoy escapes what they stand for. To a gRPC caller the same text goes as the
status message, without JSON around it.
"""

from __future__ import annotations

from dataclasses import dataclass

from envoy.config.accesslog.v3 import accesslog_pb2
from envoy.config.core.v3 import base_pb2, substitution_format_string_pb2
from envoy.config.route.v3 import route_components_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2
from google.protobuf.struct_pb2 import Struct

from shoal.mesh.messages import set_header, starting_with
from shoal.mesh.snapshot import Message

PROBLEM_JSON = "application/problem+json"
_SERVICE = "%UPSTREAM_CLUSTER%"
_TIMEOUT = "%METADATA(ROUTE:shoal:timeout)%"
_TRIES = "%UPSTREAM_REQUEST_ATTEMPT_COUNT%x"
DEADLINE_EXCEEDED = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    code: str
    title: str
    status: int
    detail: str
    way_out: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Failure:
    flags: tuple[str, ...]
    """Envoy's response flags that mean it; none: it is known by its status."""
    problem: Problem
    retry_after_s: int | None = None
    """Where it is worth trying again so soon."""
    grpc_status: int | None = None
    """Where Envoy would choose another one than gRPC's own libraries."""
    keeps_status: bool = False
    """The answer has the status that it has; `problem` has none of its own."""


_FAILURES = (
    _Failure(
        flags=("FI",),
        problem=Problem(
            code="fault-injected",
            title="Failed on purpose",
            status=503,
            detail=f"{_SERVICE} was not asked: its 'fault' says that some requests fail",
            way_out=f"remove 'fault' when the test is over: shoal explain {_SERVICE}",
        ),
        keeps_status=True,
    ),
    _Failure(
        flags=(),  # RL is set only once the answer is made
        problem=Problem(
            code="limited",
            title="Too many requests",
            status=429,
            detail=f"{_SERVICE} gets more requests than its limit allows",
            way_out="come back later, as retry-after says, or raise its 'limit'",
        ),
    ),
    _Failure(
        flags=("UH",),
        problem=Problem(
            code="no-ready-replica",
            title="No ready replica",
            status=503,
            detail=f"{_SERVICE} has no ready replica",
            way_out=f"see why: shoal explain {_SERVICE}",
        ),
        retry_after_s=1,
    ),
    _Failure(
        flags=("UO",),
        problem=Problem(
            code="breaker-open",
            title="Breaker open",
            status=503,
            detail=f"the breaker is open: {_SERVICE} has as many requests or connections under way as it allows",
            way_out=f"try again later, give it more replicas (shoal scale {_SERVICE} N), or raise its 'breaker'",
        ),
        retry_after_s=1,
    ),
    _Failure(
        flags=("UT",),
        problem=Problem(
            code="timeout",
            title="No answer in time",
            status=504,
            detail=f"{_SERVICE} did not answer within {_TIMEOUT}",
            way_out=f"see what it does: shoal logs {_SERVICE}; or give it a longer 'timeout'",
        ),
        grpc_status=DEADLINE_EXCEEDED,
    ),
    _Failure(
        flags=("UPE",),
        problem=Problem(
            code="protocol-error",
            title="Not a valid answer",
            status=502,
            detail=f"{_SERVICE} gave an answer that is no valid HTTP",
            way_out=f"call it with the HTTP version that it speaks, or see its log: shoal logs {_SERVICE}",
        ),
    ),
    _Failure(
        flags=("UF",),
        problem=Problem(
            code="connection-failed",
            title="No connection",
            status=503,
            detail=f"no replica of {_SERVICE} accepted a connection (tried {_TRIES})",
            way_out=f"see why: shoal explain {_SERVICE}",
        ),
        retry_after_s=1,
    ),
    _Failure(
        flags=("UC", "UR", "LR"),
        problem=Problem(
            code="connection-lost",
            title="Connection lost",
            status=503,
            detail=f"{_SERVICE} closed the connection before it answered (tried {_TRIES})",
            way_out=f"see its log: shoal logs {_SERVICE}",
        ),
    ),
)
"""In this order: a request that was retried carries the flags of all its attempts."""


def is_grpc() -> Message:
    """Matches a request whose content type is gRPC's."""
    return route_components_pb2.HeaderMatcher(name="content-type", string_match=starting_with("application/grpc"))


def json_body(problem: Problem) -> Message:
    members = Struct()
    members.update(
        {
            "type": f"urn:shoal:error:{problem.code}",
            "title": problem.title,
            "status": problem.status,
            "detail": problem.detail,
            "code": problem.code,
            "way_out": problem.way_out,
        }
    )
    return substitution_format_string_pb2.SubstitutionFormatString(json_format=members, content_type=PROBLEM_JSON)


def text_body(problem: Problem) -> Message:
    text = f"{problem.detail}; {problem.way_out}"
    return substitution_format_string_pb2.SubstitutionFormatString(
        text_format_source=base_pb2.DataSource(inline_string=text)
    )


def answering(problem: Problem, *, name: str, match: Message) -> list[Message]:
    """Two routes that answer with it: to gRPC callers, then to all others. `match` is left as it is."""
    routes = []
    for grpc in (True, False):
        route = route_components_pb2.Route(
            name=name,
            match=match,
            direct_response=route_components_pb2.DirectResponseAction(
                status=problem.status, body_format=text_body(problem) if grpc else json_body(problem)
            ),
        )
        if grpc:
            route.match.headers.append(is_grpc())
        else:
            route.response_headers_to_add.append(set_header("content-type", PROBLEM_JSON))
        routes.append(route)
    return routes


def local_replies() -> Message:
    """How Envoy words its own failures to reach a service."""
    config = http_connection_manager_pb2.LocalReplyConfig()
    for failure in _FAILURES:
        flags = _recognised(failure)
        grpc = accesslog_pb2.AccessLogFilter(header_filter=accesslog_pb2.HeaderFilter(header=is_grpc()))
        both = accesslog_pb2.AccessLogFilter(and_filter=accesslog_pb2.AndFilter(filters=[flags, grpc]))
        in_grpc = config.mappers.add(filter=both, body_format_override=text_body(failure.problem))
        if failure.grpc_status is not None:
            in_grpc.headers_to_add.append(set_header("grpc-status", str(failure.grpc_status)))
        plain = config.mappers.add(filter=flags, body_format_override=json_body(failure.problem))
        if failure.keeps_status:
            plain.body_format_override.json_format["status"] = "%RESPONSE_CODE%"
        else:
            plain.status_code.value = failure.problem.status
        if failure.retry_after_s is not None:
            plain.headers_to_add.append(set_header("retry-after", str(failure.retry_after_s)))
    return config


def _recognised(failure: _Failure) -> Message:
    if failure.flags:
        return accesslog_pb2.AccessLogFilter(response_flag_filter=accesslog_pb2.ResponseFlagFilter(flags=failure.flags))
    status = base_pb2.RuntimeUInt32(default_value=failure.problem.status, runtime_key="shoal.unused")
    equal = accesslog_pb2.ComparisonFilter(op=accesslog_pb2.ComparisonFilter.EQ, value=status)
    return accesslog_pb2.AccessLogFilter(status_code_filter=accesslog_pb2.StatusCodeFilter(comparison=equal))
