"""The programs in docs/torch.md and docs/recurrent.md."""

import re
import subprocess
import sys
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[3]


def program(page, first_line):
    """The program in a page that begins with a line."""
    programs = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / page).read_text(), re.DOTALL)
    (found,) = (each for each in programs if each.startswith(first_line))
    return found


def printed(program):
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_torch():
    sizes = "torch.Size([8, 64]) torch.Size([8, 64]) torch.Size([64])\n"
    assert printed(program("torch.md", "import torch\n")) == sizes


def test_recurrent():
    sizes = "torch.Size([4, 20, 64]) torch.Size([4, 4, 32]) torch.Size([32])\n"
    assert printed(program("recurrent.md", "import torch\n")) == sizes


def test_order_of_the_gates():
    names = {"torch": torch, "weight": torch.tensor([*map(ord, "fiog")])}
    exec(program("recurrent.md", "first, second"), names)
    assert "".join(map(chr, names["other"])) == "ifgo"
