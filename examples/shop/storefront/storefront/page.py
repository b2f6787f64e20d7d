"""A page: a template with what all pages have, and words for when something is away."""

from __future__ import annotations

import hashlib
from datetime import datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import HTMLResponse

from storefront import art, browser
from storefront.services import AwayError, Cart, RefusedError, Services

HERE = Path(__file__).parent
STYLE = HERE / "static" / "shop.css"
AWAY = {
    "user-service": "Signing in is not possible at the moment. Please try again shortly.",
    "product-service": "The catalogue is taking a short break. Your basket is safe; please look in again in a moment.",
    "cart-service": "Baskets and orders are taking a short break. Nothing is lost; please try again in a moment.",
}
NOTES = {
    "added": "It is in your basket.",
    "welcome": "Welcome! Your account is ready.",
    "signed-out": "You are signed out.",
    "goodbye": "Your account is deleted, and what we knew of you with it.",
    "expired": "You were signed out after an hour. Please sign in again.",
}
"""What a page says after a redirect: the address names one, and can say nothing else."""
POLICY = (
    "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)


def services(request: Request) -> Services:
    found: Services = request.app.state.services
    return found


async def basket(request: Request) -> Cart | None:
    """The visitor's cart; None when there is none, or none that is still open. Raises AwayError."""
    if not browser.cart_id(request):
        return None
    try:
        cart = await services(request).cart(browser.cart_id(request), browser.session(request))
    except RefusedError:  # gone, or somebody's who has signed out
        return None
    return cart if cart.status == "open" else None


async def basket_or_none(request: Request) -> Cart | None:
    """For the number in the header, without which a page is a page too."""
    try:
        return await basket(request)
    except AwayError:
        return None


def render(
    request: Request, template: str, *, status: int = 200, cart: Cart | None = None, **values: Any
) -> HTMLResponse:
    """What is away makes no 5xx: Envoy puts a replica aside for those, and the storefront itself is well."""
    note = NOTES.get(request.query_params.get("note", ""), "")
    html = _templates.get_template(template).render(
        cart=cart,
        signed_in=bool(browser.session(request)),
        note=note,
        path=request.url.path,
        **({"trouble": ""} | values),
    )
    return HTMLResponse(html, status, headers={"Content-Security-Policy": POLICY, "Cache-Control": "private, no-cache"})


def money(minor: int) -> str:
    """`€1,234.50`."""
    return f"€{minor / 100:,.2f}"


def day(text: str) -> str:
    """`2026-05-01T10:00:00Z` as `1 May 2026`; what is no time, as it is."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return text
    return f"{moment.day} {moment:%B %Y}"


_templates = Environment(
    loader=FileSystemLoader(HERE / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_templates.filters |= {"money": money, "day": day}
_templates.globals |= {
    "art": art.address,
    "style": f"/static/shop.css?{hashlib.sha256(STYLE.read_bytes()).hexdigest()[:12]}",
}
