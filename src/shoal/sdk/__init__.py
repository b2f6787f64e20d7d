"""Optional helpers for services. A service that uses none of them is no less a service of Shoal's.

Each module imports only what it is about: `outbox` and `inbox` need sqlalchemy and nats-py, `problems` the framework
that is there, `deadline` and `context` nothing. Shoal puts this package on the path of every Python replica, job and
migration; a service's requirements need not name it.
"""
