"""`/basket`, `/checkout` and `/thanks/{order_id}`."""

from __future__ import annotations

import uuid

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from storefront import browser
from storefront.page import AWAY, basket, basket_or_none, render, services
from storefront.services import AwayError, Cart, RefusedError

MOST = 1000
"""Of one product in a basket."""
LONGEST_ADDRESS = 500


async def show_basket(request: Request) -> Response:
    try:
        return render(request, "basket.html", cart=await basket(request), away=False)
    except AwayError as error:
        return render(request, "basket.html", away=True, trouble=AWAY[error.service])


async def add(request: Request) -> Response:
    fields = await browser.form(request)
    product_id = browser.number(fields.get("product_id", ""), default=0)
    quantity = browser.number(fields.get("quantity", ""), default=1, most=MOST)
    try:
        cart = await added(request, product_id, quantity)
    except AwayError as error:
        return render(request, "basket.html", away=True, trouble=AWAY[error.service])
    except RefusedError as error:
        trouble = "We do not have this any more." if error.status == 404 else error.detail
        return render(request, "basket.html", cart=await basket_or_none(request), away=False, trouble=trouble)
    response = browser.go("/basket?note=added")
    browser.keep(response, request, browser.CART, cart.id, browser.CART_KEPT_S)
    return response


async def added(request: Request, product_id: int, quantity: int) -> Cart:
    """The cart with the product in it: the visitor's own, or a new one. Raises AwayError and RefusedError."""
    token, ours = browser.session(request), services(request)
    if await basket(request) is not None:
        return await ours.add(browser.cart_id(request), product_id, quantity, token)
    return await ours.add((await ours.new_cart(token)).id, product_id, quantity, token)


async def change(request: Request) -> Response:
    """`quantity` of one line; 0, or the button `remove`, takes it out."""
    fields = await browser.form(request)
    product_id = browser.number(fields.get("product_id", ""), default=0)
    quantity = 0 if "remove" in fields else browser.number(fields.get("quantity", ""), default=0, most=MOST)
    ours, token = services(request), browser.session(request)
    try:
        if quantity:
            await ours.change(browser.cart_id(request), product_id, quantity, token)
        else:
            await ours.remove(browser.cart_id(request), product_id, token)
    except AwayError as error:
        cart = await basket_or_none(request)
        return render(request, "basket.html", cart=cart, away=cart is None, trouble=AWAY[error.service])
    except RefusedError:
        pass  # the basket shows how it is now
    return browser.go("/basket")


async def show_checkout(request: Request) -> Response:
    if not browser.session(request):
        return browser.sign_in_first("/checkout")
    try:
        cart = await basket(request)
    except AwayError as error:
        return render(request, "basket.html", away=True, trouble=AWAY[error.service])
    if cart is None or not cart.items:
        return browser.go("/basket")
    return checkout_page(request, cart)


def checkout_page(request: Request, cart: Cart, *, trouble: str = "", ship_to: str = "") -> Response:
    """Each form has a key of its own: sent twice, by an impatient hand or by Envoy, it is charged once."""
    return render(request, "checkout.html", cart=cart, key=str(uuid.uuid4()), ship_to=ship_to, trouble=trouble)


async def check_out(request: Request) -> Response:
    fields = await browser.form(request)
    ship_to = fields.get("ship_to", "").replace("\r\n", "\n")[:LONGEST_ADDRESS]
    key = uuid_or_new(fields.get("key", ""))
    cart_id, token = browser.cart_id(request), browser.session(request)
    if not token:
        return browser.sign_in_first("/checkout")
    if not cart_id:
        return browser.go("/basket")
    if not ship_to:
        trouble = "Please say where it should go."
    else:
        try:
            order = await services(request).check_out(cart_id, ship_to, token, key)
            response = browser.go(f"/thanks/{order.id}")
            browser.forget(response, browser.CART)
            return response
        except AwayError:
            # The same key and address again, whatever became of the basket: what went through in spite of the silence
            # is found, and not bought twice.
            return render(request, "again.html", key=key, ship_to=ship_to)
        except RefusedError as error:
            if error.status == 401:
                return expired("/checkout")
            trouble = refusal(error)
    cart = await basket_or_none(request)
    if cart is None or not cart.items:
        return render(request, "basket.html", cart=cart, away=cart is None, trouble=trouble)
    return checkout_page(request, cart, trouble=trouble, ship_to=ship_to)


def uuid_or_new(text: str) -> str:
    try:
        return str(uuid.UUID(text))
    except ValueError:
        return str(uuid.uuid4())


def refusal(error: RefusedError) -> str:
    if error.kind == "out-of-stock":
        return f"Someone was faster: {error.detail or 'not all of it is in stock any more'}"
    if error.status == 409:
        return "This basket has been ordered already. You find the order in your account."
    return "That did not work. Please look at your basket and try once more."


async def thanks(request: Request) -> Response:
    token = browser.session(request)
    if not token:
        return browser.sign_in_first(request.url.path)
    cart = await basket_or_none(request)
    try:
        order = await services(request).order(request.path_params["order_id"], token)
    except AwayError as error:
        return render(request, "thanks.html", cart=cart, order=None, trouble=AWAY[error.service])
    except RefusedError as error:
        if error.status == 401:
            return expired(request.url.path)
        raise HTTPException(404) from error
    return render(request, "thanks.html", cart=cart, order=order)


def expired(path: str) -> Response:
    """The session is over: sign in, and go on from there."""
    response = browser.sign_in_first(path, "expired")
    browser.forget(response, browser.SESSION)
    return response
