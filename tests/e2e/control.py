"""The status socket, spoken directly: a question takes a fraction of a millisecond this way. The frames are those of
proto/messages.def; a connection of its own for each question, since the rate limit is per connection."""

from __future__ import annotations

import socket
import struct
from pathlib import Path
from typing import Any

ASK, PART = 41, 42
ASK_STATUS, ASK_LEDGER, ASK_TARGETS = 1, 2, 3


def unpack(data: bytes, at: int = 0) -> tuple[Any, int]:
    """A msgpack value and where it ends: what the service sends, and no more (no extension types)."""
    kind = data[at]
    if kind < 0x80:
        return kind, at + 1
    if kind >= 0xE0:
        return kind - 256, at + 1
    if kind < 0x90:
        return unpack_map(data, at + 1, kind & 0x0F)
    if kind < 0xA0:
        return unpack_array(data, at + 1, kind & 0x0F)
    if kind < 0xC0:
        return unpack_text(data, at + 1, kind & 0x1F)
    if kind in (0xC0, 0xC2, 0xC3):
        return {0xC0: None, 0xC2: False, 0xC3: True}[kind], at + 1
    numbers = {0xCA: ">f", 0xCB: ">d", 0xCC: ">B", 0xCD: ">H", 0xCE: ">I", 0xCF: ">Q", 0xD0: ">b", 0xD1: ">h", 0xD2: ">i", 0xD3: ">q"}
    if kind in numbers:
        return struct.unpack_from(numbers[kind], data, at + 1)[0], at + 1 + struct.calcsize(numbers[kind])
    sizes = {0xC4: ">B", 0xC5: ">H", 0xC6: ">I", 0xD9: ">B", 0xDA: ">H", 0xDB: ">I", 0xDC: ">H", 0xDD: ">I", 0xDE: ">H", 0xDF: ">I"}
    (n,) = struct.unpack_from(sizes[kind], data, at + 1)
    at += 1 + struct.calcsize(sizes[kind])
    if kind <= 0xC6:
        return data[at : at + n], at + n
    if kind <= 0xDB:
        return unpack_text(data, at, n)
    return unpack_array(data, at, n) if kind <= 0xDD else unpack_map(data, at, n)


def unpack_text(data: bytes, at: int, n: int) -> tuple[str, int]:
    return data[at : at + n].decode(errors="replace"), at + n


def unpack_array(data: bytes, at: int, n: int) -> tuple[list[Any], int]:
    values = []
    for _ in range(n):
        value, at = unpack(data, at)
        values.append(value)
    return values, at


def unpack_map(data: bytes, at: int, n: int) -> tuple[dict[Any, Any], int]:
    values = {}
    for _ in range(n):
        key, at = unpack(data, at)
        values[key], at = unpack(data, at)
    return values, at


def ask(path: Path, question: int = ASK_STATUS) -> dict[str, Any]:
    """Raises OSError when the service is not there, or hangs up."""
    answer = b""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as channel:
        channel.settimeout(10)
        channel.connect(str(path))
        channel.send(bytes([0x94, ASK, 0xC2, question, 0xC4, 0]))
        while True:
            packet = channel.recv(1 << 16)
            if not packet:
                raise ConnectionError("the service hung up")
            (number, _, last, part), _ = unpack(packet)
            assert number == PART
            answer += part
            if last:
                return unpack(answer)[0]
