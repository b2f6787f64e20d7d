"""Is it ASGI or WSGI? Found by looking at the object; nothing is called."""

from __future__ import annotations

import functools
import inspect
from types import ModuleType

from .failures import EXIT_NOT_AN_APP, CannotServeError

ASGI = "asgi"
WSGI = "wsgi"


def interface_of(application: object, target: str) -> str:
    """ASGI or WSGI. Raises CannotServeError that says what the object is instead."""
    if inspect.isclass(application):
        return _of_class(application, target)
    if not callable(application):
        raise _no(target, _describe(application))
    function = _function_of(application)
    if inspect.iscoroutinefunction(function):
        return _of_coroutine_function(application, target)
    parameters = _positional(application)
    if parameters is None:
        raise _no(
            target,
            "takes any arguments, so that nobody can tell ASGI from WSGI; "
            "give it (scope, receive, send) or (environ, start_response)",
        )
    if len(parameters) == 3:
        return ASGI  # a plain function that gives back a coroutine, as many middlewares do
    if len(parameters) == 2:
        return WSGI
    raise _no(target, _misfit(parameters))


def _of_class(application: type, target: str) -> str:
    parameters = _positional(application)
    if parameters is not None and len(parameters) == 3 and hasattr(application, "__await__"):
        return ASGI
    if parameters is not None and len(parameters) == 2 and hasattr(application, "__iter__"):
        return WSGI  # as in PEP 3333: the instance is the response
    if parameters == ["scope"]:
        raise _asgi2(target)
    module, _, attribute = target.partition(":")
    raise _no(
        target,
        f"is the class {application.__name__}; make an instance in {module}: app = {application.__name__}(...), "
        f"and name that instead of {attribute}",
    )


def _of_coroutine_function(application: object, target: str) -> str:
    parameters = _positional(application)
    if parameters is None or len(parameters) == 3:
        return ASGI
    if parameters == ["scope"]:
        raise _asgi2(target)
    raise _no(target, f"is a coroutine function, but {_misfit(parameters)}")


def _function_of(application: object) -> object:
    while isinstance(application, functools.partial):
        application = application.func
    if inspect.isroutine(application):
        return application
    return type(application).__call__ if callable(application) else application


def _positional(application: object) -> list[str] | None:
    """Names of the arguments that a caller must give by position; None: any number, or not to be found out."""
    assert callable(application)
    try:
        parameters = inspect.signature(application).parameters.values()
    except (TypeError, ValueError):
        return None
    if any(parameter.kind is parameter.VAR_POSITIONAL for parameter in parameters):
        return None
    by_position = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    required = [p.name for p in by_position if p.default is p.empty]
    names = [p.name for p in by_position]
    # `def app(environ, start_response=None)` is WSGI still.
    return names[:2] if len(required) < 2 <= len(names) and names[0] in ("environ", "env") else required


def _misfit(parameters: list[str]) -> str:
    if not parameters:
        return "takes no arguments: it looks like a factory; call it in the module (app = create_app()) and name that"
    if parameters == ["scope"]:
        return "looks like ASGI 2, which no server speaks any more; take (scope, receive, send)"
    return (
        f"takes ({', '.join(parameters)}); an ASGI application takes (scope, receive, send), "
        "a WSGI application (environ, start_response)"
    )


def _describe(application: object) -> str:
    if isinstance(application, ModuleType):
        return f"is the module {application.__name__}; name the application inside it"
    return f"is {application!r:.60}, a {type(application).__name__}, which nobody can call"


def _asgi2(target: str) -> CannotServeError:
    return _no(target, "is an ASGI 2 application; wrap it with asgiref.compatibility.guarantee_single_callable")


def _no(target: str, what: str) -> CannotServeError:
    return CannotServeError(EXIT_NOT_AN_APP, f"cannot serve {target}: it {what}")
