"""Which names a recording may have. Pure."""

from __future__ import annotations

from pathlib import Path

from dora_nb.errors import RecordingError

_OTHER_TYPES = frozenset(
    # Programs choose by these how to open a file, and none of them opens an MCAP file.
    [
        ".mp4",
        ".m4v",
        ".mov",
        ".avi",
        ".mkv",
        ".webm",
        ".mpg",
        ".mpeg",
        ".gif",
        ".jpg",
        ".jpeg",
        ".png",
        ".bmp",
        ".tif",
        ".tiff",
        ".webp",
        ".wav",
        ".mp3",
        ".csv",
        ".tsv",
        ".txt",
        ".log",
        ".json",
        ".jsonl",
        ".yml",
        ".yaml",
        ".toml",
        ".xml",
        ".html",
        ".md",
        ".pdf",
        ".py",
        ".ipynb",
        ".npy",
        ".npz",
        ".pkl",
        ".pickle",
        ".pt",
        ".pth",
        ".onnx",
        ".h5",
        ".hdf5",
        ".parquet",
        ".arrow",
        ".feather",
        ".db",
        ".db3",
        ".sqlite",
        ".bag",
        ".rrd",
        ".zip",
        ".gz",
        ".bz2",
        ".xz",
        ".zst",
        ".tar",
        ".tgz",
        ".7z",
    ]
)


def check_file_type(path: str | Path) -> None:
    """Raises RecordingError if a name has the ending of another type of file. No ending is allowed."""
    name = Path(path).name
    if Path(name).suffix.lower() in _OTHER_TYPES:
        raise RecordingError(
            f"cannot write {path}: a recording is an MCAP file, and {Path(name).suffix} is another type.",
            hint=f"Name it {Path(name).stem}.mcap.",
        )
