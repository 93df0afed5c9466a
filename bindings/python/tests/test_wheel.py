"""The wheel: built from the checkout, installed and used where there is no Swift."""

import os
import subprocess
import sys
import venv
import zipfile
from email import message_from_bytes
from pathlib import Path

import layernorm
import pytest

ROOT = Path(__file__).resolve().parents[3]

FRAMEWORKS = sorted(path.parent.name for path in ROOT.glob("bindings/*/CMakeLists.txt"))
LIBRARIES = {"liblayernorm.so", *(f"liblayernorm_{name}.so" for name in FRAMEWORKS)}

USE = """
import ctypes, os, shutil, sys
import numpy as np
import layernorm
from importlib.metadata import version
from pathlib import Path

assert not shutil.which("swift") and not shutil.which("swiftc")
assert layernorm.library_path().startswith(sys.prefix), layernorm.library_path()
assert layernorm.__version__ == version("layernorm")
x = np.array([[1, 2, 3, 6]], np.float32)
y, mean, rstd = layernorm.layer_norm(x, eps=0.5, return_stats=True)
assert (layernorm.LayerNorm(eps=0.5)(x) == y).all()
for adapter in Path(layernorm.library_path()).parent.glob("liblayernorm_*.so"):
    ctypes.CDLL(os.fspath(adapter), os.RTLD_NOW)  # finds all that it needs
assert mean == 3 and np.allclose(rstd, 0.5) and np.allclose(y, [[-1, -0.5, 0, 1.5]])
print("used")
"""


def run(*command, **options):
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, **options
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "pip", "wheel", "--no-deps", "--wheel-dir", folder, ROOT)
    (path,) = folder.glob("*.whl")
    return path


def test_contents(wheel):
    name, version, python, abi, platform = wheel.stem.split("-")
    assert (name, version, python, abi) == ("layernorm", layernorm.__version__, "py3", "none")
    assert platform == f"linux_{os.uname().machine}"
    with zipfile.ZipFile(wheel) as archive:
        files = {info.filename: info.file_size for info in archive.infolist()}
        metadata = message_from_bytes(archive.read(f"layernorm-{version}.dist-info/METADATA"))
    source = Path(layernorm.__file__).parent
    package = {str(path.relative_to(source)) for path in source.rglob("*") if path.is_file()}
    inside = {name.split("/", 1)[1] for name in files if name.startswith("layernorm/")}
    assert inside == {name for name in package if "__pycache__" not in name} | LIBRARIES
    assert {name.split("/")[0] for name in files} == {
        "layernorm",
        f"layernorm-{version}.dist-info",
    }
    assert files["layernorm/liblayernorm.so"] < 1024 * 1024
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata.get_all("Requires-Dist")[0].startswith("numpy")


def test_in_a_new_environment_without_swift(wheel, tmp_path):
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / "bin" / "python"
    environment = {key: value for key, value in os.environ.items() if "PYTHON" not in key}
    environment = {k: v for k, v in environment.items() if not k.startswith("LAYERNORM")}
    run(python, "-m", "pip", "install", "--quiet", wheel, env=environment)
    environment["PATH"] = str(python.parent)
    assert run(python, "-c", USE, cwd=tmp_path, env=environment) == "used\n"
