"""Dead letters: events that an inbox could not apply.

    python -m shoal.sdk.dead list [--inbox NAME] [--json]
    python -m shoal.sdk.dead replay [--inbox NAME] [ID ...]
    python -m shoal.sdk.dead drop ID ...
    python -m shoal.sdk.dead unsubscribe --inbox NAME SUBJECT ...

`replay` publishes them again, and the inbox that failed takes them anew; `drop` forgets them. `unsubscribe` is for a
handler that was taken out of the code for good: its events would become dead letters.

In an app of Shoal: `shoal exec cart-service -- python -m shoal.sdk.dead list`. `ID` is the number in the first column.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import AsyncIterator, Sequence
from dataclasses import asdict, dataclass

import nats.errors
from nats.js.errors import NotFoundError

from shoal.sdk import streams
from shoal.sdk.events import Event, MalformedError


@dataclass(frozen=True, slots=True, kw_only=True)
class Letter:
    id: int
    inbox: str
    subject: str
    event_id: str
    error: str
    data: bytes

    def to_json(self) -> dict[str, object]:
        return asdict(self) | {"data": self.data.decode("utf-8", "replace")}


async def letters(broker: streams.Streams, inbox: str | None = None) -> AsyncIterator[Letter]:
    """All, or those of one inbox, the oldest first. They stay where they are."""
    at = 0
    while True:
        try:
            found = await broker.js.get_msg(streams.DEAD, seq=at + 1, subject=f"dead.{inbox or '*'}", next=True)
        except NotFoundError:
            return
        assert found.seq is not None and found.subject is not None
        at = found.seq
        headers = found.headers or {}
        data = found.data or b""
        try:
            event_id = Event.from_json(data).id
        except MalformedError:
            event_id = ""
        yield Letter(
            id=at,
            inbox=found.subject.removeprefix("dead."),
            subject=headers.get("Shoal-Subject", ""),
            event_id=event_id,
            error=headers.get("Shoal-Error", ""),
            data=data,
        )


async def replay(broker: streams.Streams, letter: Letter) -> None:
    """Published first, removed then: it may come twice and is never lost. Whoever has applied it applies it no more."""
    await broker.js.publish(letter.subject, letter.data, stream=streams.EVENTS)
    await drop(broker, letter)


async def drop(broker: streams.Streams, letter: Letter) -> None:
    await broker.js.delete_msg(streams.DEAD, letter.id)


async def unsubscribe(broker: streams.Streams, inbox: str, subjects: Sequence[str]) -> list[str]:
    """What the inbox is still sent. NotFoundError: there is no such inbox. ValueError: nothing would be left."""
    config = (await broker.js.consumer_info(streams.EVENTS, inbox)).config
    left = [subject for subject in streams.subjects(config) if subject not in subjects]
    if not left:
        raise ValueError(f"{inbox} would be sent nothing any more")
    config.filter_subject, config.filter_subjects = None, left
    await broker.js.add_consumer(streams.EVENTS, config)
    return left


async def _run(arguments: argparse.Namespace) -> int:
    async with streams.connected(streams.nats_url(None), "dead letters") as broker:
        if arguments.what == "unsubscribe":
            try:
                left = await unsubscribe(broker, arguments.inbox, arguments.ids)
            except NotFoundError:
                print(f"there is no inbox {arguments.inbox}", file=sys.stderr)
                return 1
            except ValueError as error:
                print(error, file=sys.stderr)
                return 1
            print(f"{arguments.inbox} is sent {', '.join(left)}")
            return 0
        found = [letter async for letter in letters(broker, arguments.inbox)]
        if arguments.what == "list":
            _show(found, as_json=arguments.json)
            return 0
        wanted = set(map(int, arguments.ids))
        missing = wanted - {letter.id for letter in found}
        if missing:
            print(f"there is no dead letter {', '.join(map(str, sorted(missing)))}", file=sys.stderr)
            return 1
        chosen = [letter for letter in found if not wanted or letter.id in wanted]
        for letter in chosen:
            await (replay if arguments.what == "replay" else drop)(broker, letter)
        print(f"{'replayed' if arguments.what == 'replay' else 'dropped'} {len(chosen)}")
        return 0


def _show(found: Sequence[Letter], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps([letter.to_json() for letter in found], indent=2))
        return
    if not found:
        print("no dead letters")
    for letter in found:
        print(f"{letter.id:>5}  {letter.inbox:<20} {letter.subject:<44} {letter.error}")


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0 done, 1 no such letter or no NATS, 2 wrong usage."""
    parser = argparse.ArgumentParser(prog="python -m shoal.sdk.dead", description="Dead letters of this app.")
    parser.add_argument("what", choices=["list", "replay", "drop", "unsubscribe"])
    parser.add_argument("ids", nargs="*", metavar="ID")
    parser.add_argument("--inbox", metavar="NAME")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args(argv)
    if arguments.what == "drop" and not arguments.ids:
        parser.error("say which: drop ID ... (replay publishes them again)")
    if arguments.what == "unsubscribe" and not (arguments.inbox and arguments.ids):
        parser.error("say of which inbox, and what: unsubscribe --inbox NAME events.SERVICE.TYPE")
    if arguments.what != "unsubscribe" and not all(word.isdigit() for word in arguments.ids):
        parser.error("an ID is a number, the first column of 'list'")
    if not streams.nats_url(None):
        print(
            "NATS_URL is not set; run it inside a service: shoal exec SERVICE -- python -m shoal.sdk.dead list",
            file=sys.stderr,
        )
        return 1
    try:
        return asyncio.run(_run(arguments))
    except (OSError, nats.errors.Error) as error:
        print(f"NATS does not answer: {error or type(error).__name__}; see: shoal status", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
