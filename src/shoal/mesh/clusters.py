"""One cluster per service: how its replicas are chosen, limited and put aside."""

from __future__ import annotations

from envoy.config.cluster.v3 import circuit_breaker_pb2, cluster_pb2, outlier_detection_pb2
from envoy.config.core.v3 import protocol_pb2
from envoy.extensions.upstreams.http.v3 import http_protocol_options_pb2
from envoy.type.v3 import percent_pb2
from google.protobuf.wrappers_pb2 import UInt32Value

from shoal.mesh import defaults
from shoal.mesh.messages import by_ads, duration, packed
from shoal.mesh.snapshot import Message
from shoal.model.app import Service

_HTTP_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"


def cluster(service: Service) -> Message:
    built = cluster_pb2.Cluster(
        name=service.name,
        type=cluster_pb2.Cluster.EDS,
        eds_cluster_config=cluster_pb2.Cluster.EdsClusterConfig(eds_config=by_ads()),
        connect_timeout=duration(defaults.CONNECT_TIMEOUT_S),
        lb_policy=cluster_pb2.Cluster.LEAST_REQUEST,
        # Without it, a replica that is taken out keeps its connections until its health check fails; it has none.
        ignore_health_on_host_removal=True,
        circuit_breakers=_breaker(),
        outlier_detection=_ejection(),
    )
    # 0, not absent: Envoy else gathers changes of health and weight for a second.
    built.common_lb_config.update_merge_window.CopyFrom(duration(0))
    built.typed_extension_protocol_options[_HTTP_OPTIONS].CopyFrom(_UPSTREAM_HTTP)
    return built


def _breaker() -> Message:
    limits = circuit_breaker_pb2.CircuitBreakers.Thresholds
    return circuit_breaker_pb2.CircuitBreakers(
        thresholds=[
            limits(
                max_connections=UInt32Value(value=defaults.BREAKER_CONNECTIONS),
                max_pending_requests=UInt32Value(value=defaults.BREAKER_PENDING),
                max_requests=UInt32Value(value=defaults.BREAKER_REQUESTS),
                retry_budget=limits.RetryBudget(
                    budget_percent=percent_pb2.Percent(value=defaults.RETRY_BUDGET_PERCENT),
                    min_retry_concurrency=UInt32Value(value=defaults.RETRY_FLOOR),
                ),
            )
        ]
    )


def _ejection() -> Message:
    """The panic threshold stays at Envoy's 50 %: with more than half put aside, all are used again."""
    return outlier_detection_pb2.OutlierDetection(
        consecutive_5xx=UInt32Value(value=defaults.EJECT_AFTER),
        interval=duration(defaults.EJECT_SWEEP_S),
        base_ejection_time=duration(defaults.EJECT_BASE_S),
        max_ejection_percent=UInt32Value(value=defaults.EJECT_PERCENT_MAX),
        # By statistics over at least five replicas: nobody could say why one was put aside.
        enforcing_success_rate=UInt32Value(value=0),
    )


# A caller's HTTP/2 (gRPC) goes on as HTTP/2, anything else as HTTP/1.1: no service has to say which it speaks.
_UPSTREAM_HTTP = packed(
    http_protocol_options_pb2.HttpProtocolOptions(
        common_http_protocol_options=protocol_pb2.HttpProtocolOptions(idle_timeout=duration(defaults.UPSTREAM_IDLE_S)),
        use_downstream_protocol_config=http_protocol_options_pb2.HttpProtocolOptions.UseDownstreamHttpConfig(
            http_protocol_options=protocol_pb2.Http1ProtocolOptions(),
            http2_protocol_options=protocol_pb2.Http2ProtocolOptions(),
        ),
    )
)
