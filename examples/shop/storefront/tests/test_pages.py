"""The pages, over services in memory. Needs `requirements.txt`, pytest, and `shoal.sdk` on the path."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from urllib.parse import quote
from xml.etree import ElementTree

import httpx
import pytest
from fakes import FakeServices
from storefront import art, browser
from storefront.app import app, make_app

ADA = {"name": "Ada", "email": "ada@example.org", "password": "correct horse"}
Walk = Callable[[httpx.AsyncClient, FakeServices], Awaitable[None]]


def visit(walk: Walk, *, products: int = 60) -> None:
    """Runs it with a browser's cookies; redirects are followed."""

    async def run() -> None:
        fake = FakeServices(products)
        made = make_app(fake.transport())
        async with made.router.lifespan_context(made):
            inside = httpx.ASGITransport(made)
            async with httpx.AsyncClient(transport=inside, base_url="http://shop", follow_redirects=True) as client:
                await walk(client, fake)

    asyncio.run(run())


def names(html: str) -> list[str]:
    return re.findall(r'class="name"[^>]*>([^<]+)<', html)


async def bought(client: httpx.AsyncClient, product_id: int = 7, quantity: int = 2) -> httpx.Response:
    return await client.post("/basket", data={"product_id": product_id, "quantity": quantity})


def test_the_goods_come_in_pages_and_can_be_searched() -> None:
    async def walk(client: httpx.AsyncClient, fake: FakeServices) -> None:
        first, third = (await client.get("/")).text, (await client.get("/?page=3")).text
        assert (len(names(first)), len(names(third))) == (24, 12)
        assert "Page 1 of 3" in first and 'rel="next"' in first and 'rel="prev"' not in first
        assert 'rel="prev"' in third and 'rel="next"' not in third
        found = (await client.get("/", params={"search": "teapot"})).text
        assert len(names(found)) == 6 and all("teapot" in name for name in names(found))
        assert "nothing of that name" in (await client.get("/?search=caravel")).text

    visit(walk)


@pytest.mark.parametrize("page", ["0", "-1", "x", "9" * 40, "٣", "\0"])
def test_a_page_that_is_none_is_the_first_or_an_empty_one(page: str) -> None:
    async def walk(client: httpx.AsyncClient, fake: FakeServices) -> None:
        assert (await client.get("/", params={"page": page, "search": "\0"})).status_code == 200

    visit(walk)


def test_what_people_write_is_escaped() -> None:
    async def walk(client: httpx.AsyncClient, fake: FakeServices) -> None:
        fake.products[7]["name"] = fake.products[7]["description"] = "<script>alert(1)</script>"
        await bought(client)
        for path in ("/", "/?search=<script>", "/item/7", "/basket", "/sign-in?next=/%22><script>", "/?note=<script>"):
            assert "<script" not in (await client.get(path)).text, path

    visit(walk)


def test_a_customer_signs_up_buys_finds_the_order_and_leaves() -> None:
    async def walk(client: httpx.AsyncClient, fake: FakeServices) -> None:
        assert "Your basket is empty" in (await client.get("/basket")).text
        assert "It is in your basket" in (await bought(client)).text
        await bought(client, product_id=21, quantity=1)
        changed = await client.post("/basket/change", data={"product_id": 7, "quantity": 3})
        assert 'value="3"' in changed.text and 'aria-label="4 in it"' in changed.text
        removed = await client.post("/basket/change", data={"product_id": 21, "quantity": 1, "remove": 1})
        assert 'aria-label="3 in it"' in removed.text

        asked = await client.get("/checkout")
        assert asked.url.path == "/sign-in" and 'value="/checkout"' in asked.text
        form = await client.post("/sign-up", data=ADA | {"next": "/checkout"})
        assert form.url.path == "/checkout"
        key = field(form, "key")
        thanks = await client.post("/checkout", data={"ship_to": "Harbour 1\r\nPort", "key": key})
        assert thanks.url.path.startswith("/thanks/") and "Harbour 1" in thanks.text
        assert "Your basket is empty" in (await client.get("/basket")).text

        account = (await client.get("/account")).text
        assert "Paid" in account and names(account) == [fake.products[7]["name"]]
        refused = await client.post("/account/delete", data={"password": "wrong"})
        assert "password is not right" in refused.text and fake.users
        gone = await client.post("/account/delete", data={"password": ADA["password"]})
        assert "Your account is deleted" in gone.text and not fake.users
        assert not client.cookies

    visit(walk)


def field(page: httpx.Response, name: str) -> str:
    found = re.search(rf'name="{name}" value="([^"]*)"', page.text)
    assert found, page.text
    return found[1]


def test_a_checkout_that_was_sent_twice_is_charged_once() -> None:
    async def walk(client: httpx.AsyncClient, fake: FakeServices) -> None:
        await client.post("/sign-up", data=ADA)
        await bought(client)
        cart = client.cookies["cart"]
        paid = {"ship_to": "Harbour 1", "key": field(await client.get("/checkout"), "key")}
        first = await client.post("/checkout", data=paid)
        client.cookies.set("cart", cart, domain="shop.local")
        second = await client.post("/checkout", data=paid)
        assert first.url == second.url
        assert fake.charged == [cart]

    visit(walk)


def test_a_checkout_says_what_is_sold_out_and_keeps_the_basket_and_the_address() -> None:
    async def walk(client: httpx.AsyncClient, fake: FakeServices) -> None:
        await client.post("/sign-up", data=ADA)
        await bought(client)
        fake.products[7]["stock"] = 1
        form = await client.get("/checkout")
        answer = await client.post("/checkout", data={"ship_to": "Harbour 1", "key": field(form, "key")})
        assert answer.status_code == 200
        assert "Someone was faster" in answer.text and fake.products[7]["name"] in answer.text
        assert ">Harbour 1</textarea>" in answer.text
        assert field(answer, "key") != field(form, "key"), "the same key would get the same refusal"
        assert not fake.charged

    visit(walk)


def test_a_checkout_nobody_answered_is_tried_again_with_the_same_key() -> None:
    async def walk(client: httpx.AsyncClient, fake: FakeServices) -> None:
        await client.post("/sign-up", data=ADA)
        await bought(client)
        key = field(await client.get("/checkout"), "key")
        fake.silent = True
        lost = await client.post("/checkout", data={"ship_to": "Harbour 1", "key": key})
        fake.silent = False
        assert field(lost, "key") == key and ">Harbour 1</textarea>" in lost.text
        again = await client.post("/checkout", data={"ship_to": "Harbour 1", "key": key})
        assert again.url.path.startswith("/thanks/")
        assert len(fake.charged) == 1

    visit(walk)


AWAY = {
    "product-service": {"/": "catalogue is taking a short break", "/item/7": "catalogue is taking a short break"},
    "cart-service": {"/basket": "taking a short break", "/account": "taking a short break"},
    "user-service": {"/account": "not possible at the moment"},
}


@pytest.mark.parametrize("service", AWAY)
def test_a_service_that_is_away_is_said_in_calm_words(service: str) -> None:
    async def walk(client: httpx.AsyncClient, fake: FakeServices) -> None:
        await client.post("/sign-up", data=ADA)
        await bought(client)
        fake.away = {service}
        for path in ("/", "/item/7", "/basket", "/account", "/checkout", "/sign-in", "/sign-up"):
            answer = await client.get(path)
            assert answer.status_code == 200, "a 5xx of the storefront would put the storefront aside"
            assert AWAY[service].get(path, "") in answer.text, path
        if service == "product-service":
            assert names(basket := (await client.get("/basket")).text), "the basket needs no catalogue"
            assert "short break" not in basket
        for path, data in (
            ("/basket", {"product_id": 7}),
            ("/sign-in", ADA),
            ("/sign-up", ADA),
            ("/checkout", {"ship_to": "x"}),
        ):
            assert (await client.post(path, data=data)).status_code == 200, path

    visit(walk)


def test_an_answer_that_is_no_answer_is_as_good_as_none() -> None:
    async def walk(client: httpx.AsyncClient, fake: FakeServices) -> None:
        del fake.products[1]["price_minor"]
        assert "short break" in (await client.get("/")).text

    visit(walk)


def test_a_session_that_is_over_leads_to_the_way_in_and_on() -> None:
    async def walk(client: httpx.AsyncClient, fake: FakeServices) -> None:
        await client.post("/sign-up", data=ADA)
        fake.users[ADA["email"]]["token"] = "another"
        answer = await client.get("/account")
        assert answer.url.path == "/sign-in" and "signed out after an hour" in answer.text
        back = await client.post("/sign-in", data=ADA | {"next": field(answer, "next")})
        assert back.url.path == "/account"
        out = await client.post("/sign-out")
        assert "You are signed out" in out.text and "session" not in client.cookies

    visit(walk)


def test_signing_up_and_in_say_what_is_wrong_and_keep_what_was_written() -> None:
    async def walk(client: httpx.AsyncClient, fake: FakeServices) -> None:
        short = await client.post("/sign-up", data=ADA | {"password": "short"})
        assert "8 characters or more" in short.text and field(short, "email") == ADA["email"]
        await client.post("/sign-up", data=ADA)
        assert "an account with this address already" in (await client.post("/sign-up", data=ADA)).text
        wrong = await client.post("/sign-in", data=ADA | {"password": "wrong horse"})
        assert "address or the password is not right" in wrong.text
        assert ADA["password"] not in short.text + wrong.text

    visit(walk)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"sec-fetch-site": "same-site"}, 403),
        ({"origin": "http://shop:9"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": "http://shop"}, 303),
        ({"sec-fetch-site": "same-origin"}, 303),
        ({}, 303),
    ],
)
def test_a_form_of_another_site_changes_nothing(headers: dict[str, str], status: int) -> None:
    async def walk(client: httpx.AsyncClient, fake: FakeServices) -> None:
        await client.post("/sign-up", data=ADA)
        data = {"password": ADA["password"]}
        answer = await client.post("/account/delete", data=data, headers=headers, follow_redirects=False)
        assert answer.status_code == status
        assert bool(fake.users) == (status == 403)

    visit(walk)


def test_cookies_are_for_this_site_alone_and_pages_run_no_scripts() -> None:
    async def walk(client: httpx.AsyncClient, fake: FakeServices) -> None:
        https = {"x-forwarded-proto": "https"}
        answer = await client.post("/sign-up", data=ADA, headers=https, follow_redirects=False)
        [cookie] = answer.headers.get_list("set-cookie")
        assert cookie.startswith("session=")
        for words in ("HttpOnly", "SameSite=lax", "Secure", "Max-Age=3600"):
            assert words in cookie
        assert "default-src 'none'" in (await client.get("/")).headers["content-security-policy"]

    visit(walk)


@pytest.mark.parametrize(
    "path",
    [
        "/nowhere",
        "/item/0",
        "/item/99999",
        "/item/99999999999",
        "/item/x",
        "/art/x.svg",
        "/art/mug.svg",
        "/art/mug.x.svg",
    ],
)
def test_what_does_not_exist_is_a_page_too(path: str) -> None:
    async def walk(client: httpx.AsyncClient, fake: FakeServices) -> None:
        answer = await client.get(path)
        assert answer.status_code == 404 and "There is no such page" in answer.text

    visit(walk)


ODD = [
    "",
    "\0",
    "é",
    "a b",
    "\r\nx: y",
    "-1",
    "0",
    "1.5",
    "9" * 40,
    "//[",
    "x" * 3000,
    "' OR 1=1",
    "%00",
    "%s",
    "\ufffd",
]
FIELDS = ["product_id", "quantity", "next", "name", "email", "password", "key", "ship_to", "search", "page", "note"]


@pytest.mark.parametrize("odd", ODD)
def test_nothing_that_is_sent_makes_the_storefront_fail(odd: str) -> None:
    async def walk(client: httpx.AsyncClient, fake: FakeServices) -> None:
        await client.post("/sign-up", data=ADA)
        await bought(client)
        # In double quotes a cookie may hold a line break, and what is not ASCII, as octal numbers.
        octal = "".join(f"\\{byte:03o}" for byte in odd.encode())
        cookie = f'session="{octal}"; cart="{octal}"'
        fields = dict.fromkeys(FIELDS, odd)
        for route in app.routes:
            path = re.sub("{[^}]*}", "7", getattr(route, "path", "/"))
            for headers in ({}, {"cookie": cookie}, {"origin": quote(odd)}):
                for method in ("GET", "POST"):
                    answer = await client.request(
                        method, path, params=fields, data=fields if method == "POST" else None, headers=headers
                    )
                    assert answer.status_code < 500, (method, path)

    visit(walk)


def test_too_many_fields_and_too_long_forms_are_refused() -> None:
    async def walk(client: httpx.AsyncClient, fake: FakeServices) -> None:
        assert (await client.post("/sign-in", data={str(n): "x" for n in range(60)})).status_code == 400
        assert (await client.post("/sign-in", data={"email": "x" * 30_000})).status_code == 413

    visit(walk)


def test_an_order_of_somebody_else_is_no_page() -> None:
    async def walk(client: httpx.AsyncClient, fake: FakeServices) -> None:
        await client.post("/sign-up", data=ADA)
        for order in ("5e0c3c0e-7f57-4a59-9e0f-0d1f1f3a7b11", "..%2F..%2Fusers%2Fme", "x"):
            assert (await client.get(f"/thanks/{order}")).status_code == 404

    visit(walk)


def test_a_basket_that_is_gone_is_replaced_by_a_new_one() -> None:
    async def walk(client: httpx.AsyncClient, fake: FakeServices) -> None:
        await bought(client)
        fake.carts.clear()
        assert "Your basket is empty" in (await client.get("/basket")).text
        assert "It is in your basket" in (await bought(client)).text
        assert "We do not have this any more" in (await bought(client, product_id=12345)).text
        assert (await bought(client, product_id=0)).status_code == 200

    visit(walk)


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("/checkout", "/checkout"),
        ("/?page=2", "/?page=2"),
        ("https://evil.example", "/"),
        ("//evil.example", "/"),
        ("/\\evil.example", "/"),
        ("/\tx", "/"),
        ("", "/"),
    ],
)
def test_after_signing_in_one_stays_on_this_site(text: str, path: str) -> None:
    assert browser.own_path(text) == path


@pytest.mark.parametrize(
    ("name", "address"),
    [
        ("Harbour mug", "/art/mug.harbour.svg"),
        ("Ember waste-paper basket", "/art/waste-paper-basket.ember.svg"),
        ("Chalk set of coasters", "/art/coasters.chalk.svg"),
        ("Tin mug, large", "/art/mug.dune.svg"),
        ("Gerät", "/art/parcel.dune.svg"),
        ("", "/art/parcel.dune.svg"),
    ],
)
def test_a_picture_is_of_what_the_name_says(name: str, address: str) -> None:
    assert art.address(name, 2) == address


def test_pictures_are_svg_in_the_colours_of_their_make() -> None:
    for picture in art.PICTURES:
        for make, palette in art.PALETTES.items():
            drawn = art.draw(f"{picture}.{make}.svg")
            assert drawn is not None
            ElementTree.fromstring(drawn)
            assert set(re.findall("#[0-9a-f]+", drawn)) <= set(palette), picture


def test_it_is_ready_whoever_else_is_away() -> None:
    async def walk(client: httpx.AsyncClient, fake: FakeServices) -> None:
        fake.away = {"user-service", "product-service", "cart-service"}
        for path in ("/healthz", "/readyz", "/static/shop.css", "/static/mark.svg"):
            assert (await client.get(path)).status_code == 200

    visit(walk)
