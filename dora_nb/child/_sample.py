"""Room in the memory that readers see, to be written without a copy (dora's `SampleHandler`)."""

from __future__ import annotations

import contextlib
from types import TracebackType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dora_nb.transport import Reservation


class SampleHandler:
    """What `Node.send_output_raw` gives.

    ``with node.send_output_raw("image", size) as buffer:`` gives a writable buffer and sends it at
    the end, unless the body raised; then it may still be sent. By hand: `as_buffer` or `as_memoryview`,
    then `send`, which refuses while a view is still open, since readers will see what is written through
    it. The buffer itself, of which there is one, does not count as a view: it is closed when it is sent.
    """

    def __init__(self, reservation: Reservation, metadata: dict[str, Any] | None) -> None:
        self._reservation = reservation
        self._metadata = metadata
        self._buffer: memoryview | None = None
        self._sent = False

    def __del__(self) -> None:
        """It cannot be sent any more; arrays that were made of the buffer keep the memory."""
        if self._buffer is not None:
            with contextlib.suppress(BufferError):
                self._buffer.release()

    def as_buffer(self) -> memoryview:
        """A writable buffer of the size that was asked for; each time the same."""
        self._check_unsent()
        if self._buffer is None:
            self._buffer = self._reservation.view()
        return self._buffer

    def as_memoryview(self) -> memoryview:
        """A view of its bytes, which has to be released before it is sent."""
        self._check_unsent()
        return self._reservation.view()

    def send(self) -> None:
        """Publishes what was written. RuntimeError a second time, or while a view is still open."""
        self._check_unsent()
        if self._buffer is not None:
            self._close(self._buffer)
            self._buffer = None
        self._reservation.publish(self._metadata)
        self._sent = True

    def __enter__(self) -> memoryview:
        return self.as_buffer()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is None:
            self.send()

    def _check_unsent(self) -> None:
        if self._sent:
            raise RuntimeError("Sample has already been sent")

    def _close(self, buffer: memoryview) -> None:
        """Ends writing. An array that was made of the buffer counts as an open view: RuntimeError."""
        try:
            buffer.release()
        except BufferError:
            raise RuntimeError(
                "Cannot send: 1 buffer view(s) are still open; del what was made of the buffer, since "
                "readers would see what is written through it"
            ) from None
