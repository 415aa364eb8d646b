"""`recover`: writes what can be read of a damaged or cut file as a whole one."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mcap.records import Channel

from dora_nb.errors import RecordingError

from .chunked_file import ENDED, ChunkedFile
from .file_types import check_file_type
from .reader import RecordingFile


@dataclass(frozen=True, slots=True)
class Recovered:
    """What `recover` has done."""

    path: Path
    """Of the new file."""
    num_messages: int
    duration_secs: float
    notes: tuple[str, ...]
    """What was wrong with the old one; empty if nothing was."""


def recover(path: Path, out: Path | None = None) -> Recovered:
    """Writes every message, attachment and metadata record that can be read into a new file.

    Messages are copied as they are, also those of other programs. By default the new file is
    ``NAME-recovered.mcap`` beside the old one, which stays. It gets its name when it is whole. Raises
    RecordingError if the old file is not an MCAP file, or if the new one exists.
    """
    source = RecordingFile(path)
    if out is None:
        out = path.with_name(f"{path.stem}-recovered.mcap")
    check_file_type(out)
    if out.exists():
        raise RecordingError(f"{out} already exists.", hint="Choose another name.")
    index = source.index
    num_messages = 0
    with _renamed_when_whole(out) as file:
        for each in index.metadata:
            file.add_metadata(each.name, source.metadata_record(each))
        for schema in index.schemas.values():
            file.add_schema(schema)
        for channel in index.channels.values():
            file.add_channel(_with_known_schema(channel, set(index.schemas)))
        for block in index.blocks:
            for message in source.block_messages(block):
                if message.channel_id in index.channels:
                    num_messages += 1
                    file.add_message(
                        message.channel_id,
                        message.sequence,
                        message.data,
                        message.publish_nanos,
                        message.log_nanos,
                    )
        for attachment in index.attachments:
            with contextlib.suppress(RecordingError):  # a damaged one
                file.add_attachment(
                    attachment.name,
                    source.attachment(attachment),
                    attachment.media_type,
                    attachment.log_time,
                )
    duration_secs = (index.end_nanos - index.start_nanos) / 1e9
    return Recovered(out, num_messages, duration_secs, tuple(source.notes))


@contextlib.contextmanager
def _renamed_when_whole(path: Path) -> Iterator[ChunkedFile]:
    """A new file beside `path`, which gets that name at the end; it is removed if anything fails."""
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
    except OSError as error:
        raise RecordingError(f"cannot write {path}: {error.strerror}.") from None
    os.close(handle)
    temporary = Path(name)
    file: ChunkedFile | None = None
    try:
        file = ChunkedFile(temporary, overwrite=True)
        yield file
        file.finish()
        temporary.replace(path)
    except RecordingError as error:
        message = error.message.replace(str(temporary), str(path))
        # The words of a recorder, and its hint, are not true of a copy.
        raise RecordingError(message.removeprefix(ENDED)) from None
    finally:
        if file is not None:
            file.abandon()
        temporary.unlink(missing_ok=True)


def _with_known_schema(channel: Channel, schema_ids: set[int]) -> Channel:
    """The channel; without a schema if that was lost, since readers refuse a file that names none."""
    if channel.schema_id in schema_ids:
        return channel
    return Channel(
        id=channel.id,
        topic=channel.topic,
        message_encoding=channel.message_encoding,
        metadata=channel.metadata,
        schema_id=0,
    )
