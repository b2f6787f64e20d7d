"""The parts around the protocol: what is sent, what is told, and how Envoy is started. No Envoy here."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path

import pytest
from envoy.data.accesslog.v3 import accesslog_pb2
from envoy.service.discovery.v3 import discovery_pb2
from google.rpc import status_pb2
from hypothesis import given
from hypothesis import strategies as st

from shoal.errors import EngineError, UnsupportedError
from shoal.mesh.denial import DENY_LOG, denial_routes_name
from shoal.mesh.snapshot import CLUSTER, ENDPOINTS, LISTENER, ROUTES, TYPES, Message, Snapshot
from shoal.model.event import CallDenied, Event
from shoal.xds import wire
from shoal.xds.admin import admin_get
from shoal.xds.denials import PAIRS_MAX, QUIET_S, Denials
from shoal.xds.environment import flaws
from shoal.xds.envoy import bootstrap, drain_s, envoy_argv, find_envoy, remove_shared_memory, running_base_ids
from shoal.xds.library import Library
from shoal.xds.outbox import Outbox
from shoal.xds.replacement import difference
from tests.support.xds_client import make_cluster, make_endpoints, make_listener, make_routes

NAMES = st.text(min_size=1, max_size=300)


@given(
    st.lists(st.tuples(NAMES, st.binary(max_size=400)), max_size=5), st.lists(NAMES, max_size=3), st.text(max_size=9)
)
def test_a_response_is_what_protobuf_would_have_written(
    resources: list[tuple[str, bytes]], removed: list[str], nonce: str
) -> None:
    frames = [wire.resource_frame(CLUSTER, name, "v1", body) for name, body in resources]
    read = discovery_pb2.DeltaDiscoveryResponse.FromString(wire.response(CLUSTER, nonce, frames, removed))
    assert (read.type_url, read.nonce, list(read.removed_resources)) == (CLUSTER, nonce, removed)
    assert [(r.name, r.version, r.resource.type_url, r.resource.value) for r in read.resources] == [
        (name, "v1", CLUSTER, body) for name, body in resources
    ]


def test_a_request_is_read_with_its_refusal() -> None:
    message = discovery_pb2.DeltaDiscoveryRequest(
        type_url=CLUSTER,
        resource_names_subscribe=["a"],
        resource_names_unsubscribe=["b"],
        initial_resource_versions={"c": "1"},
        response_nonce="7",
    )
    accepted = wire.request(message)
    assert accepted == wire.Request(
        type_url=CLUSTER, subscribe=("a",), unsubscribe=("b",), initial_versions={"c": "1"}, nonce="7"
    )
    message.error_detail.CopyFrom(status_pb2.Status(code=13, message="no"))
    assert wire.request(message).error == "no"


def snapshot(version: int, *messages: Message) -> Snapshot:
    resources: dict[str, dict[str, Message]] = {type_url: {} for type_url in TYPES}
    for message in messages:
        type_url = f"type.googleapis.com/{message.DESCRIPTOR.full_name}"
        resources[type_url][getattr(message, "cluster_name", "") or message.name] = message
    return Snapshot(version=version, resources=resources)


def test_the_library_tells_what_differs_from_the_snapshot_before() -> None:
    library = Library()
    a, b = make_cluster("a"), make_cluster("b")
    assert library.publish(snapshot(1, a, b)) == {CLUSTER: {"a", "b"}}
    assert library.publish(snapshot(2, make_cluster("a"), b)) == {}
    assert library.publish(snapshot(3, make_cluster("a", 1), make_cluster("c"))) == {CLUSTER: {"a", "b", "c"}}
    assert library.get(CLUSTER, "b") is None


def test_equal_resources_have_equal_versions_in_every_process() -> None:
    one, other = Library(), Library()
    one.publish(snapshot(1, make_cluster("a")))
    other.publish(snapshot(9, make_cluster("a"), make_cluster("b")))
    assert one.get(CLUSTER, "a") == other.get(CLUSTER, "a")
    assert one.get(CLUSTER, "a") != other.get(CLUSTER, "b")


def test_the_library_knows_what_leads_where() -> None:
    library = Library()
    library.publish(
        snapshot(
            1,
            make_cluster("a"),
            make_cluster("fixed", eds=False),
            make_endpoints("a"),
            make_listener("door", "paths"),
            make_routes("paths", ("a", "fixed")),
        )
    )

    def needs(type_url: str, name: str) -> frozenset[tuple[str, str]]:
        resource = library.get(type_url, name)
        assert resource is not None
        return resource.needs

    assert needs(CLUSTER, "a") == {(ENDPOINTS, "a")}
    assert needs(CLUSTER, "fixed") == frozenset()
    assert needs(LISTENER, "door") == {(ROUTES, "paths")}
    assert needs(ROUTES, "paths") == {(CLUSTER, "a"), (CLUSTER, "fixed")}


def entry(caller: str, host: str, port: int = 3000) -> Message:
    made = accesslog_pb2.HTTPAccessLogEntry()
    made.common_properties.route_name = denial_routes_name(caller)
    made.common_properties.downstream_local_address.socket_address.port_value = port
    made.request.authority = host
    return made


def test_a_denied_call_is_told_at_most_once_a_minute_for_each_caller_and_callee() -> None:
    denials = Denials()
    told = denials.fold(DENY_LOG, [entry("a", "b"), entry("a", "b:3000"), entry("a", "c"), entry("d", "b")], 100.0)
    assert [(e.caller, e.callee, e.port) for e in told] == [("a", "b", 3000), ("a", "c", 3000), ("d", "b", 3000)]
    assert denials.fold(DENY_LOG, [entry("a", "b")], 100.0 + QUIET_S - 0.1) == []
    assert len(denials.fold(DENY_LOG, [entry("a", "b")], 100.0 + QUIET_S)) == 1


@pytest.mark.parametrize("host", ["", "127.77.0.1", "some.host", "Upper", "x" * 64, "-a", "[bold]", "a\nb"])
def test_foreign_text_in_a_host_header_is_not_told(host: str) -> None:
    assert Denials().fold(DENY_LOG, [entry("a", host)], 0.0) == []


def test_other_logs_and_other_routes_are_not_denials() -> None:
    other = entry("a", "b")
    other.common_properties.route_name = "service.b"
    assert Denials().fold("access", [entry("a", "b")], 0.0) == []
    assert Denials().fold(DENY_LOG, [other], 0.0) == []


def test_what_is_remembered_of_denials_is_bounded() -> None:
    denials = Denials()
    denials.fold(DENY_LOG, [entry("a", f"s{n}") for n in range(PAIRS_MAX + 10)], 0.0)
    assert len(denials._reported) == PAIRS_MAX


class SlowInbox:
    """Takes an event when it is let."""

    def __init__(self) -> None:
        self.taken: list[Event] = []
        self.free = asyncio.Semaphore(0)

    async def put(self, event: Event) -> None:
        await self.free.acquire()
        self.taken.append(event)


def denied(at: float, callee: str = "b") -> CallDenied:
    return CallDenied(at=at, caller="a", callee=callee, port=1)


async def turns(count: int = 20) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


def test_a_newer_event_takes_the_place_of_one_that_waits_and_none_is_lost() -> None:
    async def main() -> None:
        inbox = SlowInbox()
        outbox = Outbox(inbox)
        task = asyncio.create_task(outbox.deliver())
        outbox.post("x", denied(1.0))
        await turns()  # the inbox has it, and does not take it yet
        outbox.post("x", denied(2.0))
        outbox.post("y", denied(3.0))
        outbox.post("x", denied(4.0))
        for _ in range(3):
            inbox.free.release()
        await turns()
        assert [event.at for event in inbox.taken] == [1.0, 3.0, 4.0]
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(main())


def test_an_event_whose_delivery_was_cut_off_is_delivered_by_the_next_run() -> None:
    async def main() -> None:
        inbox = SlowInbox()
        outbox = Outbox(inbox)
        outbox.post("x", denied(1.0))
        first = asyncio.create_task(outbox.deliver())
        await turns()
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        inbox.free.release()
        outbox.post("y", denied(2.0))
        inbox.free.release()
        second = asyncio.create_task(outbox.deliver())
        await turns()
        assert [event.at for event in inbox.taken] == [1.0, 2.0]
        second.cancel()
        await asyncio.gather(second, return_exceptions=True)

    asyncio.run(main())


def test_envoy_is_the_one_that_is_named_else_the_bundled_one(tmp_path: Path) -> None:
    mine = tmp_path / "my envoy"
    mine.write_text("#!/bin/sh\n")
    mine.chmod(0o755)
    assert find_envoy({"SHOAL_ENVOY": str(mine)}) == mine
    bundled = find_envoy({"PATH": ""})
    assert bundled.parts[-2:] == ("_bin", "envoy")
    assert os.access(bundled, os.X_OK)


@pytest.mark.parametrize("wrong", ["/nowhere/envoy", "/tmp", __file__])
def test_a_named_envoy_that_is_no_program_is_an_error(wrong: str) -> None:
    with pytest.raises(UnsupportedError, match="is no program"):
        find_envoy({"SHOAL_ENVOY": wrong})


def test_a_machine_without_envoy_is_told_how_to_get_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UnsupportedError) as caught:
        find_envoy({"PATH": "/nowhere"})
    assert "SHOAL_ENVOY" in caught.value.way_out


def test_the_bootstrap_holds_no_port_and_comes_back_fast() -> None:
    text = bootstrap(node="n", cluster="c", admin_socket=Path("/r/admin.sock"), xds_socket=Path("/r/xds.sock"))
    config = json.loads(text)
    assert "port_value" not in text
    assert config["admin"]["address"]["pipe"] == {"path": "/r/admin.sock", "mode": 0o600}
    (service,) = config["dynamic_resources"]["ads_config"]["grpc_services"]
    assert service["envoy_grpc"]["retry_policy"]["retry_back_off"] == {"base_interval": "0.02s", "max_interval": "0.5s"}


def test_every_app_has_an_envoy_of_its_own_number() -> None:
    argv = envoy_argv(Path("/bin/envoy"), Path("/r/b.json"), base_id=77)
    assert argv[argv.index("--base-id") + 1] == "77"
    assert argv[argv.index("--drain-strategy") + 1] == "immediate"


def test_shared_memory_of_this_number_is_removed_and_no_other(tmp_path: Path) -> None:
    for name in ("envoy_shared_memory_70", "envoy_shared_memory_770", "envoy_shared_memory_7700", "other"):
        (tmp_path / name).touch()
    assert [path.name for path in remove_shared_memory(77, tmp_path)] == ["envoy_shared_memory_770"]
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "envoy_shared_memory_70",
        "envoy_shared_memory_7700",
        "other",
    ]
    assert remove_shared_memory(77, tmp_path / "absent") == []


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi", "hi"),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n", "abcde"),
    ],
)
def test_the_admin_socket_is_read_to_its_end(answer: bytes, said: str, tmp_path: Path) -> None:
    assert asyncio.run(asked(tmp_path / "s", answer)) == said


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 404 Not Found\r\n\r\nnothing", b"nonsense"])
def test_an_admin_socket_that_does_not_answer_well_is_an_error(answer: bytes, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="Envoy"):
        asyncio.run(asked(tmp_path / "s", answer))


def test_an_absent_admin_socket_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="Envoy does not answer"):
        asyncio.run(admin_get("/ready", tmp_path / "absent"))


async def asked(path: Path, answer: bytes) -> str:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_unix_server(serve, str(path)):
        return await admin_get("/ready", path)


def test_this_environment_builds_messages_in_c_and_has_no_package_that_clashes() -> None:
    assert flaws() == []


def test_a_slow_backend_and_a_clashing_package_are_told_with_the_way_out() -> None:
    slow, clash = flaws(backend=lambda: "python", installed=lambda name: name)
    assert "'python' backend" in slow.message
    assert "opentelemetry-proto" in clash.message
    assert slow.way_out and clash.way_out


def test_an_envoy_that_takes_over_gets_its_epoch_and_ends_the_old_one_after_its_drain() -> None:
    argv = envoy_argv(Path("/bin/envoy"), Path("/r/b.json"), base_id=77, epoch=3, drain_s=20)
    assert argv[argv.index("--restart-epoch") + 1] == "3"
    assert argv[argv.index("--drain-time-s") + 1] == "20"
    assert argv[argv.index("--parent-shutdown-time-s") + 1] == "30"


@pytest.mark.parametrize(
    ("chosen", "seconds"), [("", 10), ("2", 2), ("3600", 3600), ("0", 10), ("3601", 10), ("x", 10)]
)
def test_the_drain_time_is_chosen_within_bounds(chosen: str, seconds: int) -> None:
    assert drain_s({"SHOAL_ENVOY_DRAIN_S": chosen} if chosen else {}) == seconds


def test_the_numbers_of_other_apps_envoys_are_seen(tmp_path: Path) -> None:
    commands = {
        "1": "init",
        "20": "/bin/envoy\0--config-path\0/other/.shoal/envoy/bootstrap.json\0--base-id\x0078\0",
        "21": "/bin/envoy\0--config-path\0/ours/.shoal/envoy/bootstrap.json\0--base-id\x0077\0",
        "22": "/bin/envoy\0--config-path\0/x.json\0--base-id\0",
        "self": "",
    }
    for pid, command in commands.items():
        (tmp_path / pid).mkdir()
        (tmp_path / pid / "cmdline").write_text(command)
    assert running_base_ids(Path("/ours/.shoal/envoy"), tmp_path) == {78}


def test_the_envoy_that_runs_is_the_one_that_would_be_started(tmp_path: Path) -> None:
    config = tmp_path / "bootstrap.json"
    config.write_text("{}")
    running = Path(f"/proc/{os.getpid()}/exe").resolve()
    assert difference(os.getpid(), running, config, "{}") is None
    changed = difference(os.getpid(), running, config, '{"node": 1}')
    assert changed is not None
    assert changed.takes_over


def test_another_envoy_is_named_by_both_versions(tmp_path: Path) -> None:
    """A program that runs, and another of another version."""
    config = tmp_path / "bootstrap.json"
    config.write_text("{}")
    newer = tmp_path / "envoy"
    newer.write_text('#!/bin/sh\n[ "$1" = --version ] && echo "x  version: abc/9.9.0/Clean/RELEASE/X" || echo 99 >&2\n')
    newer.chmod(0o755)
    found = difference(os.getpid(), newer, config, "{}")
    assert found is not None
    assert "9.9.0 is installed" in found.words
    assert not found.takes_over
