"""The data, all of it from packages on PyPI: written digits, and the text of Genesis."""

import json
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits

WINDOW = 64  # characters that a language model reads


class Digits:
    """The pictures of scikit-learn's digits, of which a fixed fifth is held out.

    A batch is the pictures [batch, 8 rows, 8 pixels], from 0 to 1, and their labels [batch]."""

    inputs = 8
    classes = 10

    def __init__(self) -> None:
        pictures, labels = load_digits(return_X_y=True)
        order = np.random.default_rng(0).permutation(len(labels))
        x = torch.tensor(pictures[order].reshape(-1, 8, 8) / 16, dtype=torch.float32)
        y = torch.tensor(labels[order])
        held_out = len(y) // 5
        self._train = x[held_out:], y[held_out:]
        self.valid = x[:held_out], y[:held_out]

    def __len__(self) -> int:
        return len(self._train[1])

    def batches(self, size: int, seed: int):
        """Batches without end: the pictures shuffled, again for each epoch."""
        shuffle = torch.Generator().manual_seed(seed)
        x, y = self._train
        while True:
            for chosen in torch.randperm(len(y), generator=shuffle).split(size):
                if len(chosen) == size:
                    yield x[chosen], y[chosen]


class Text:
    """The first `characters` of the King James Bible for training, what follows them held out.

    A batch is windows of characters [batch, WINDOW] and the characters that come next."""

    held_out = 128  # windows

    def __init__(self, characters: int) -> None:
        text = _bible()[: characters + self.held_out * WINDOW + 1]
        alphabet = sorted(set(text))
        codes = torch.tensor([alphabet.index(character) for character in text])
        self.classes = self.inputs = len(alphabet)
        self._train = codes[:characters]
        x, y = codes[characters:-1], codes[characters + 1 :]
        self.valid = x.view(-1, WINDOW), y.view(-1, WINDOW)

    def __len__(self) -> int:
        return len(self._train)

    def batches(self, size: int, seed: int):
        """Batches without end: windows that begin anywhere."""
        choose = torch.Generator().manual_seed(seed)
        every = self._train.unfold(0, WINDOW + 1, 1)
        while True:
            windows = every[torch.randint(len(every), (size,), generator=choose)]
            yield windows[:, :-1], windows[:, 1:]


@cache
def _bible() -> str:
    # The file is read by itself: the package's own module needs pkg_resources, which is no more.
    (folder,) = find_spec("bible").submodule_search_locations
    with (Path(folder) / "data/kjv.jsonl").open(encoding="utf-8") as verses:
        return "\n".join(json.loads(verse)["text"] for verse in verses)


@cache
def dataset(name: str) -> Digits | Text:
    """ "digits", or "text N" with N characters to train on."""
    kind, *characters = name.split()
    return Digits() if kind == "digits" else Text(*map(int, characters))
