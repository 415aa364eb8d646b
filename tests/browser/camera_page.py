"""The page of static/camera.html, and the kernel's side of its messages."""

from __future__ import annotations

import base64
from typing import Any

import cv2
import numpy as np
from playwright.sync_api import Page, expect

RED_BOX = [100, 60, 200, 160, 0.87, "person", "#ff0000"]
GREEN_BOX = [220, 20, 300, 90, 0.3, "cup", "#00ff00"]


class CameraPage:
    """The page, and the kernel's side of its messages."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.seq = 0

    def send_frame(
        self,
        blue: int = 200,
        data: bytes | None = None,
        buffers: list[bytes] | None = None,
        **message: Any,
    ) -> int:
        """Sends a frame of one colour, or other bytes in its place, and buffers of overlays; its number."""
        self.seq = message.get("seq", self.seq + 1)
        image = np.full((240, 320, 3), (blue, 0, 0), np.uint8)
        picture = cv2.imencode(".jpg", image)[1].tobytes() if data is None else data
        frame: dict[str, Any] = {"type": "frame", "v": 1, "seq": self.seq, "t": None}
        frame |= {"mime": "image/jpeg", "w": 320, "h": 240, "boxes": None, "lag": None, "age": None}
        frame |= message
        encoded = [base64.b64encode(each).decode() for each in (picture, *(buffers or []))]
        self.page.evaluate("([message, data]) => frame(message, ...data)", [frame, encoded])
        return self.seq

    def tell(self, **message: Any) -> None:
        self.page.evaluate("message => tell(message)", message)

    def tell_status(self, state: str, reason: str = "", **more: Any) -> None:
        self.tell(
            type="status", state=state, reason=reason, **{"drops": [], "unmatched": 0, **more}
        )

    def wait_drawn(self, seq: int) -> None:
        expect(self.page.locator(".dora-view")).to_have_attribute("data-seq", str(seq))

    def show_frame(self, **message: Any) -> None:
        self.wait_drawn(self.send_frame(**message))

    def sent(self, kind: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.page.evaluate(
            "kind => model.sent.filter(message => message.type === kind)", kind
        )
        return found

    def wait_acked(self, seq: int) -> dict[str, Any]:
        self.page.wait_for_function(
            "seq => model.sent.some(each => each.type === 'ack' && each.seq === seq)", arg=seq
        )
        return self.sent("ack")[-1]

    def picture(self, x: int, y: int) -> list[int]:
        found: list[int] = self.page.evaluate("([x, y]) => pixel('.dora-picture', x, y)", [x, y])
        return found

    def overlay(self, x: int, y: int) -> list[int]:
        found: list[int] = self.page.evaluate("([x, y]) => pixel('.dora-overlay', x, y)", [x, y])
        return found

    def client_place(self, x: float, y: float) -> tuple[float, float]:
        """Where a place of the picture's canvas is in the window, both in CSS pixels."""
        box = self.page.locator(".dora-picture").bounding_box()
        assert box is not None
        return box["x"] + x, box["y"] + y

    def has_boxes(self) -> bool:
        found: bool = self.page.evaluate(
            """() => { const canvas = document.querySelector('.dora-overlay');
                const { width, height } = canvas;
                return canvas.getContext('2d').getImageData(0, 0, width, height).data.some(Boolean); }"""
        )
        return found

    def get(self, name: str) -> Any:
        return self.page.evaluate("name => model.get(name)", name)

    def wait_for_text(self, part: str, text: str) -> None:
        expect(self.page.locator(f".dora-{part}")).to_have_text(text)
