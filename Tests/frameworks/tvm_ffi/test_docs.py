"""The programs in docs/tvm-ffi.md, which go on one after the other."""

import re
import subprocess
import sys
from pathlib import Path

PAGE = Path(__file__).resolve().parents[3] / "docs/tvm-ffi.md"


def test_programs():
    programs = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert len(programs) == 2
    command = [sys.executable, "-c", "\n".join(programs)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "y has 12288 elements\n"
