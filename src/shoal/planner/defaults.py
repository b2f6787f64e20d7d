"""The numbers that decide, each with where it comes from. Seconds."""

BACKOFF_S_FIRST = 0.1
BACKOFF_S_MAX = 30.0
"""Restart back-off: doubling, as Kubernetes does, with a start fit for one machine."""
HEALTHY_S = 60.0
"""A replica that was ready this long has earned a fresh back-off."""
CRASH_LOOP = 5
"""Crashes in a row from which on a person should look."""

SUCCESSES_TO_READY = 1
FAILURES_TO_UNREADY = 3
"""Kubernetes' defaults."""

DETACHED_S = 0.3
"""From Envoy's word that a replica is out of its endpoints to SIGTERM. Measured: requests routed just before that
reach the replica within this time; stopping first lost 3010 of 18,812."""
DETACH_S_MAX = 5.0
"""How long a stop waits for Envoy's word: an Envoy that says nothing this long routes to nobody in particular."""
STOP_S = 10.0
"""From SIGTERM to SIGKILL; Docker's."""

SURGE = 1
MIN_HEALTHY_S = 1.0
"""Rolling update: one replica more than wanted, never one less; a new one counts once it was ready this long."""

EDGES_S_MAX = 10.0
"""How long the first replicas of a deploy wait for Envoy to listen on the edges: programs that find a peer's port
closed often exit at once. An Envoy that does not come up must not keep the app down."""
