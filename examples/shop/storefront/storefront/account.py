"""`/sign-up`, `/sign-in`, `/sign-out` and `/account`."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from storefront import browser
from storefront.buying import expired
from storefront.page import AWAY, basket_or_none, render, services
from storefront.services import AwayError, RefusedError

SHORTEST_PASSWORD = 8
ORDERED = ("pending", "paid")
"""What is shown of orders: a checkout that was called off is none."""


async def show_sign_up(request: Request) -> Response:
    return await entrance(request, "sign-up.html", request.query_params.get("next", "/"))


async def show_sign_in(request: Request) -> Response:
    return await entrance(request, "sign-in.html", request.query_params.get("next", "/"))


async def entrance(request: Request, template: str, then: str, *, trouble: str = "", **fields: str) -> Response:
    values = {"name": "", "email": ""} | fields
    cart = await basket_or_none(request)
    return render(request, template, cart=cart, then=browser.own_path(then), trouble=trouble, **values)


async def sign_up(request: Request) -> Response:
    fields = await browser.form(request)
    name, email, password = (fields.get(field, "") for field in ("name", "email", "password"))
    try:
        await services(request).register(name, email, password)
        return await let_in(request, email, password, then=fields.get("next", "/"), note="welcome")
    except AwayError as error:
        trouble = AWAY[error.service]
    except RefusedError as error:
        trouble = why_not_registered(error, name, email, password)
    return await entrance(request, "sign-up.html", fields.get("next", "/"), trouble=trouble, name=name, email=email)


def why_not_registered(error: RefusedError, name: str, email: str, password: str) -> str:
    if error.status == 409:
        return "There is an account with this address already. Sign in instead?"
    if not name:
        return "Please tell us your name."
    if "@" not in email:
        return "This is no e-mail address."
    if len(password) < SHORTEST_PASSWORD:
        return f"A password needs {SHORTEST_PASSWORD} characters or more."
    return "We cannot make an account of this. Please look at the name and the address again."


async def sign_in(request: Request) -> Response:
    fields = await browser.form(request)
    email, password = fields.get("email", ""), fields.get("password", "")
    try:
        return await let_in(request, email, password, then=fields.get("next", "/"))
    except AwayError as error:
        trouble = AWAY[error.service]
    except RefusedError:
        trouble = "The address or the password is not right."
    return await entrance(request, "sign-in.html", fields.get("next", "/"), trouble=trouble, email=email)


async def let_in(request: Request, email: str, password: str, *, then: str, note: str = "") -> Response:
    token = await services(request).log_in(email, password)
    path = browser.own_path(then)
    response = browser.go(f"{path}{'&' if '?' in path else '?'}note={note}" if note else path)
    browser.keep(response, request, browser.SESSION, token.token, token.expires_in_s)
    return response


async def sign_out(request: Request) -> Response:
    await browser.form(request)
    response = browser.go("/?note=signed-out")
    browser.forget(response, browser.SESSION, browser.CART)
    return response


async def show_account(request: Request) -> Response:
    return await account_page(request)


async def account_page(request: Request, trouble: str = "") -> Response:
    token, ours = browser.session(request), services(request)
    if not token:
        return browser.sign_in_first("/account")
    user, orders, cart = None, None, await basket_or_none(request)
    try:
        user = await ours.me(token)
        orders = [order for order in await ours.orders(token) if order.status in ORDERED]
    except RefusedError as error:
        if error.status != 401:
            raise
        return expired("/account")
    except AwayError as error:
        trouble = trouble or AWAY[error.service]
    return render(request, "account.html", cart=cart, user=user, orders=orders, trouble=trouble)


async def delete_account(request: Request) -> Response:
    fields = await browser.form(request)
    token = browser.session(request)
    if not token:
        return browser.sign_in_first("/account")
    try:
        await services(request).delete_me(token, fields.get("password", ""))
    except AwayError as error:
        return await account_page(request, AWAY[error.service])
    except RefusedError as error:
        if error.status == 401:
            return expired("/account")
        return await account_page(request, "The password is not right. Your account is as it was.")
    response = browser.go("/?note=goodbye")
    browser.forget(response, browser.SESSION, browser.CART)
    return response
