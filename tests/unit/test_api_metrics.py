"""What Prometheus is told, letter by letter."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from shoal.api import metrics
from shoal.model.lag import InboxLag, OutboxLag
from tests.support.api import REPLICA, SERVICE, STATUS, Plane, asked

CART = replace(
    SERVICE,
    replicas=(REPLICA,),
    inbox=InboxLag(consumer="cart", behind=12, dead_letters=2),
    outbox=OutboxLag(pending=1_234_567, oldest_s=12.3456),
)
SILENT = replace(SERVICE, name="mailer", replicas=(), wanted=0, ready=0, lag_unknown=("why",))


def test_all_that_is_known() -> None:
    status = replace(STATUS, services=(CART, SILENT), inboxes=(InboxLag(consumer="old", behind=1, dead_letters=0),))
    assert (
        metrics.text(status)
        == """\
# HELP shoal_replicas_wanted Replicas that a service should have.
# TYPE shoal_replicas_wanted gauge
shoal_replicas_wanted{service="cart"} 1
shoal_replicas_wanted{service="mailer"} 0
# HELP shoal_replicas_ready Replicas that take requests.
# TYPE shoal_replicas_ready gauge
shoal_replicas_ready{service="cart"} 1
shoal_replicas_ready{service="mailer"} 0
# HELP shoal_replica_restarts_total How often a replica began anew.
# TYPE shoal_replica_restarts_total counter
shoal_replica_restarts_total{service="cart",replica="cart-r1"} 1
# HELP shoal_events_lag Events that an inbox has not applied yet.
# TYPE shoal_events_lag gauge
shoal_events_lag{service="cart",consumer="cart"} 12
shoal_events_lag{service="",consumer="old"} 1
# HELP shoal_dead_letters Events that an inbox could not apply.
# TYPE shoal_dead_letters gauge
shoal_dead_letters{consumer="cart"} 2
shoal_dead_letters{consumer="old"} 0
# HELP shoal_outbox_pending Committed events that are not published yet.
# TYPE shoal_outbox_pending gauge
shoal_outbox_pending{service="cart"} 1234567
# HELP shoal_outbox_oldest_seconds Age of the oldest of these; 0: none.
# TYPE shoal_outbox_oldest_seconds gauge
shoal_outbox_oldest_seconds{service="cart"} 12.346
# HELP shoal_lag_known 0: the broker or the database did not answer.
# TYPE shoal_lag_known gauge
shoal_lag_known{service="cart"} 1
shoal_lag_known{service="mailer"} 0
"""
    )


def test_an_app_without_services_has_no_metrics() -> None:
    assert metrics.text(replace(STATUS, services=())) == ""


def test_a_name_cannot_forge_a_line() -> None:
    bad = InboxLag(consumer='x"} 1\nshoal_events_lag{consumer="y\\', behind=1, dead_letters=0)
    told = metrics.text(replace(STATUS, services=(), inboxes=(bad,)))
    assert len(told.splitlines()) == 6
    assert 'consumer="x\\"} 1\\nshoal_events_lag{consumer=\\"y\\\\"} 1' in told


def test_they_are_served_in_the_text_format(tmp_path: Path) -> None:
    answer = asked(Plane(tmp_path).app, "GET", "/metrics")
    assert (answer.status, answer.headers["content-type"]) == (200, "text/plain; version=0.0.4; charset=utf-8")
    assert b'shoal_replicas_wanted{service="cart"} 1\n' in answer.body
