"""A customer of the example shop, in a real browser: Debian's Chromium, led by Playwright."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from playwright.sync_api import Page, Request, expect, sync_playwright

SIZES = {"wide": (1280, 800), "narrow": (390, 844)}
PASSWORD = "correct horse"


@dataclass
class Shopper:
    """One window without JavaScript, in which nothing may be wider than it, and nothing may go to the console."""

    page: Page
    address: str
    """Of the storefront, without a slash at its end."""
    size: str
    folder: Path
    """Where screenshots come to lie: `<size>-<nn>-<name>.png`."""
    complaints: list[str] = field(default_factory=list)
    _shots: int = 0

    def __post_init__(self) -> None:
        self.page.on("console", lambda message: self.complaints.append(f"{message.type}: {message.text}"))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("requestfailed", self._failed)

    def _failed(self, request: Request) -> None:
        if request.failure != "net::ERR_ABORTED":  # that is us, who went on before the last picture was there
            self.complaints.append(f"{request.url}: {request.failure}")

    def open(self, path: str) -> None:
        answer = self.page.goto(self.address + path)
        assert answer is not None and answer.ok, f"{path}: {answer and answer.status}"

    def look(self, name: str) -> None:
        """Takes a picture of the whole page, and asserts that it is in order."""
        self._shots += 1
        self.page.screenshot(path=self.folder / f"{self.size}-{self._shots:02}-{name}.png", full_page=True)
        wide = self.page.evaluate("[document.documentElement.scrollWidth, window.innerWidth]")
        assert wide[0] <= wide[1], f"{name} is {wide[0]} px wide in a window of {wide[1]}"
        assert not self.complaints, f"{name}: {self.complaints}"

    def says(self, words: str | re.Pattern[str]) -> None:
        expect(self.page.locator("main")).to_contain_text(words)

    def fill(self, **fields: str) -> None:
        for name, text in fields.items():
            self.page.locator(f"main [name={name}]").fill(text)

    def press(self, name: str) -> None:
        self.page.get_by_role("button", name=name, exact=True).click()

    def follow(self, name: str) -> None:
        self.page.get_by_role("link", name=name).first.click()

    def sign_up(self, email: str) -> None:
        self.open("/sign-in")
        self.look("sign-in")
        self.follow("Make an account")
        self.fill(name="Ada Lovelace", email=email, password=PASSWORD)
        self.look("sign-up")
        self.press("Make my account")
        self.says("Your account is ready")

    def browse(self) -> None:
        """The grid, its second page, and a search that leaves fewer."""
        self.open("/")
        goods = self.page.locator(".goods li")
        expect(goods).to_have_count(24)
        self.look("goods")
        first = goods.first.locator(".name").inner_text()
        self.follow("Next")
        self.says("Page 2 of")
        assert goods.first.locator(".name").inner_text() != first
        self.look("goods-2")
        self.page.get_by_role("searchbox").fill(first.lower())
        self.press("Search")
        expect(self.page.locator("main h1")).to_contain_text(f"for “{first.lower()}”")
        assert first in goods.locator(".name").all_inner_texts()
        self.look("search")
        self.page.get_by_role("searchbox").fill("no such thing as this")
        self.press("Search")
        self.says("We have nothing of that name")
        self.look("search-nothing")

    def put_in_basket(self, product_id: int, quantity: int) -> str:
        """Gives the product's name."""
        self.open(f"/item/{product_id}")
        name = self.page.locator("main h1").inner_text()
        self.look("item")
        self.fill(quantity=str(quantity))
        self.press("Add to basket")
        self.says("It is in your basket")
        self.says(name)
        return name

    def find_basket_without_catalogue(self, name: str) -> None:
        """While product-service is away."""
        self.open("/")
        self.says("The catalogue is taking a short break")
        self.look("catalogue-away")
        self.open("/basket")
        self.says(name)
        self.look("basket-without-catalogue")

    def change_basket(self, product_id: int, quantity: int, gone: str) -> None:
        self.page.locator(f"#quantity-{product_id}").fill(str(quantity))
        self.page.locator("li", has=self.page.locator(f"#quantity-{product_id}")).get_by_text("Update").click()
        expect(self.page.locator(f"#quantity-{product_id}")).to_have_value(str(quantity))
        self.look("basket")
        self.press(f"Remove {gone}")
        expect(self.page.get_by_text(gone)).to_have_count(0)

    def check_out(self) -> None:
        self.follow("Check out")
        self.fill(ship_to="Ada Lovelace\n12 St James's Square\nLondon")
        self.look("checkout")
        self.press(self.page.locator("main button").inner_text())
        self.says("Thank you")
        self.says("12 St James's Square")
        self.look("thanks")

    def find_order(self, name: str) -> None:
        self.follow("Account")
        order = self.page.locator(".orders li.card").first
        expect(order).to_contain_text(name)
        expect(order).to_contain_text("Paid")
        self.look("account")

    def delete_account(self, email: str) -> None:
        self.page.get_by_text("I want to delete it").click()
        self.fill(password=PASSWORD)
        self.look("delete")
        self.press("Delete my account")
        self.says("Your account is deleted")
        self.open("/sign-in")
        self.fill(email=email, password=PASSWORD)
        self.press("Sign in")
        self.says("The address or the password is not right")
        self.look("deleted")


@contextmanager
def shoppers(address: str, folder: Path) -> Iterator[list[Shopper]]:
    """One for each size, in one browser."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("no chromium on the PATH: apt-get install chromium")
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    expect.set_options(timeout=30_000)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=arguments)
        try:
            found = []
            for size, (width, height) in SIZES.items():
                page = browser.new_page(viewport={"width": width, "height": height}, java_script_enabled=False)
                page.set_default_timeout(30_000)
                found.append(Shopper(page, address, size, folder))
            yield found
        finally:
            browser.close()
