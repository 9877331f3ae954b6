"""Reading the header of a safetensors file without loading a tensor, and refusing headers that lie."""

import json
import math
from typing import Any, cast

from peftrec.errors import CorruptAdapterError
from peftrec.registry.manifest import WIDTHS, TensorEntry

HEADER_LIMIT = 4 * 1024 * 1024
MOST_DIMENSIONS = 8


def tensor_entries(file: str, content: bytes) -> dict[str, TensorEntry]:
    """Name, shape and type of every tensor in a safetensors file.

    Raises:
        CorruptAdapterError: The header is too large, no JSON, or does not match the bytes that follow.
    """
    length = int.from_bytes(content[:8], "little")
    if len(content) < 8 or length > min(HEADER_LIMIT, len(content) - 8):
        raise _corrupt(file, f"claims a header of {length:,} bytes in a file of {len(content):,}")
    try:
        header: object = json.loads(content[8 : 8 + length].decode())
    except (ValueError, RecursionError) as error:
        raise _corrupt(file, f"has a header that is not JSON: {error}") from error
    if not isinstance(header, dict) or content[8:9] != b"{":
        raise _corrupt(file, "has a header that is no object")
    entries: dict[str, TensorEntry] = {}
    covered = 0
    body = len(content) - 8 - length
    fields = {name: value for name, value in cast(dict[str, Any], header).items() if name != "__metadata__"}
    metadata = cast(dict[str, Any], header).get("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in cast(dict[str, Any], metadata).values()):
        raise _corrupt(file, "has metadata that are no texts")
    try:
        for name, value in sorted(fields.items(), key=lambda field: field[1]["data_offsets"]):
            start, end = value["data_offsets"]
            shape, dtype = tuple(value["shape"]), str(value["dtype"])
            # Before anything is computed of them: numbers of thousands of digits take minutes to multiply.
            if len(shape) > MOST_DIMENSIONS or any(type(n) is int and abs(n) > body for n in (start, end, *shape)):
                raise _corrupt(file, f"tensor {name[:80]!r} has offsets or a shape beyond the file's {body:,} bytes")
            if not all(type(number) is int for number in (start, end, *shape)):
                raise _corrupt(file, f"tensor {name[:80]!r} has offsets or a shape that are no whole numbers")
            if dtype not in WIDTHS:
                raise _corrupt(
                    file, f"tensor {name[:80]!r} has type {dtype[:80]}, which is none of {', '.join(WIDTHS)}"
                )
            if start != covered or end - start != math.prod(shape) * WIDTHS[dtype] or min(shape, default=0) < 0:
                raise _corrupt(file, f"tensor {name[:80]!r} of shape {shape} does not fit its bytes {start} to {end}")
            covered = end
            entries[name] = TensorEntry(file, shape, dtype)
    except (TypeError, ValueError, KeyError) as error:
        raise _corrupt(file, f"has a malformed entry: {error!r}") from error
    if covered != body:
        raise _corrupt(file, f"holds {body:,} bytes of values, its header describes {covered:,}")
    return entries


def _corrupt(file: str, what: str) -> CorruptAdapterError:
    return CorruptAdapterError(
        f"{file} {what}",
        expected="a complete safetensors file of F16, F32 or I8 tensors",
        remedy="restore the file from a copy, or publish the adapter again",
    )
