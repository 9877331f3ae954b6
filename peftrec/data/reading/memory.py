"""Tables that are longer than memory: refused before they are read, since nothing can be told once memory is full."""

import os
import re
from importlib import import_module
from pathlib import Path
from typing import Any

from peftrec.errors import SchemaError

COPIES = 2
"""How often a table is in memory at once: as it was read, and with our types."""

_VIEW, _INLINE = 16, 12  # polars holds a text in 16 bytes, and what is longer than 12 once more
_SAMPLE = 1 << 20
_MEMINFO = Path("/proc/meminfo")
_GROUPS = (
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current", "/sys/fs/cgroup/memory.stat"),
    (
        "/sys/fs/cgroup/memory/memory.limit_in_bytes",
        "/sys/fs/cgroup/memory/memory.usage_in_bytes",
        "/sys/fs/cgroup/memory/memory.stat",
    ),
)


def free_memory() -> int | None:
    """Bytes that this process can still use: what the machine has available, or less where its container allows less.

    None where the system does not tell.
    """
    known = [found for found in (_machine(), *(_group(*files) for files in _GROUPS)) if found is not None]
    return min(known, default=None)


def refuse_too_large(path: Path, separator: str | None, *, what: str) -> None:
    """Raises if a table cannot fit into memory; a file whose size cannot be estimated is left to the reader.

    Args:
        path: The file.
        separator: Of a text file; None for Parquet.
        what: What the table is, for messages.

    Raises:
        SchemaError: It cannot; names the way to read it in parts.
    """
    free = free_memory()
    needed = COPIES * (_parquet_bytes(path) if separator is None else _text_bytes(path, separator))
    if free is None or needed <= free:
        return
    streamed = f"peftrec.data.streaming.stream.stream_events({str(path)!r}, catalog, folder=...) reads it in parts"
    scan = "scan_parquet" if separator is None else "scan_csv"
    narrow = f"polars.{scan}({str(path)!r}).select(...).collect() reads only the columns that are needed"
    raise SchemaError(
        f"the {what} file {path} ({path.stat().st_size / 1e9:,.2f} GB) needs about {needed / 1e9:,.2f} GB of memory, and"
        f" {free / 1e9:,.2f} GB are free",
        expected="a table that fits into memory twice, as it is and with our types",
        remedy=f"{streamed}; {narrow}" if what == "events" else narrow,
    )


def _machine() -> int | None:
    try:
        found = re.search(r"^MemAvailable:\s+(\d+) kB", _MEMINFO.read_text(), re.MULTILINE)
        if found:
            return 1024 * int(found[1])
    except OSError:
        pass  # not Linux
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None


def _group(limit: str, used: str, stat: str) -> int | None:
    """What a container still allows; files that the system keeps in memory for later give way."""
    try:
        most, now = Path(limit).read_text().strip(), Path(used).read_text()
        cached = re.search(r"^(?:total_)?inactive_file (\d+)", Path(stat).read_text(), re.MULTILINE)
    except OSError:
        return None
    return int(most) - int(now) + (int(cached[1]) if cached else 0) if most.isdigit() else None


def _text_bytes(path: Path, separator: str) -> int:
    """By the first lines: each field takes a view, and the text itself where it is long."""
    size = path.stat().st_size
    with path.open("rb") as file:
        sample = file.read(_SAMPLE)
    fields = sample.replace(b"\n", separator.encode()).split(separator.encode())
    held = sum(_VIEW + (len(field) if len(field) > _INLINE else 0) for field in fields)
    return int(held * size / max(len(sample), 1))


def _parquet_bytes(path: Path) -> int:
    """Values as they are once decompressed, and a view for each text; 0 if the file does not say."""
    parquet: Any = import_module("pyarrow.parquet")  # only where a file is read, since it takes a while
    try:
        meta = parquet.read_metadata(path)
        stored = sum(meta.row_group(group).total_byte_size for group in range(meta.num_row_groups))
        texts = sum(meta.schema.column(at).physical_type == "BYTE_ARRAY" for at in range(len(meta.schema)))
    except (OSError, ValueError):  # pyarrow's ArrowInvalid is a ValueError
        return 0  # a damaged file: its reader tells what is wrong
    return stored + _VIEW * texts * meta.num_rows
