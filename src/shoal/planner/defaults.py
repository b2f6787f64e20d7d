"""The numbers that decide, each with where it comes from. Seconds."""

BACKOFF_S_FIRST = 0.1
BACKOFF_S_MAX = 30.0
"""Restart back-off: doubling, as Kubernetes does, with a start fit for one machine."""
HEALTHY_S = 60.0
"""A replica that was ready this long has no crashes behind it."""
LASTED_S = 1.0
"""One that was ready this long, and for longer than its last back-off, starts again as after a first crash."""
FORGIVEN = 20
"""So many crashes in a row, and no more, do not add to the back-off of one that lasts."""
CRASH_LOOP = 5
"""Crashes in a row from which on a person should look."""

FAILURES_TO_UNREADY = 3
"""Kubernetes' default."""
PROBE_S = 1.0
"""Readiness and startup: from an answer to the next question, and how long an answer may take. Kubernetes asks every
10 s; here an answer costs a tenth of a millisecond, and whoever waits is a person."""
COMMAND_S = 5.0
"""The same of a command, which is a process of its own: a Python alone takes a tenth of a second to start."""
STARTUP_FAILURES = 120
"""With 1 s between, two minutes: as long as a rolling update may take."""
LIVENESS_S = 5.0
"""Liveness: slower and more patient than readiness, because its mistakes cost more. A server of one thread that works
on a request of 10 s must not be killed for it: three questions of 5 s each, 5 s apart, are 15 s at the least."""
HUNG_S = 30.0
"""Without `liveness:`, a replica that gives no answer at all for this long is restarted. The question is asked once
and its connection kept open, so that a server of one thread answers when its turn comes, and one that is merely slow
is not taken for a hung one. Twice the request time-out of 15 s: by then Envoy has given up all that waited for it."""
LATE_S = 60.0
"""A replica that has had a process for so long without getting ready is worth a line in the journal."""

DETACHED_S = 0.3
"""From Envoy's word that a replica is out of its endpoints to SIGTERM. Measured: requests routed just before that
reach the replica within this time; stopping first lost 3010 of 18,812."""
DETACH_S_MAX = 5.0
"""How long a stop waits for Envoy's word: an Envoy that says nothing this long routes to nobody in particular."""
HURRY_S = 2.0
"""From SIGTERM to SIGKILL where a person does not want to wait any longer."""

ROLLOUT_CRASHES = 3
"""So many crashes in a row of one new replica end a rollout: before it is a crash loop, and before its deadline."""
REFUSED_S = 8.0
"""How long what Envoy refuses of a new spec may last. It is offered again after 5 s: a port that two services exchange
is taken for a moment."""
PREPARE_BACKOFF_S_FIRST = 2.0
PREPARE_BACKOFF_S_MAX = 300.0
"""Between two tries to make a revision ready, where there is nothing to return to: a build costs more than a start."""

EDGES_S_MAX = 10.0
"""How long the first replicas of a deploy wait for Envoy to listen on the edges: programs that find a peer's port
closed often exit at once. An Envoy that does not come up must not keep the app down."""
