"""The program in docs/onnxruntime.md, run as it stands there."""

import re
from pathlib import Path

from models import run_python

PAGE = Path(__file__).resolve().parents[3] / "docs" / "onnxruntime.md"


def test_program(tmp_path):
    (program,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    first, second = run_python(program, cwd=tmp_path).splitlines()
    assert first == "1 norm replaced by SkipLayerNormalization"
    assert float(second.removeprefix("the outputs differ by ")) < 1e-2
