"""Room in the memory that readers see, to be written without a copy (dora's `SampleHandler`)."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..transport import Reservation


class SampleHandler:
    """What `Node.send_output_raw` gives.

    ``with node.send_output_raw("image", size) as buffer:`` gives a writable buffer and sends it at
    the end, unless the body raised. By hand: `as_buffer` or `as_memoryview`, then `send`, which
    refuses while a view is still open, since readers will see what is written through it.
    """

    def __init__(self, reservation: Reservation, metadata: dict[str, Any] | None) -> None:
        self._reservation = reservation
        self._metadata = metadata
        self._sent = False

    def as_buffer(self) -> memoryview:
        """A writable buffer of the size that was asked for."""
        return self.as_memoryview()

    def as_memoryview(self) -> memoryview:
        """The same, as a `memoryview` of bytes."""
        if self._sent:
            raise RuntimeError("Sample has already been sent")
        return self._reservation.view()

    def send(self) -> None:
        """Publishes what was written. RuntimeError a second time, or while a view is still open."""
        if self._sent:
            raise RuntimeError("Sample has already been sent")
        self._reservation.publish(self._metadata)
        self._sent = True

    def __enter__(self) -> memoryview:
        self._entered = self.as_memoryview()
        return self._entered

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if error is None:
                self._close(self._entered)
                self.send()
        finally:
            if not self._sent:
                self._reservation.cancel()

    def _close(self, view: memoryview) -> None:
        """Nothing may write any more; what the body has made of the buffer counts as an open view."""
        try:
            view.release()
        except BufferError:
            raise RuntimeError(
                "Cannot send: 1 buffer view(s) are still open; del what was made of the buffer, since "
                "readers would see what is written through it"
            ) from None
