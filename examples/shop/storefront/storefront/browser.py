"""What a browser sends, and what it is told to keep."""

from __future__ import annotations

import re
from urllib.parse import parse_qs, urlencode

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

SESSION = "session"
CART = "cart"
LONGEST_FORM = 20_000
CART_KEPT_S = 30 * 24 * 3600
LARGEST = 2**31 - 1
"""What an id, a page or a quantity can be; greater ones are nobody's."""


async def form(request: Request) -> dict[str, str]:
    """The fields of a form of ours; of a name that stands there twice, the last. HTTPException: it is from elsewhere,
    or too long."""
    if not of_this_site(request):
        raise HTTPException(403)
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > LONGEST_FORM:
            raise HTTPException(413)
    try:
        fields = parse_qs(body.decode(errors="replace"), keep_blank_values=True, max_num_fields=50)
    except ValueError:
        raise HTTPException(400) from None
    last = {name: values[-1].replace("\0", "") for name, values in fields.items()}
    return {name: value if name == "password" else value.strip() for name, value in last.items()}


def of_this_site(request: Request) -> bool:
    """Whether no other site made the browser send this. The cookies are SameSite=Lax, which keeps other sites' forms
    out already, though not those of another port of the same host. What is no browser says neither, and has no cookies
    that were not its own to send."""
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        return site in ("same-origin", "none")
    origin = request.headers.get("origin")
    return origin is None or origin.partition("://")[2] == request.headers.get("host")


def number(text: str, *, default: int, most: int = LARGEST) -> int:
    """A whole number from 1 to `most`; what is none is `default`."""
    if not text.isascii() or not text.isdigit() or len(text) > 10:
        return default
    return min(int(text), most) or default


def own_path(text: str) -> str:
    """Where to go on after signing in: a path of this site, else the start."""
    well = text.startswith("/") and not text.startswith(("//", "/\\")) and text.isprintable()
    return text if well else "/"


def session(request: Request) -> str:
    """What can stand in a header; empty: nobody is signed in."""
    token = request.cookies.get(SESSION, "")
    return token if re.fullmatch("[!-~]{1,4000}", token) else ""


def cart_id(request: Request) -> str:
    return request.cookies.get(CART, "")


def go(path: str) -> RedirectResponse:
    """After a form: the browser asks for a page, so that a reload sends nothing again."""
    return RedirectResponse(path, status_code=303)


def sign_in_first(then: str, note: str = "") -> RedirectResponse:
    return go(f"/sign-in?{urlencode({'next': then} | ({'note': note} if note else {}), safe='/')}")


def keep(response: Response, request: Request, name: str, value: str, for_s: int) -> None:
    https = request.headers.get("x-forwarded-proto", request.url.scheme) == "https"
    response.set_cookie(name, value, max_age=for_s, path="/", httponly=True, samesite="lax", secure=https)


def forget(response: Response, *names: str) -> None:
    for name in names:
        response.delete_cookie(name, path="/", httponly=True, samesite="lax")
