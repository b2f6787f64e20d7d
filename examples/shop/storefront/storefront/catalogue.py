"""`/`: the goods, a search, pages. `/item/{id}`: one of them. `/art/...`: what they look like."""

from __future__ import annotations

import asyncio
from urllib.parse import urlencode

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from storefront import art, browser
from storefront.page import AWAY, basket_or_none, render, services
from storefront.services import AwayError, RefusedError

ON_A_PAGE = 24
LONGEST_SEARCH = 100


async def goods(request: Request) -> Response:
    search = request.query_params.get("search", "").replace("\0", "").strip()[:LONGEST_SEARCH]
    page = browser.number(request.query_params.get("page", ""), default=1, most=100_000)
    found, cart = await asyncio.gather(
        services(request).products(search, page, ON_A_PAGE), basket_or_none(request), return_exceptions=True
    )
    if isinstance(cart, BaseException):
        raise cart
    if isinstance(found, AwayError):
        return render(request, "goods.html", cart=cart, search=search, found=None, trouble=AWAY[found.service])
    if isinstance(found, BaseException):
        raise found
    pages = max(1, -(-found.total // ON_A_PAGE))
    return render(
        request,
        "goods.html",
        cart=cart,
        search=search,
        found=found,
        pages=pages,
        older=address(search, page - 1) if page > 1 else "",
        newer=address(search, page + 1) if page < pages else "",
    )


def address(search: str, page: int) -> str:
    query = ({"search": search} if search else {}) | ({"page": page} if page > 1 else {})
    return f"/?{urlencode(query)}" if query else "/"


async def item(request: Request) -> Response:
    product_id = request.path_params["product_id"]
    if not 1 <= product_id <= browser.LARGEST:
        raise HTTPException(404)
    found, cart = await asyncio.gather(
        services(request).product(product_id), basket_or_none(request), return_exceptions=True
    )
    if isinstance(cart, BaseException):
        raise cart
    if isinstance(found, AwayError):
        return render(request, "item.html", cart=cart, product=None, trouble=AWAY[found.service])
    if isinstance(found, RefusedError):
        raise HTTPException(404)
    if isinstance(found, BaseException):
        raise found
    return render(request, "item.html", cart=cart, product=found)


async def picture(request: Request) -> Response:
    drawn = art.draw(request.path_params["name"])
    if drawn is None:
        raise HTTPException(404)
    return Response(drawn, media_type="image/svg+xml", headers={"Cache-Control": "public, max-age=86400"})
