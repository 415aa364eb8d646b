"""page.js in Chromium, under a small widget of its own: a control that also shows a stream."""

from __future__ import annotations

from typing import Any

import pytest
import traitlets
from playwright.sync_api import Page, expect
from test_live_line import OnPage

from dora_nb.widgets.page.assets import asset

KNOB = """
class KnobPage extends Page {
  take(message) {
    if (message.type !== "more") return;
    this.drawn++;
    this.ack(message.seq);
    this.drawSoon();
  }
}
class KnobView extends View {
  constructor(page, model, host) {
    super(page, host, "knob");
    this.numDrawn = 0;
    this.value = element("output", "knob-value");
    this.root.append(this.value);
  }
  draw() {
    this.numDrawn++;
    this.root.dataset.drawn = String(this.numDrawn);
    setText(this.value, this.page.lostReason() || String(this.page.status?.value ?? "none"));
  }
  appeared() {
    this.page.send({ type: "held" });
  }
  disappeared() {
    this.page.send({ type: "released" });
  }
}
export default pageWidget((page, model, host) => {
  window.knob = page;
  return new KnobView(page, model, host);
}, KnobPage);
"""


class Knob(traitlets.HasTraits):
    _esm = traitlets.Unicode(asset("dora_nb.widgets.page", "page.js") + KNOB)
    _css = traitlets.Unicode(".knob { height: 20px }")


@pytest.fixture
def knob(page: Page) -> OnPage:
    shown = OnPage(page, Knob, {})
    shown.wait_for_sent(type="visible", count=1)
    return shown


def words(knob: OnPage) -> list[Any]:
    """What the page has said: kinds, and counts of what is visible; its greeting may come twice."""
    said: list[Any] = knob.page.evaluate(
        "() => model.sent.map((said) => said.type === 'visible' ? said.count : said.type)"
    )
    return [word for word in said if word != "hello"]


HIDE = """hidden => {
    Object.defineProperty(document, 'hidden', { value: hidden, configurable: true });
    document.dispatchEvent(new Event('visibilitychange'));
}"""


def test_the_first_word_has_the_version_and_all_are_numbered(knob: OnPage) -> None:
    said = knob.page.evaluate("() => model.sent")
    assert said[0] == {"type": "hello", "v": 1, "n": 1, "client": said[0]["client"]}
    assert 0 < len(said[0]["client"]) <= 64
    assert [each["n"] for each in said] == list(range(1, len(said) + 1))


@pytest.mark.parametrize("way", ["hidden", "left", "scrolled", "closed"])
def test_a_view_that_can_no_longer_be_touched_says_so_before_it_counts_as_hidden(
    knob: OnPage, way: str
) -> None:
    assert words(knob) == ["held", 1]
    if way == "hidden":
        knob.page.evaluate(HIDE, True)
    elif way == "left":
        knob.page.evaluate("() => window.dispatchEvent(new Event('pagehide'))")
    elif way == "scrolled":
        knob.page.evaluate("() => { document.body.lastElementChild.style.marginTop = '5000px'; }")
        knob.wait_for_sent(type="visible", count=0)
    else:
        knob.page.evaluate("() => end()")
    assert words(knob) == ["held", 1, "released", 0]


def test_a_tab_that_is_shown_again_counts_again(knob: OnPage) -> None:
    knob.page.evaluate(HIDE, True)
    knob.page.evaluate(HIDE, False)
    assert words(knob) == ["held", 1, "released", 0, "held", 1]


def test_many_messages_are_drawn_once_and_answered_once(knob: OnPage) -> None:
    view = knob.page.locator(".knob")
    drawn = int(view.get_attribute("data-drawn") or 0)
    knob.page.evaluate(
        """() => { for (let seq = 1; seq <= 50; seq++)
            model.trigger('msg:custom', { type: 'more', v: 1, seq }, []); }"""
    )
    expect(view).to_have_attribute("data-drawn", str(drawn + 1))
    knob.wait_for_sent(type="ack", drawn=50, seq=50)
    assert len(knob.sent("ack")) == 1


def test_a_hidden_view_is_not_drawn_for_a_stream(knob: OnPage) -> None:
    view = knob.page.locator(".knob")
    knob.page.evaluate(HIDE, True)
    drawn = view.get_attribute("data-drawn")
    knob.tell(type="more", v=1, seq=1)
    knob.page.evaluate("() => new Promise(requestAnimationFrame)")
    assert view.get_attribute("data-drawn") == drawn


def test_a_status_is_drawn_and_its_text_is_no_markup(knob: OnPage) -> None:
    knob.tell(type="status", v=1, value="<b>7</b>")
    expect(knob.page.locator(".knob-value")).to_have_text("<b>7</b>")
    assert knob.page.locator("b").count() == 0


def test_another_version_is_said_and_not_read(knob: OnPage) -> None:
    knob.tell(type="status", v=2, value=7)
    expect(knob.page.locator(".knob-value")).to_have_text(
        "this output is from another version of dora_nb; run the cell again"
    )


def test_a_lost_kernel_is_said_until_it_is_heard_again(knob: OnPage) -> None:
    value = knob.page.locator(".knob-value")
    knob.page.evaluate("() => model.trigger('comm_live_update')")
    expect(value).to_have_text("the kernel has ended or was restarted; run the cell again")
    knob.tell(type="status", v=1, value=3)
    expect(value).to_have_text("3")


def test_buffers_go_with_a_message(knob: OnPage) -> None:
    sizes = knob.page.evaluate(
        """() => { knob.send({ type: 'data' }, [new ArrayBuffer(5)]);
            return model.buffers.filter(Boolean).map(([buffer]) => buffer.byteLength); }"""
    )
    assert sizes == [5]


def test_a_closed_page_says_nothing_more(knob: OnPage) -> None:
    knob.page.evaluate("() => { end(); }")
    before = words(knob)
    knob.page.evaluate("() => { knob.send({ type: 'late' }); knob.report(); }")
    assert words(knob) == before
    assert knob.page.evaluate("() => model.count()") == 0
