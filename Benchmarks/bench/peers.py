"""The libraries: how each one's worker is built and started."""

import hashlib
import importlib.util
import os
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

BENCHMARKS = Path(__file__).resolve().parents[1]
ROOT = BENCHMARKS.parent
SOURCES = BENCHMARKS / "workers"
BUILD = ROOT / "build" / "benchmarks"

OURS, MEMCPY, STREAM = "liblayernorm", "memcpy", "stream"
PEERS = ["PyTorch", "oneDNN", "ONNX Runtime", "OpenVINO", "JAX"]


class MissingError(Exception):
    """A library is not installed, or its worker cannot be built."""


@dataclass
class Peer:
    name: str
    command: list
    environment: dict = field(default_factory=dict)

    @property
    def key(self):
        """The name as a file's."""
        return "".join(c if c.isalnum() else "-" for c in self.name)


def package(name):
    """The folder of an installed Python package, without importing it."""
    spec = importlib.util.find_spec(name)
    if spec is None:
        raise MissingError("not installed")
    return Path(spec.origin).parent


def one(folder, pattern):
    found = sorted(folder.glob(pattern))
    if not found:
        raise MissingError(f"no {pattern} among its files")
    return found[-1]


def compile_worker(source, flags=()):
    """The program made of worker.c and `source`; built again only where something has changed."""
    if not shutil.which((os.environ.get("CC") or "cc").split()[0]):
        raise MissingError("a C compiler is needed")
    cc, cxx = (
        shlex.split(os.environ.get(name, default))
        for name, default in (("CC", "cc"), ("CXX", "c++"))
    )
    common = ["-O3", "-march=native", "-fopenmp", "-Wall", "-Wextra", f"-I{ROOT / 'Include'}"]
    flags = [*flags, "-ldl", "-lm"]
    files = [
        SOURCES / "worker.h",
        SOURCES / "worker.c",
        SOURCES / source,
        ROOT / "Include/layernorm.h",
    ]
    digest = hashlib.sha256(repr((cc, cxx, common, flags)).encode())
    for file in files:
        digest.update(file.read_bytes())
    program = BUILD / f"{Path(source).stem}-{digest.hexdigest()[:16]}"
    if program.exists():
        return program
    BUILD.mkdir(parents=True, exist_ok=True)
    harness = program.with_suffix(".o")
    steps = [[*cc, "-std=gnu11", *common, "-c", SOURCES / "worker.c", "-o", harness]]
    compiler = [*cxx, "-std=c++20"] if source.endswith(".cpp") else [*cc, "-std=gnu11"]
    steps.append([*compiler, *common, SOURCES / source, harness, *flags, "-o", program])
    for step in steps:
        done = subprocess.run(step, capture_output=True, text=True)
        if done.returncode:
            errors = [line for line in done.stderr.splitlines() if "error" in line]
            raise MissingError(f"its worker does not compile: {(errors or ['no message'])[0]}")
    harness.unlink()
    return program


def linked(folder, *libraries):
    return [f"-L{folder}", *libraries, f"-Wl,-rpath,{folder}", "-Wl,--allow-shlib-undefined"]


def ours(name=OURS, library=ROOT / "build/liblayernorm.so", isa=None):
    library = Path(library).resolve()
    if not library.exists():
        raise MissingError(f"{library} does not exist: 'make build' makes it")
    environment = {"LAYERNORM_ISA": isa} if isa else {}
    return Peer(name, [compile_worker("ours.c"), library], environment)


def copy(kind):
    return Peer(kind, [compile_worker("copy.c"), kind])


def _pytorch():
    torch = package("torch")
    includes = [f"-I{torch / 'include'}", f"-I{torch / 'include/torch/csrc/api/include'}", "-w"]
    return [compile_worker("torch.cpp", includes + linked(torch / "lib", "-ltorch_cpu", "-lc10"))]


def _onednn():
    prefix = Path(sys.prefix)
    library = one(prefix / "lib", "libdnnl.so")
    return [
        compile_worker("onednn.c", [f"-I{prefix / 'include'}", *linked(library.parent, "-ldnnl")])
    ]


def _onnxruntime():
    package("onnx")  # makes the models
    return [compile_worker("onnxruntime.c"), one(package("onnxruntime"), "capi/libonnxruntime.so*")]


def _openvino():
    openvino = package("openvino")
    library = one(openvino, "libs/libopenvino_c.so*")
    flags = [f"-I{openvino / 'include'}", *linked(library.parent, f"-l:{library.name}")]
    return [compile_worker("openvino.c", flags)]


def _jax():
    package("jax")
    return [sys.executable, SOURCES / "jax_worker.py"]


_COMMANDS = {
    "PyTorch": _pytorch,
    "oneDNN": _onednn,
    "ONNX Runtime": _onnxruntime,
    "OpenVINO": _openvino,
    "JAX": _jax,
}


def peer(name):
    return Peer(name, _COMMANDS[name]())
