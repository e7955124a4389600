"""The chat page in a real headless Chromium, against the running application with the sample company's knowledge.

`app_url` (session fixture) is the address of an application whose rooms are ready.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import partial

import pytest
from playwright.sync_api import Browser, Locator, Page, Request, Route, expect

from tests.browser import PHONE, browser, overflow, visits

__all__ = ["browser"]  # a fixture
pytestmark = pytest.mark.e2e

FAQ_QUESTION = "How much does express delivery cost?"
CHINESE_QUESTION = "收到商品后多少天内可以退货？"
CACHED = re.compile(r"^(exact|semantic)_cache$")
ANSWERED = re.compile(r"^(faq|rule|passage|small|large|exact_cache|semantic_cache)$")
OpenPage = Callable[..., Page]


@pytest.fixture
def open_page(browser: Browser, app_url: str) -> Iterator[OpenPage]:
    # While a room starts, /readyz is a 503 on purpose, which Chromium reports for every poll.
    with visits(browser, lambda message: "/readyz" in message.location["url"]) as opened:
        yield partial(opened, app_url)


def ask(page: Page, question: str) -> Locator:
    """Asks and waits; gives the answer's article."""
    page.get_by_role("textbox", name=re.compile("question|问题")).fill(question)
    page.keyboard.press("Enter")
    answer = page.locator("article.theirs").last
    expect(answer).to_have_attribute("aria-busy", "false")
    expect(answer.locator(".failure")).to_have_count(0)
    return answer


def test_a_question_is_answered_with_path_source_and_times(open_page: OpenPage) -> None:
    page = open_page()
    answer = ask(page, FAQ_QUESTION)
    expect(answer.locator(".text")).to_contain_text(re.compile(r"\w{3}"))
    expect(answer.locator(".badge")).to_have_attribute("data-path", ANSWERED)
    expect(answer.locator(".source")).not_to_have_count(0)
    expect(answer.locator(".source-title").first).to_contain_text(re.compile(r"\w"))
    expect(answer.locator(".ttft")).to_have_text(re.compile(r"^First word [\d.]+ m?s$"))
    first_ms = float(answer.locator(".ttft").get_attribute("data-ms") or "nan")
    total_ms = float(answer.locator(".total").get_attribute("data-ms") or "nan")
    assert 0 <= first_ms <= total_ms


def test_the_same_question_again_comes_from_the_cache_with_the_same_sources(open_page: OpenPage) -> None:
    page = open_page()
    first = ask(page, FAQ_QUESTION)
    sources = first.locator(".source").all_inner_texts()
    page.get_by_role("button", name="New chat").click()
    second = ask(page, FAQ_QUESTION)
    expect(second.locator(".badge")).to_have_attribute("data-path", CACHED)
    expect(second.locator(".badge")).to_have_text("Cache")
    assert second.locator(".source").all_inner_texts() == sources


def test_a_chinese_question_is_answered_in_chinese(open_page: OpenPage) -> None:
    page = open_page(locale="zh-CN")
    expect(page.locator("html")).to_have_attribute("lang", "zh-CN")
    expect(page.get_by_role("heading", level=2)).to_have_text("有什么可以帮您？")
    answer = ask(page, CHINESE_QUESTION)
    expect(answer.locator(".text")).to_contain_text(re.compile(r"[\u4e00-\u9fff]{4}"))


def test_an_answer_that_is_cut_off_goes_on_where_it_was(open_page: OpenPage) -> None:
    page = open_page()
    whole = ask(page, FAQ_QUESTION).locator(".text").inner_text()
    page.get_by_role("button", name="New chat").click()
    asked_for: list[str | None] = []

    def cut(route: Route) -> None:
        """The network fails after two events, with the answer's words among them."""
        blocks = route.fetch().text().split("\n\n")
        route.fulfill(
            headers={"content-type": "text/event-stream"}, body="\n\n".join([*blocks[:2], "id: 3\nevent: ci"])
        )

    def listen(request: Request) -> None:
        if "/v1/turns/" in request.url:
            asked_for.append(request.headers.get("last-event-id"))

    page.route("**/v1/chat", cut, times=1)
    page.on("request", listen)
    answer = ask(page, FAQ_QUESTION)
    assert asked_for == ["2"]
    expect(answer.locator(".text")).to_have_text(whole)
    expect(answer.locator(".source")).not_to_have_count(0)
    expect(answer.locator(".total")).to_have_count(1)


def test_a_question_that_was_lost_on_its_way_is_sent_again(open_page: OpenPage) -> None:
    page = open_page()
    keys: list[str | None] = []

    def lose(route: Route) -> None:
        keys.append(route.request.headers.get("idempotency-key"))
        if len(keys) == 1:
            route.fetch()  # it arrives, and its answer does not
            route.fulfill(headers={"content-type": "text/event-stream"}, body="")
        else:
            route.continue_()

    page.route("**/v1/chat", lose)
    ask(page, FAQ_QUESTION)
    assert len(keys) == 2
    assert keys[0] == keys[1] is not None


def test_a_phone_needs_no_horizontal_scrolling(open_page: OpenPage) -> None:
    page = open_page(**PHONE, color_scheme="dark")
    assert overflow(page) == 0
    ask(page, FAQ_QUESTION)
    assert overflow(page) == 0
    expect(page.get_by_role("button", name="Send")).to_be_in_viewport()


def test_a_first_question_can_be_picked(open_page: OpenPage) -> None:
    page = open_page()
    starters = page.locator(".starter")
    expect(starters).to_have_count(4)
    question = starters.first.inner_text()
    starters.first.press("Enter")  # by keyboard
    expect(page.locator("article.mine")).to_have_text(question)
    expect(page.locator("article.theirs")).to_have_attribute("aria-busy", "false")
    expect(page.locator("#welcome")).to_be_hidden()


def test_the_language_of_the_page_can_be_changed_and_is_kept(open_page: OpenPage) -> None:
    page = open_page()
    page.get_by_role("button", name="切换到中文").click()
    expect(page.get_by_role("heading", level=2)).to_have_text("有什么可以帮您？")
    page.reload()
    expect(page.get_by_role("heading", level=2)).to_have_text("有什么可以帮您？")


def test_the_page_says_that_the_service_is_ready(open_page: OpenPage) -> None:
    expect(open_page().locator("#status")).to_have_attribute("data-state", re.compile("^(ready|partial)$"))
