"""The chat element in a real headless Chromium, on a page of another origin, over a network that can be cut."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Locator, Page, expect

from deployments.answering.errors import EngineDiedError
from deployments.answering.types import Button, ChatRequest, Citation, Cited, Delta, Done, Link, Meta
from tests.browser import PHONE, browser, overflow, visits
from tests.integration.scripted_desk import ScriptedDesk, Step, scripted_desk

__all__ = ["browser"]  # a fixture
pytestmark = pytest.mark.integration

WORDS = [f"word{number} " for number in range(40)]
WHOLE = "".join(WORDS).strip()
PAUSE_S = 0.1  # between words: 4 s in all
HASTE = 50  # half a minute of trying is long
OpenShop = Callable[..., Page]


def beginning(request: ChatRequest) -> Meta:
    return Meta(request.turn_id, request.request_id, request.conversation_id, request.collection, "en", "small", "")


def ending(**changes: Any) -> Done:
    return Done(**({"path": "small", "finish_reason": "stop", "grounded": True} | changes))


def source(index: int, url: str = "https://help.example/express") -> Cited:
    return Cited(Citation(index, f"c{index}", "d", f"Source {index}", url, ("Delivery",), "It costs 12.90 EUR.", 1.0))


def slow(request: ChatRequest) -> Sequence[Step]:
    """Word by word, so that there is time to cut the network."""
    said: list[Step] = [step for word in WORDS for step in (Delta(word), PAUSE_S)]
    return [beginning(request), *said, source(1), ending()]


def rich(request: ChatRequest) -> Sequence[Step]:
    """Everything that an answer can have."""
    table = "| to | EUR |\n|---|---|\n| Oslo | 19.90 |"
    text = f"It costs **12.90 EUR**.\n\n- before noon\n\n{table}\n\n<img src=x onerror=alert(1)>"
    links = (Link("Prices", "https://help.example/prices"), Link("Trick", "javascript:alert(1)"))
    buttons = (Button("And to Oslo?", "How much is it to Oslo?"),)
    return [beginning(request), Delta(text), source(1), source(2), ending(links=links, buttons=buttons)]


@pytest.fixture(scope="module")
def desk() -> Iterator[ScriptedDesk]:
    with scripted_desk() as running:
        yield running


@pytest.fixture
def open_shop(browser: Browser, desk: ScriptedDesk) -> Iterator[OpenShop]:
    """Opens the shop's page. Of a network that was cut its console may complain."""
    desk.pipeline.script = rich
    desk.pipeline.requests.clear()
    desk.history.ratings.clear()
    with visits(browser, lambda message: message.text.startswith("Failed to load resource: net::ERR_")) as opened:

        def opened_shop(attributes: str = "", **options: Any) -> Page:
            desk.shop_page = (
                '<!doctype html><html lang="en"><meta name="viewport" content="width=device-width">'
                "<title>A shop</title><body><main><h1>A shop</h1></main>"
                f'<script src="{desk.url}/widget.js" defer></script>'
                f"<raydesk-chat {attributes}></raydesk-chat></body></html>"
            )
            return opened(desk.shop_url, **options)

        yield opened_shop
        desk.mend()


def ask(page: Page, question: str = "How much is express?") -> Locator:
    """Opens the panel if need be and asks; gives the answer's article, which may not be complete."""
    launcher = page.locator(".launcher")
    if launcher.get_attribute("aria-expanded") == "false":
        launcher.click()
    page.get_by_role("textbox").fill(question)
    page.keyboard.press("Enter")
    return page.locator("article.theirs").last


def complete(answer: Locator) -> Locator:
    expect(answer).to_have_attribute("aria-busy", "false")
    return answer


# --- answers ---


def test_an_answer_has_its_sources_links_and_next_questions(open_shop: OpenShop, desk: ScriptedDesk) -> None:
    page = open_shop()
    answer = complete(ask(page))
    expect(answer.locator("strong")).to_have_text("12.90 EUR")
    expect(answer.locator(".text")).to_contain_text("<img src=x onerror=alert(1)>")  # as text
    expect(answer.locator("img")).to_have_count(0)
    first = answer.get_by_role("link", name="Source 1")
    expect(first).to_have_attribute("href", "https://help.example/express")
    expect(first).to_have_attribute("rel", "noopener noreferrer")
    expect(answer.get_by_role("link", name="Trick")).to_have_count(0)
    answer.get_by_role("button", name="And to Oslo?").click()
    complete(page.locator("article.theirs").nth(1))
    assert desk.questions == ["How much is express?", "How much is it to Oslo?"]
    assert desk.pipeline.requests[1].conversation_id == desk.pipeline.requests[0].conversation_id
    expect(page.get_by_role("button", name="And to Oslo?")).to_have_count(1)  # of the last answer alone


@pytest.mark.parametrize(
    ("what", "told"),
    [
        ("small:starting", "was still starting"),
        ("small:unsupported", "that no source supports"),
        ("small:continued", "another one went on"),
        ("small:deadline_exceeded", "was away"),
    ],
)
def test_with_details_it_is_told_what_an_answer_had_to_do_without(
    what: str, told: str, open_shop: OpenShop, desk: ScriptedDesk
) -> None:
    desk.pipeline.script = lambda request: [beginning(request), Delta("Yes."), source(1), ending(degraded=(what,))]
    expect(complete(ask(open_shop("details")))).to_contain_text(told)


def test_thumbs_reach_the_service(open_shop: OpenShop, desk: ScriptedDesk) -> None:
    answer = complete(ask(open_shop()))
    answer.get_by_role("button", name="No, this did not help").click()
    expect(answer.get_by_text("Thank you.")).to_be_visible()
    expect(answer.get_by_role("button", name="No, this did not help")).to_have_attribute("aria-pressed", "true")
    assert desk.history.ratings == [(desk.pipeline.requests[0].turn_id, "down", "")]


def test_the_answer_can_be_stopped(open_shop: OpenShop, desk: ScriptedDesk) -> None:
    desk.pipeline.script = slow
    page = open_shop()
    answer = ask(page)
    expect(answer).to_contain_text("word3")
    page.get_by_role("button", name="Stop the answer").click()
    expect(complete(answer)).to_contain_text("Stopped.")
    expect(answer).not_to_contain_text("word39")


# --- a network that breaks ---


def test_an_answer_goes_on_where_the_network_broke(open_shop: OpenShop, desk: ScriptedDesk) -> None:
    desk.pipeline.script = slow
    page = open_shop()
    answer = ask(page)
    expect(answer).to_contain_text("word5")
    desk.cut()
    expect(answer.get_by_text("Reconnecting")).to_be_visible()
    desk.mend()
    expect(complete(answer).locator(".text")).to_have_text(WHOLE)
    expect(answer.get_by_text("Reconnecting")).to_be_hidden()
    expect(answer.locator(".source")).to_have_count(1)
    assert len(desk.questions) == 1


def test_a_question_asked_without_network_is_asked_once_there_is_one(open_shop: OpenShop, desk: ScriptedDesk) -> None:
    page = open_shop()
    desk.cut()
    answer = ask(page)
    expect(answer.get_by_text("Reconnecting")).to_be_visible()
    desk.mend()
    expect(complete(answer)).to_contain_text("12.90 EUR")
    assert len(desk.questions) == 1


def test_a_network_that_stays_away_leaves_a_retry(open_shop: OpenShop, desk: ScriptedDesk) -> None:
    page = open_shop()
    page.evaluate(f"() => {{ const real = setTimeout; setTimeout = (work, ms) => real(work, ms / {HASTE}); }}")
    desk.cut()
    answer = ask(page)
    expect(answer.locator(".failure")).to_contain_text("cannot be reached")
    desk.mend()
    answer.get_by_role("button", name="Try again").click()
    expect(complete(page.locator("article.theirs"))).to_contain_text("12.90 EUR")
    assert len(desk.questions) == 1


def test_a_failed_turn_is_asked_anew(open_shop: OpenShop, desk: ScriptedDesk) -> None:
    desk.pipeline.script = lambda request: [beginning(request), Delta("It "), EngineDiedError()]
    page = open_shop()
    answer = complete(ask(page))
    expect(answer.locator(".failure")).to_contain_text("The model stopped")
    desk.pipeline.script = rich
    answer.get_by_role("button", name="Try again").click()
    expect(complete(page.locator("article.theirs"))).to_contain_text("12.90 EUR")
    assert len(desk.questions) == 2


def test_a_chat_survives_a_walk_to_the_next_page(open_shop: OpenShop, desk: ScriptedDesk) -> None:
    page = open_shop()
    complete(ask(page, "The first question"))
    desk.pipeline.script = slow
    expect(ask(page, "The second question")).to_contain_text("word3")
    page.goto(f"{desk.shop_url}/another")
    expect(page.locator("article.mine")).to_have_text(["The first question", "The second question"])
    expect(page.locator("article.theirs").first.locator("strong")).to_have_text("12.90 EUR")
    expect(complete(page.locator("article.theirs").last).locator(".text")).to_have_text(WHOLE)
    assert desk.questions == ["The first question", "The second question"]  # joined, not asked again


# --- for everybody ---


def test_the_keyboard_is_enough(open_shop: OpenShop, desk: ScriptedDesk) -> None:
    page = open_shop('starters="How much is express?&#10;May I return it?"')
    page.keyboard.press("Tab")
    expect(page.get_by_role("button", name="Open the chat")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_role("textbox", name="Your question")).to_be_focused()
    page.keyboard.type("By hand")
    page.keyboard.press("Shift+Enter")
    page.keyboard.type("in two lines")
    page.keyboard.press("Enter")
    complete(page.locator("article.theirs"))
    page.keyboard.press("Shift+Tab")  # what the answer ends with
    expect(page.get_by_role("button", name="And to Oslo?")).to_be_focused()
    page.keyboard.press("Enter")
    complete(page.locator("article.theirs").nth(1))
    page.get_by_role("textbox").press("Escape")
    expect(page.get_by_role("dialog")).to_be_hidden()
    expect(page.get_by_role("button", name="Open the chat")).to_be_focused()
    assert desk.questions == ["By hand\nin two lines", "How much is it to Oslo?"]


def test_a_screen_reader_hears_the_answer_once_and_complete(open_shop: OpenShop, desk: ScriptedDesk) -> None:
    desk.pipeline.script = slow
    page = open_shop()
    answer = ask(page)
    expect(page.get_by_role("log", name="Conversation")).to_have_attribute("aria-live", "off")
    announcer = page.get_by_role("status")
    expect(announcer).to_have_attribute("aria-live", "polite")
    expect(answer).to_contain_text("word3")
    expect(announcer).to_have_text("")
    complete(answer)
    expect(announcer).to_have_text(WHOLE)


def test_an_answer_that_comes_while_the_panel_is_closed_is_told_of(open_shop: OpenShop, desk: ScriptedDesk) -> None:
    desk.pipeline.script = slow
    page = open_shop()
    expect(ask(page)).to_contain_text("word3")
    page.keyboard.press("Escape")
    news = page.get_by_role("button", name="Open the chat: there is a new answer")
    news.click()
    expect(page.locator("article.theirs .text")).to_have_text(WHOLE)
    expect(page.get_by_role("button", name="Close the chat").first).to_be_visible()


@pytest.mark.parametrize(("attributes", "locale"), [("", "zh-CN"), ('lang="zh"', "en-US")])
def test_it_speaks_chinese(attributes: str, locale: str, open_shop: OpenShop) -> None:
    page = open_shop(attributes, locale=locale)
    page.get_by_role("button", name="打开对话").click()
    expect(page.get_by_role("dialog")).to_have_attribute("lang", "zh-CN")
    expect(page.get_by_role("heading", level=2).last).to_have_text("有什么可以帮您？")
    expect(page.get_by_role("textbox", name="您的问题")).to_be_focused()
    expect(complete(ask(page)).get_by_role("button", name=re.compile("^有帮助"))).to_be_visible()


@pytest.mark.parametrize(
    "options",
    [
        {"color_scheme": "light"},
        {"color_scheme": "dark"},
        {"color_scheme": "dark", "viewport": {"width": 360, "height": 700}, "locale": "zh-CN"},
    ],
)
def test_axe_finds_nothing(options: dict[str, Any], open_shop: OpenShop, desk: ScriptedDesk) -> None:
    page = open_shop('starters="How much is express?"', **options)
    page.locator(".launcher").click()
    assert violations(page) == []
    complete(ask(page))
    assert violations(page) == []
    desk.pipeline.script = lambda request: [beginning(request), EngineDiedError()]
    expect(complete(ask(page)).locator(".failure")).to_be_visible()
    assert violations(page) == []
    assert overflow(page) == 0


LINES = [f"- line {number} of a long answer\n" for number in range(60)]


def long(request: ChatRequest) -> Sequence[Step]:
    """Longer than a phone is high."""
    said: list[Step] = [step for line in LINES for step in (Delta(line), 0.02)]
    return [beginning(request), *said, ending(buttons=(Button("And to Oslo?", "How much is it to Oslo?"),))]


def bottom(locator: Locator) -> float:
    box = locator.bounding_box()
    assert box is not None
    return box["y"] + box["height"]


def test_on_a_phone_the_newest_words_are_in_sight_and_the_keyboard_covers_nothing(
    open_shop: OpenShop, desk: ScriptedDesk
) -> None:
    desk.pipeline.script = long
    page = open_shop(**PHONE)
    answer = ask(page)
    question = page.get_by_role("textbox")
    for line in ("line 30 ", "line 45 "):
        expect(answer).to_contain_text(line)
        expect(answer.locator("li").last).to_be_in_viewport()
        assert bottom(question) <= 844
    newest = complete(answer).get_by_role("button", name="And to Oslo?")
    expect(newest).to_be_in_viewport()
    # Chromium has no keyboard without a screen: its effect is what the page is told of.
    page.evaluate("""() => {
        Object.defineProperty(visualViewport, "height", { value: 508, configurable: true });
        visualViewport.dispatchEvent(new Event("resize"));
    }""")
    page.wait_for_function(
        "([node, height]) => node.getBoundingClientRect().bottom <= height", arg=[question.element_handle(), 508]
    )
    page.wait_for_function(
        "([above, below]) => above.getBoundingClientRect().bottom <= below.getBoundingClientRect().top",
        arg=[newest.element_handle(), question.element_handle()],
    )
    assert overflow(page) == 0


def test_on_a_phone_the_desks_own_page_makes_room_for_the_keyboard(browser: Browser, desk: ScriptedDesk) -> None:
    desk.pipeline.script = long
    with visits(browser, lambda _: False) as opened:
        page = opened(desk.url, **PHONE)
        page.get_by_role("textbox").fill("How much is express?")
        page.keyboard.press("Enter")
        newest = complete(page.locator("article.theirs")).get_by_role("button", name="And to Oslo?")
        expect(newest).to_be_in_viewport()
        page.set_viewport_size({"width": 390, "height": 508})  # as with interactive-widget=resizes-content
        expect(newest).to_be_in_viewport()
        expect(page.get_by_role("button", name="Send")).to_be_in_viewport()
        assert overflow(page) == 0


def violations(page: Page) -> list[str]:
    found = Axe().run(page).response["violations"]
    return [f"{one['id']}: {node['target']} {node['failureSummary']}" for one in found for node in one["nodes"]]


def test_the_page_of_the_desk_passes_axe_too(browser: Browser, desk: ScriptedDesk) -> None:
    desk.pipeline.script = rich
    page = browser.new_page(locale="en-US")
    page.goto(desk.url)
    expect(page.locator("#status")).to_have_attribute("data-state", "ready")
    page.get_by_role("textbox").fill("How much is express?")
    page.keyboard.press("Enter")
    complete(page.locator("article.theirs"))
    assert violations(page) == []
    page.close()
