"""The numbers of the data plane, in one place, each with where it comes from."""

from __future__ import annotations

REQUEST_TIMEOUT_S = 15.0
"""From the end of the request to the end of the answer. Envoy's default."""
TRIES_IN_TIME = 3
"""What may be repeated is asked of another replica as well when a third of its time-out is over without an answer; both
go on, and the first answer counts. A replica that hangs (SIGSTOP, a deadlock) costs 5 s then, not the request."""
STREAM_IDLE_S = 3600.0
"""Event streams, gRPC and WebSockets have no time-out but this: an hour without a byte either way."""

CONNECT_TIMEOUT_S = 1.0
CONNECT_OUTSIDE_S = 10.0
"""To what is outside, which may be on another continent."""
EGRESS_PORT = 3128
"""Of the proxy that `HTTPS_PROXY` names; Squid's, which people know."""
CONNECTS_TCP = 5
"""Attempts to connect one TCP caller, each to the next replica."""
UPSTREAM_IDLE_S = 15.0
"""Connections to a replica are closed by us before granian (30 s), node (5 s is retried) or others close them."""
STREAM_WINDOW = 256 << 10
CONNECTION_WINDOW = 256 << 20
"""Bytes of answers that a replica may send ahead over HTTP/2. There is room for a thousand streams: those who do not
read must not hold up those who do, with whom they share a connection."""
FETCH_TIMEOUT_S = 5.0
"""How long a cluster or listener waits for its endpoints or routes before it goes on with what it had."""

RETRIES = 5
"""Attempts beside the first. Two of three replicas killed at once, 30 times, 50,000 GETs: 1 lost 540, 2 lost 55, 3 lost
6, 5 lost none. A dead replica has the fewest requests under way, so that least-request prefers it, and drawing again to
avoid it is itself bounded. The retry budget bounds what this costs."""
HOST_RESELECTIONS = 5
"""How often a retry draws again to avoid a replica that it has tried."""
RETRY_BASE_S = 0.025
RETRY_MAX_S = 0.2
RETRY_BUDGET_PERCENT = 20.0
RETRY_FLOOR = 32
"""Concurrent retries that are always allowed. Envoy's 3 overflows as soon as a replica dies under load."""

BREAKER_CONNECTIONS = 1024
BREAKER_PENDING = 1024
BREAKER_REQUESTS = 1024

EJECT_AFTER = 5
"""5xx answers or failed connections in a row."""
EJECT_SWEEP_S = 1.0
EJECT_BASE_S = 5.0
"""Times the number of ejections so far."""
EJECT_PERCENT_MAX = 50
"""More than half, with panic off, makes things worse: the rest drowns."""

IDEMPOTENT_METHODS = ("GET", "HEAD", "OPTIONS", "PUT", "DELETE", "TRACE")
"""RFC 9110, section 9.2.2."""

LISTED_MAX = 20
"""Names or paths that a message lists before it says how many more there are."""
