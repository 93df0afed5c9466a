"""The binary files in the making."""

import numpy as np

from formats import Format


class Files:
    """By name; equal blobs are stored once."""

    def __init__(self):
        self.contents: dict[str, bytearray] = {}
        self.known: dict[tuple[str, bytes], int] = {}

    def add(self, name: str, blob: bytes) -> int:
        content = self.contents.setdefault(name, bytearray())
        if (name, blob) not in self.known:
            self.known[name, blob] = len(content)
            content += blob
        return self.known[name, blob]


def encoded(values: list, form: Format) -> bytes:
    pairs = [form.split(value) for value in values]
    nearest = form.encode([pair[0] for pair in pairs])
    residues = np.array([pair[1] for pair in pairs], dtype=np.int8)
    return nearest.tobytes() + residues.tobytes()
