"""Traffic keys in their places: whether they mean anything for that service, and the policies that come of them."""

from __future__ import annotations

from collections.abc import Iterator

from shoal.model.app import Port, Protocol
from shoal.model.traffic import OF_REPLICAS, OF_TCP, Balance, Choice, Policy
from shoal.spec.document import Loc
from shoal.spec.review import Review
from shoal.spec.schema import JobFile, ServiceFile
from shoal.spec.traffic import COUNT_MAX, KEYS, RETRIES_MAX, TIME_S_MAX, TrafficKeys, is_token, policy


def called(review: Review, loc: Loc, part: ServiceFile | JobFile) -> Iterator[tuple[Loc, str]]:
    """Each name in its `calls` as often as it is written, with its place."""
    written = review.document.plain
    for key in (*loc, "calls"):
        written = written.get(key) if isinstance(written, dict) else None
    here: Loc = (*loc, "calls")
    if not isinstance(written, list):
        yield from (((*here, name), name) for name in part.calls)
        return
    for i, item in enumerate(written):
        if isinstance(item, dict):
            yield from (((*here, i, name), name) for name in item)
        else:
            yield (*here, i), item


def edges(
    review: Review,
    loc: Loc,
    part: ServiceFile | JobFile,
    services: dict[str, ServiceFile],
    ports: dict[str, tuple[Port, ...]],
) -> tuple[tuple[str, Policy], ...]:
    """What it says of its calls, of those of which it says something."""
    for place, name in called(review, loc, part):
        said = part.calls.get(name)
        whole(review, place, said)
        if said is not None and said.model_fields_set and name in services and ports.get(name):
            _check(review, place, said, services[name], ports[name], name)
    found = ((name, policy(said)) for name, said in part.calls.items())
    return tuple((name, said) for name, said in found if said)


def traffic(review: Review, name: str, service: ServiceFile, ports: tuple[Port, ...], *, sound: bool) -> Policy:
    """What a service says, or `defaults` for it. `sound`: whether these are all ports that were written."""
    loc: Loc = ("services", name)
    whole(review, loc, service)
    if sound and not ports:
        for key in _written(review, loc):
            review.at_key((*loc, key), "nobody calls it: it has no port", "remove it, or add 'port'")
    elif sound:
        _check(review, loc, service, service, ports, name)
    return policy(service)


def whole(review: Review, loc: Loc, keys: TrafficKeys | None) -> None:
    """The mappings whose parts only mean something together."""
    if keys is None:
        return
    written = _written(review, loc)
    balance, fault = keys.balance, keys.fault
    if "balance" in written and balance is not None and review.sound(*loc, "balance"):
        ways = [way for way in (balance.choice, balance.header, balance.cookie) if way is not None]
        if len(ways) != 1:
            way_out = "write {cookie: NAME} or {header: NAME}"
            review.at_value((*loc, "balance"), "needs one of header and cookie", way_out)
    nothing = fault is not None and fault.delay is None and fault.abort is None
    if "fault" in written and nothing and review.sound(*loc, "fault"):
        review.at_value((*loc, "fault"), "does nothing", "add 'delay' or 'abort'")


def applies(key: str, value: object, service: ServiceFile) -> bool:
    """Whether one of `defaults` means anything for the service."""
    protocols = {port.protocol for port in service.ports.values()}
    if service.port is not None or (service.external is not None and not protocols):
        protocols.add(service.protocol)
    if not protocols:
        return False
    if service.external is not None and key in OF_REPLICAS:
        return False
    return protocols != {"tcp"} or (key in OF_TCP and not _needs_http(key, value))


def _check(
    review: Review, loc: Loc, keys: TrafficKeys, callee: ServiceFile, ports: tuple[Port, ...], name: str
) -> None:
    written = _written(review, loc)
    for key in written:
        here = (*loc, key)
        if callee.external is not None and key in OF_REPLICAS:
            review.at_key(here, f"'{name}' is external: nobody knows what is behind its one address", "remove it")
        elif all(port.protocol is Protocol.TCP for port in ports):
            if key not in OF_TCP:
                review.at_key(
                    here,
                    f"is for requests, and '{name}' speaks TCP",
                    f"remove it; for TCP: {', '.join(sorted(OF_TCP))}",
                )
            elif _needs_http(key, getattr(keys, key)):
                way_out = "write breaker: {connections: N}" if key == "breaker" else "choose round_robin, or another"
                review.at_key(here, f"is for requests, and '{name}' speaks TCP", way_out)
    both = policy(keys), policy(callee)
    timeout, per_try, retries = (
        next((value for value in (getattr(one, field) for one in both) if value is not None), None)
        for field in ("timeout_s", "per_try_timeout_s", "retries")
    )
    if "per_try_timeout" not in written or not per_try:
        return
    if retries == 0:
        review.at_key((*loc, "per_try_timeout"), "needs retries, and they are off", "remove it, or allow retries")
    elif timeout and per_try >= timeout:
        review.at_value(
            (*loc, "per_try_timeout"), "is not shorter than 'timeout', so that it never matters", "shorten it"
        )


def _needs_http(key: str, value: object) -> bool:
    if key == "breaker":
        return getattr(value, "requests", None) not in (None, "off")
    return key == "balance" and getattr(value, "choice", None) is None


def _written(review: Review, loc: Loc) -> list[str]:
    """Those that stand there, not in `defaults`."""
    return [key for key in KEYS if (*loc, key) in review.document.places]


def flaws(said: Policy) -> Iterator[str]:
    """What is wrong with a policy that did not come from a file."""
    times = {"timeout": said.timeout_s, "per_try_timeout": said.per_try_timeout_s}
    counts = {"retries": (said.retries, RETRIES_MAX)}
    percents: dict[str, float | None] = {}
    if said.outlier is not None:
        times |= {
            "outlier.interval": said.outlier.interval_s or None,
            "outlier.ejection": said.outlier.ejection_s or None,
        }
        counts["outlier.errors"] = said.outlier.errors, COUNT_MAX
        percents["outlier.percent"] = said.outlier.percent
    if said.retry_budget is not None:
        counts["retry_budget.floor"] = said.retry_budget.floor, COUNT_MAX
        percents["retry_budget.percent"] = said.retry_budget.percent
    if said.breaker is not None:
        breaker = said.breaker
        for name, value in (("connections", breaker.connections), ("pending", breaker.pending)):
            counts[f"breaker.{name}"] = value, COUNT_MAX
        counts["breaker.requests"] = breaker.requests, COUNT_MAX
    if said.limit is not None:
        counts["limit.requests"] = said.limit.requests, 10**9
        counts["limit.burst"] = said.limit.burst, COUNT_MAX
        times["limit.per"] = said.limit.per_s or -1.0
    if said.fault is not None:
        times["fault.delay"] = said.fault.delay_s
        percents["fault.percent"] = said.fault.percent or None
        if said.fault.abort and not 400 <= said.fault.abort <= 599:
            yield "fault.abort: is no status from 400 to 599"
    if said.balance is not None:
        times["balance.ttl"] = said.balance.ttl_s
        yield from _balance_flaws(said.balance)
    for key, seconds in times.items():
        if seconds is not None and seconds != 0 and not 0.001 <= seconds <= TIME_S_MAX:
            yield f"{key}: {seconds} is not between 0.001 and {TIME_S_MAX:.0f} seconds"
    for key, (count, most) in counts.items():
        if count is not None and not 0 <= count <= most:
            yield f"{key}: {count} is not between 0 and {most}"
    for key, share in percents.items():
        if share is not None and not 0 < share <= 100:
            yield f"{key}: {share} is no percentage"


def _balance_flaws(balance: Balance) -> Iterator[str]:
    by = [name for name in (balance.header, balance.cookie) if name]
    if (balance.choice is Choice.RING_HASH) != (len(by) == 1):
        yield "balance: exactly ring_hash goes by a header or a cookie"
    for name in by:
        if not is_token(name):
            yield f"balance: {name!r} is no name of a header or a cookie"
