"""ASGI or WSGI, by looking."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import pytest

from shoal.runner import detection
from shoal.runner.failures import EXIT_NOT_AN_APP, CannotServeError

Start = Callable[..., object]


async def asgi(scope: Any, receive: Any, send: Any) -> None: ...


def wsgi(environ: Any, start_response: Start) -> Iterable[bytes]:
    return [b""]


def asgi_by_a_plain_function(scope: Any, receive: Any, send: Any) -> Awaitable[None]:
    return asgi(scope, receive, send)


def wsgi_with_a_default(environ: Any, start_response: Start | None = None) -> Iterable[bytes]:
    return [b""]


def wsgi_in_other_words(request: Any, start: Start) -> Iterable[bytes]:
    return [b""]


class AsgiInstance:
    async def __call__(self, scope: Any, receive: Any, send: Any) -> None: ...


class PlainAsgiInstance:
    def __call__(self, scope: Any, receive: Any, send: Any) -> Awaitable[None]:
        return asgi(scope, receive, send)


class WsgiInstance:
    def __call__(self, environ: Any, start_response: Start) -> Iterable[bytes]:
        return [b""]


class AsgiClass:
    def __init__(self, scope: Any, receive: Any, send: Any) -> None: ...

    def __await__(self) -> Any: ...


class WsgiClass:
    """As in PEP 3333."""

    def __init__(self, environ: Any, start_response: Start) -> None: ...

    def __iter__(self) -> Any: ...


class Methods:
    async def asgi(self, scope: Any, receive: Any, send: Any) -> None: ...

    def wsgi(self, environ: Any, start_response: Start) -> Iterable[bytes]:
        return [b""]


def decorated(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return wrapper


async def more_than_asgi(settings: Any, scope: Any, receive: Any, send: Any) -> None: ...


@pytest.mark.parametrize(
    ("application", "interface"),
    [
        (asgi, detection.ASGI),
        (asgi_by_a_plain_function, detection.ASGI),
        (AsgiInstance(), detection.ASGI),
        (PlainAsgiInstance(), detection.ASGI),
        (AsgiClass, detection.ASGI),
        (Methods().asgi, detection.ASGI),
        (decorated(asgi), detection.ASGI),
        (functools.partial(more_than_asgi, {}), detection.ASGI),
        (functools.partial(AsgiInstance()), detection.ASGI),
        (wsgi, detection.WSGI),
        (wsgi_with_a_default, detection.WSGI),
        (wsgi_in_other_words, detection.WSGI),
        (WsgiInstance(), detection.WSGI),
        (WsgiClass, detection.WSGI),
        (Methods().wsgi, detection.WSGI),
        (decorated(wsgi), detection.WSGI),
    ],
)
def test_an_application_is_told_by_its_shape(application: object, interface: str) -> None:
    assert detection.interface_of(application, "web:app") == interface


def factory() -> object:
    return asgi


async def async_factory() -> object:
    return asgi


class Asgi2:
    def __init__(self, scope: Any) -> None: ...

    async def __call__(self, receive: Any, send: Any) -> None: ...


def asgi2(scope: Any) -> object: ...


def anything(*args: Any, **kwargs: Any) -> object: ...


@pytest.mark.parametrize(
    ("application", "words"),
    [
        (factory, "looks like a factory; call it in the module (app = create_app())"),
        (async_factory, "looks like a factory"),
        (Asgi2, "ASGI 2"),
        (asgi2, "ASGI 2"),
        (AsgiInstance, "is the class AsgiInstance; make an instance in web: app = AsgiInstance(...)"),
        (WsgiInstance, "is the class WsgiInstance"),
        (anything, "nobody can tell ASGI from WSGI"),
        (functools, "is the module functools; name the application inside it"),
        (None, "is None, a NoneType"),
        ("app", "is 'app', a str"),
        (lambda a, b, c, d: None, "takes (a, b, c, d); an ASGI application takes (scope, receive, send)"),
        (lambda request: None, "takes (request)"),
    ],
)
def test_what_is_no_application_is_said_in_words(application: object, words: str) -> None:
    with pytest.raises(CannotServeError) as caught:
        detection.interface_of(application, "web:app")
    assert caught.value.exit_code == EXIT_NOT_AN_APP
    assert caught.value.message.startswith("cannot serve web:app: it ")
    assert words in caught.value.message


def test_nothing_is_called_to_find_out() -> None:
    def app(environ: Any, start_response: Start) -> Iterable[bytes]:
        raise AssertionError("called")

    assert detection.interface_of(app, "web:app") == detection.WSGI
