"""Where the messages of a recorder go: into a file, or into memory until they are saved."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from dora_nb.errors import RecordingError
from dora_nb.recording import RecordingWriter
from dora_nb.recording.arrow_encoding import decode_message, encode_message
from dora_nb.recording.pictures import EncodedPicture, encode_picture
from dora_nb.recording.ring import Ring

from .recorder_loop import Recorder
from .recorder_words import Attach, KeepLast, RecordTo, Save, Saved, TopicState


class FileSink:
    """Writes a file."""

    def __init__(self, task: RecordTo) -> None:
        self._writer = RecordingWriter(
            Path(task.path),
            overwrite=task.overwrite,
            images=task.images,
            quality=task.quality,
            foxglove=task.foxglove,
            losses_known=task.losses_known,
        )
        self.write = self._writer.write
        self.flush_if_due = self._writer.flush_if_due

    @property
    def size_bytes(self) -> int:
        return self._writer.size_bytes

    def attach(self, word: Attach) -> None:
        self._writer.attach(
            word.name, word.data, media_type=word.media_type, time_nanos=word.time_nanos
        )

    def flush(self) -> None:
        self._writer.flush_if_due(0)  # On no clock that counts is a chunk that young.

    def save(self, word: Save, counts: Mapping[str, TopicState]) -> Saved | None:
        del word, counts
        return None

    def secs(self, first_nanos: int, now_nanos: int) -> float:
        return (now_nanos - first_nanos) / 1e9

    def close(self, counts: Mapping[str, TopicState]) -> None:
        self._writer.close(counts=as_counts(counts))


def as_counts(topics: Mapping[str, TopicState]) -> dict[str, dict[str, int]]:
    """Returns what ``counts.json`` says of each topic."""
    return {
        topic: {"received": state.received, "lost": state.lost}  # type: ignore[dict-item]
        for topic, state in topics.items()
    }


class _Kept(NamedTuple):
    """A message in memory that is the process's own: a picture, or the bytes of any other array."""

    topic: str
    picture: EncodedPicture | None
    schema: bytes
    data: pa.Buffer | None
    metadata: dict[str, Any]
    publish_nanos: int
    log_nanos: int


class MemorySink:
    """Keeps the last seconds, raw pictures as JPEG, and writes them into a file when it is told to."""

    def __init__(self, task: KeepLast) -> None:
        self._task = task
        self._ring: Ring[_Kept] = Ring(secs=task.secs, limit_bytes=task.limit_bytes)
        self._schemas: dict[bytes, bytes] = {}
        """Each schema once: they are most of a small message."""
        self._attached: dict[str, Attach] = {}

    @property
    def size_bytes(self) -> int:
        return self._ring.num_bytes

    def write(
        self,
        topic: str,
        value: Any,
        metadata: Mapping[str, Any],
        *,
        publish_nanos: int,
        log_nanos: int,
    ) -> None:
        own = dict(metadata)
        picture = encode_picture(value, own, self._task.quality)
        if picture is not None:
            kept = _Kept(topic, picture, b"", None, own, publish_nanos, log_nanos)
            self._ring.add(kept, nanos=log_nanos, num_bytes=picture.nbytes)
            return
        # Encoded, since that copies: the array lies in the memory of its publisher, which needs it again.
        schema, data = encode_message(value, own, publish_nanos)
        schema = self._schemas.setdefault(schema, schema)
        kept = _Kept(topic, None, schema, data, {}, publish_nanos, log_nanos)
        self._ring.add(kept, nanos=log_nanos, num_bytes=data.size)

    def attach(self, word: Attach) -> None:
        self._attached[word.name] = word

    def flush_if_due(self, now_nanos: int) -> None:
        self._ring.forget_before(now_nanos)

    def flush(self) -> None:
        pass

    def save(self, word: Save, counts: Mapping[str, TopicState]) -> Saved | None:
        del counts
        self._ring.forget_before(time.time_ns())
        try:
            return self._save(word)
        except RecordingError as error:
            return Saved(word.request, error.message, error.hint)

    def _save(self, word: Save) -> Saved:
        writer = RecordingWriter(
            Path(word.path),
            overwrite=word.overwrite,
            images="jpeg",
            quality=self._task.quality,
            losses_known=self._task.losses_known,
        )
        with writer:
            for attached in self._attached.values():
                writer.attach(
                    attached.name,
                    attached.data,
                    media_type=attached.media_type,
                    time_nanos=attached.time_nanos,
                )
            for kept in self._ring:
                value: pa.Array[Any] | EncodedPicture
                if kept.picture is not None:
                    value, metadata = kept.picture, kept.metadata
                else:
                    data = memoryview(kept.data or b"")
                    value, metadata = decode_message(kept.schema, data, kept.publish_nanos)
                writer.write(
                    kept.topic,
                    value,
                    metadata,
                    publish_nanos=kept.publish_nanos,
                    log_nanos=kept.log_nanos,
                )
        return Saved(
            word.request,
            messages=len(self._ring),
            secs=self._ring.span_secs(),
            size_bytes=writer.size_bytes,
        )

    def secs(self, first_nanos: int, now_nanos: int) -> float:
        del first_nanos, now_nanos
        return self._ring.span_secs()

    def close(self, counts: Mapping[str, TopicState]) -> None:
        del counts


def new_recorder(task: RecordTo | KeepLast) -> Recorder:
    """Returns what does the task. Raises RecordingError where the file cannot be made."""
    sink = FileSink(task) if isinstance(task, RecordTo) else MemorySink(task)
    return Recorder(sink, losses_known=task.losses_known)
