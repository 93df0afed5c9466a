"""A virtual environment in the checkout, which requirements files fill from PyPI."""

import re
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


class Environment:
    def __init__(self, name):
        self.folder = ROOT / name
        self.python = self.folder / "bin/python"
        self._pip = [self.python, "-m", "pip", "--disable-pip-version-check"]
        if not (self.folder / "bin/pip").exists():
            print(f"making {name}", flush=True)
            venv.create(self.folder, with_pip=True, clear=True)

    def install(self, name, requirements):
        """Installs what a requirements file lists, unless that was done since the file changed.
        Whether all is there. `name` is what needs it."""
        text = requirements.read_text()
        stamp = self.folder / "installed" / name
        if stamp.exists() and stamp.read_text() == text:
            return True
        print(f"installing what {name} needs into {self.folder.name}", flush=True)
        wanted = [line.split("#")[0].strip() for line in text.splitlines()]
        wanted = [self._without_cuda(line) for line in wanted if line]
        # Progress for a person; in a log, only what goes wrong.
        loudness = ["--progress-bar=on"] if sys.stdout.isatty() else ["--quiet"]
        if subprocess.run([*self._pip, "install", *loudness, *wanted]).returncode:
            return False
        stamp.parent.mkdir(exist_ok=True)
        stamp.write_text(text)
        return True

    def _without_cuda(self, line):
        """PyTorch's newest build for CPUs only, if there is one: others bring gigabytes of CUDA."""
        if not re.match(r"torch\b", line):
            return line
        listed = subprocess.run(
            [*self._pip, "index", "versions", "torch"], capture_output=True, text=True
        )
        found = re.search(r"[\d.]+\+cpu", listed.stdout)  # newest first
        return f"torch=={found[0]}" if found else line
