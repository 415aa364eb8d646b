"""ComparisonView in Chromium, alone on a page; the test answers as the kernel does, from a real comparison."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Page, expect

from dora_nb.compare import Comparison
from dora_nb.dataflow.dataflow import Dataflow
from dora_nb.widgets.comparison._details import detail_of
from dora_nb.widgets.comparison._lines import lines_of
from dora_nb.widgets.comparison.view import ComparisonView

from ..compare.recordings import make_recording
from .test_plot_page import SHOW

expect.set_options(timeout=30_000)  # only reached by what hangs; this machine may be busy

DETECTOR = """import numpy as np
import pyarrow as pa
class Operator:
    def __init__(self):
        self.number = 0
    def on_event(self, event, send_output):
        if event["type"] != "INPUT":
            return
        n, shift = self.number, SHIFT
        self.number += 1
        boxes = [[40 + 4 * n + (n > 3) * shift, 60, 120 + 4 * n + (n > 3) * shift, 160, 0.9, 1], [200, 90, 260, 150, 0.8, 0]]
        if n > 6:
            boxes = boxes[: 2 - (shift > 0)]
        send_output("bbox", pa.array(np.array(boxes, np.float32).ravel()), {"shape": [len(boxes), 6], "names": ["cup", "robot"]})
        image = event["value"].to_numpy().reshape(240, 320, 3).copy()
        image[100:140, 100:180] = 60 + 20 * shift * (n > 5)
        send_output("picture", image, event["metadata"])
        send_output("wheels", pa.array([float(np.sin(n)), n * 0.1 + (n > 4) * shift * 0.01]))
        send_output("state", pa.array(["left" if n < 4 + shift else "right"]))
"""


@pytest.fixture(scope="module")
def comparison(tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    ramp = np.linspace(40, 200, 320).astype(np.uint8)
    image = np.repeat(np.broadcast_to(ramp, (240, 320))[:, :, None], 3, axis=2)
    metadata = {"width": 320, "height": 240, "encoding": "bgr8"}
    messages = [(0.1 * at, "camera/image", (image, metadata)) for at in range(12)]
    path = tmp_path_factory.mktemp("comparison") / "run.mcap"
    make_recording(
        path, [(secs, topic, (_flat(value), more)) for secs, topic, (value, more) in messages]
    )
    dataflow = Dataflow()
    outputs = ["bbox", "picture", "wheels", "state"]
    dataflow.add_operator(
        "detector",
        DETECTOR.replace("SHIFT", "3"),
        inputs={"image": "camera/image"},
        outputs=outputs,
    )
    return dataflow.compare("detector", path, before=DETECTOR.replace("SHIFT", "0"))


def _flat(image: Any) -> Any:
    import pyarrow as pa

    return pa.array(np.ascontiguousarray(image).ravel())


class ComparisonOnPage:
    """The view on a page, whose questions are answered when `answer` is called."""

    def __init__(self, page: Page, comparison: Comparison) -> None:
        self.page = page
        self.comparison = comparison
        self.view = ComparisonView(comparison)
        self.seq = 0
        self.answered = 0
        traits = ComparisonView.class_traits()
        page.goto("about:blank")
        page.evaluate("() => { document.documentElement.lang = 'en'; }")
        page.evaluate(SHOW, [traits["_esm"].default_value, traits["_css"].default_value, {}])
        self.tell({"type": "status", "v": 1, "greeting": True, **self.view._content(0.0)})

    def tell(self, message: dict[str, Any], buffers: list[bytes] | None = None) -> None:
        texts = [base64.b64encode(each).decode() for each in buffers or []]
        self.page.evaluate("([message, buffers]) => tell(message, buffers)", [message, texts])

    def answer(self) -> list[dict[str, Any]]:
        """Answers what the page has asked since the last call; returns the questions."""
        self.page.wait_for_function(
            "count => model.sent.filter(({type}) => ['show', 'lines'].includes(type)).length > count",
            arg=self.answered,
        )
        sent = self.page.evaluate("() => model.sent")
        asked = [each for each in sent if each["type"] in ("show", "lines")][self.answered :]
        self.answered += len(asked)
        for question in asked:
            self.seq += 1
            if question["type"] == "show":
                step = question["step"]
                content, buffers = detail_of(self.comparison, self.comparison.differences[step])
                told: dict[str, Any] = {"type": "detail", "step": step, **content}
            else:
                place = question["place"]
                lines = lines_of(list(self.comparison.outputs.values())[place])
                assert lines is not None
                told = {"type": "lines", "place": place, "labels": list(lines.labels)}
                told |= {"columns": len(lines.times_secs)}
                buffers = [lines.packed()]
            self.tell({"v": 1, "seq": self.seq, **told}, buffers)
        return asked


@pytest.fixture
def shown(page: Page, comparison: Comparison) -> Iterator[ComparisonOnPage]:
    made = ComparisonOnPage(page, comparison)
    yield made
    made.view.close()


def test_the_summary_comes_first_and_each_difference_with_its_picture(
    shown: ComparisonOnPage,
) -> None:
    page = shown.page
    assert shown.comparison.after.error is None, shown.comparison
    expect(page.locator(".dora-compare-title")).to_have_text("detector")
    expect(page.locator(".dora-compare-verdict")).to_have_text("24 of 48 messages differ")
    expect(page.locator(".dora-compare tbody tr")).to_have_count(4)
    expect(page.locator(".dora-compare-position")).to_have_text("1 of 24")
    assert shown.answer()[0]["step"] == 0
    expect(page.locator(".dora-compare-what")).to_have_text(
        "bbox at 0.40 s (camera/image, message 4): 1 box moved by up to 3 px"
    )
    boxes = page.locator(".dora-compare-boxes")
    # The picture is drawn, and on it both boxes: the moved one's right edge is at 139 of 320 pixels.
    page.wait_for_function("() => document.querySelector('.dora-compare-boxes').width > 300")
    pixel = """([x, y]) => { const canvas = document.querySelector('.dora-compare-boxes');
        const scale = canvas.width / 320;
        return [...canvas.getContext('2d').getImageData(Math.round(x * scale), Math.round(y * scale), 1, 1).data]; }"""
    page.wait_for_function(f"() => ({pixel})([139, 110])[0] > 200")
    assert page.evaluate(pixel, [300, 20])[:3] == pytest.approx([190, 190, 190], abs=12)
    assert "dora-compare-boxes" in (boxes.get_attribute("class") or "")


def test_keys_step_from_difference_to_difference(shown: ComparisonOnPage) -> None:
    page = shown.page
    shown.answer()
    root = page.locator(".dora-compare")
    root.focus()
    page.keyboard.press("ArrowRight")
    expect(page.locator(".dora-compare-position")).to_have_text("2 of 24")
    page.keyboard.press("End")
    expect(page.locator(".dora-compare-position")).to_have_text("24 of 24")
    page.keyboard.press("ArrowRight")
    expect(page.locator(".dora-compare-position")).to_have_text("24 of 24")
    page.keyboard.press("Home")
    page.get_by_title("Next difference").click()
    expect(page.locator(".dora-compare-position")).to_have_text("2 of 24")


def test_numbers_are_lines_and_pictures_stand_side_by_side(shown: ComparisonOnPage) -> None:
    page = shown.page
    shown.answer()
    page.get_by_role("button", name="wheels").click()
    assert {each["type"] for each in shown.answer()} == {"show", "lines"}
    expect(page.locator(".dora-compare-lines")).to_have_count(2)
    expect(page.locator(".dora-compare-series option").first).to_have_text("[1]")
    page.get_by_role("button", name="picture").click()
    shown.answer()
    expect(page.locator(".dora-compare-picture")).to_have_count(3)
    expect(page.locator(".dora-compare figcaption").last).to_have_text("difference (white: 60)")
    page.get_by_role("button", name="state").click()
    shown.answer()
    expect(page.locator(".dora-compare-text").last).to_contain_text("after: string ['left']")


def test_the_page_forgets_the_view_when_it_is_closed(shown: ComparisonOnPage) -> None:
    shown.answer()
    shown.page.evaluate("() => end()")
    assert shown.page.evaluate("() => model.count()") == 0


OPERATOR = """%%dora_operator wheels --inputs stick=notebook/stick --outputs wheels
import pyarrow as pa
class Operator:
    def on_event(self, event, send_output):
        if event["type"] == "INPUT":
            x = event["value"][0].as_py()
            send_output("wheels", pa.array([x + (x > 9) * SHIFT]))"""
RECORD = """%load_ext dora_nb
import pathlib
import pyarrow as pa
from dora_nb.recording import RecordingWriter

writer = RecordingWriter(pathlib.Path("run.mcap"), overwrite=True)
for at in range(20):
    nanos = 1_700_000_000 * 10**9 + at * 100_000_000
    writer.write("notebook/stick", pa.array([float(at)]), {}, publish_nanos=nanos, log_nanos=nanos)
code = CODE.encode()
writer.attach("cells/wheels/1.py", code, media_type="text/x-python", time_nanos=1)
writer.close()"""


@pytest.mark.soak
def test_in_jupyterlab_a_comparison_is_stepped_through_by_keys(
    open_notebook: Callable[..., Any], page: Page
) -> None:
    before, after = (OPERATOR.replace("SHIFT", shift) for shift in ("0", "0.5"))
    cells = [RECORD.replace("CODE", repr(before)), after, "%dora compare wheels run.mcap"]
    notebook = open_notebook("compare.ipynb", cells)
    notebook.run_all()
    view = page.locator(".dora-compare")
    expect(view.locator(".dora-compare-verdict")).to_have_text("10 of 20 messages differ")
    expect(view.locator(".dora-compare-what")).to_contain_text("wheels at 1.00 s (notebook/stick")
    expect(view.locator(".dora-compare-lines")).to_have_count(2)
    view.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    expect(view.locator(".dora-compare-position")).to_have_text("3 of 10")
    expect(view.locator(".dora-compare-what")).to_contain_text("wheels at 1.20 s (notebook/stick")
    document = notebook.save()
    saved = document["cells"][2]["outputs"][0]["data"]
    assert "max error" in "".join(saved["text/html"])
    assert "first difference: wheels at 1.00 s" in "".join(saved["text/plain"])
