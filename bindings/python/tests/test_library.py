"""The declarations against the header, and how the library is found, loaded and described."""

import os
import re
import shutil
import subprocess
import sys
from ctypes import c_char_p, c_double, c_int, c_int32, c_int64, c_size_t, c_uint64, c_void_p
from pathlib import Path

import layernorm
import pytest
from layernorm import _library

ROOT = Path(__file__).resolve().parents[3]
TEXT = (ROOT / "Include" / "layernorm.h").read_text()
CODE = re.sub(r"/\*.*?\*/", "", TEXT, flags=re.DOTALL)

TYPES = {
    "int64_t": c_int64,
    "int32_t": c_int32,
    "uint64_t": c_uint64,
    "size_t": c_size_t,
    "double": c_double,
    "layernorm_status": c_int,
    "layernorm_dtype": c_int,
    "layernorm_norm": c_int,
    "layernorm_cell": c_int,
    "layernorm_parallel_for": _library.ParallelFor,
}


@pytest.mark.parametrize(
    ("name", "declared"),
    [
        ("status", _library.Status),
        ("dtype", _library.DType),
        ("norm", _library.Norm),
        ("cell", _library.Cell),
    ],
)
def test_enums(name, declared):
    (body,) = re.findall(rf"typedef enum layernorm_{name} \{{(.*?)\}}", CODE, re.DOTALL)
    values = dict(re.findall(r"LAYERNORM_(\w+) = (\d+)", body))
    prefix = f"{name.upper()}_" if name in ("norm", "cell") else ""
    assert values == {prefix + member.name: str(member.value) for member in declared}


def test_flags():
    values = dict(re.findall(r"#define LAYERNORM_FLAG_(\w+) (\d+)u", CODE))
    assert values == {member.name: str(member.value) for member in _library.Flag}


@pytest.mark.parametrize(
    ("name", "declared"),
    [
        ("forward_args", _library.ForwardArgs),
        ("backward_args", _library.BackwardArgs),
        ("cell_forward_args", _library.CellForwardArgs),
        ("cell_backward_args", _library.CellBackwardArgs),
    ],
)
def test_structs(name, declared):
    (body,) = re.findall(rf"typedef struct layernorm_{name} \{{(.*?)\}}", CODE, re.DOTALL)
    fields = [
        (name, c_void_p if "*" in kind else TYPES[kind.strip()])
        for kind, name in re.findall(r"(\w[\w\s]*[\s*]+)(\w+);", body)
    ]
    assert fields == declared._fields_


@pytest.mark.parametrize("given", [None, {"x", "sum"}])
def test_packer(given):
    args, first, last = _library.ForwardArgs, "rows", "ada_slope"
    names = [name for name, _ in args._fields_]
    packed = names[names.index(first) :]
    values = {name: number for number, name in enumerate(packed, start=1)}
    if given is not None:
        values = {name: value for name, value in values.items() if name in given}
    data = _library.packer(args, first, last, given).pack(*values.values())
    assert bytes(args(**values))[getattr(args, first).offset :] == data


def test_prototypes():
    found = re.findall(r"^([\w ]+[\s*])(layernorm_\w+)\(([^()]*)\);", CODE, re.MULTILINE)
    declared = {name: (result, arguments) for result, name, arguments in found}
    everyday = {name for name in declared if re.search(r"_(f32|f64|f16|bf16)$", name)}
    assert declared.keys() - everyday == _library._PROTOTYPES.keys()
    for name, (result, arguments) in _library._PROTOTYPES.items():
        c_result, c_arguments = declared[name]
        assert result is (c_char_p if "*" in c_result else TYPES[c_result.strip()])
        kinds = []
        for argument in c_arguments.split(","):
            kind = argument.strip().rpartition(" ")[0] if argument.strip() != "void" else ""
            if re.search(r"layernorm_\w+_args", kind):
                kinds.append(c_char_p)
            elif "void" in kind:
                kinds.append(c_void_p)
            elif kind:
                kinds.append(TYPES[kind])
        assert arguments == kinds, name


def test_version_is_the_headers():
    numbers = [
        re.search(rf"#define LAYERNORM_VERSION_{part} (\d+)", TEXT)[1]
        for part in ("MAJOR", "MINOR", "PATCH")
    ]
    assert layernorm.__version__ == ".".join(numbers)


def run(code, **environment):
    return subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)} | environment,
        cwd="/",  # not where the tests run: -c looks for modules there first
        capture_output=True,
        text=True,
        check=False,
    )


def last_line(done):
    return (done.stderr.strip() or done.stdout.strip()).splitlines()[-1]


PRINT_PATH = "import layernorm; print(layernorm.library_path())"


@pytest.fixture
def package(tmp_path):
    """A copy of the package alone, away from the checkout."""
    shutil.copytree(
        Path(layernorm.__file__).parent,
        tmp_path / "site" / "layernorm",
        ignore=shutil.ignore_patterns("*.so", "__pycache__"),
    )
    return tmp_path / "site"


def test_library_is_not_found(package):
    done = run(PRINT_PATH, PYTHONPATH=str(package), LAYERNORM_LIBRARY="")
    assert last_line(done).startswith("ImportError: liblayernorm.so is not at ")
    assert str(package / "layernorm" / "liblayernorm.so") in last_line(done)


def test_library_of_another_folder_named_build_is_not_taken(package):
    (package / "build").mkdir()
    shutil.copy(layernorm.library_path(), package / "build" / "liblayernorm.so")
    done = run(PRINT_PATH, PYTHONPATH=str(package), LAYERNORM_LIBRARY="")
    assert last_line(done).startswith("ImportError: liblayernorm.so is not at ")


def test_library_beside_the_module_is_found(package):
    beside = package / "layernorm" / "liblayernorm.so"
    shutil.copy(layernorm.library_path(), beside)
    done = run(PRINT_PATH, PYTHONPATH=str(package), LAYERNORM_LIBRARY="")
    assert last_line(done) == str(beside)


def test_library_of_the_environment_comes_first(package, tmp_path):
    shutil.copy(layernorm.library_path(), package / "layernorm" / "liblayernorm.so")
    chosen = shutil.copy(layernorm.library_path(), tmp_path / "chosen.so")
    done = run(PRINT_PATH, PYTHONPATH=str(package), LAYERNORM_LIBRARY=str(chosen))
    assert last_line(done) == str(chosen)


@pytest.mark.parametrize("content", [None, b"not a library"])
def test_library_of_the_environment_that_cannot_be_loaded(tmp_path, content):
    path = tmp_path / "broken.so"
    if content is not None:
        path.write_bytes(content)
    done = run(PRINT_PATH, LAYERNORM_LIBRARY=str(path))
    assert last_line(done).startswith(f"ImportError: cannot load {path}")


@pytest.mark.parametrize("version", [99, 10000])
def test_library_of_a_version_that_does_not_fit(tmp_path, version):
    path = tmp_path / "other.so"
    source = f"int layernorm_version(void) {{ return {version}; }}"
    compiler = [os.environ.get("CC", "cc"), "-shared", "-fPIC", "-x", "c", "-", "-o", path]
    subprocess.run(compiler, input=source, text=True, check=True)
    done = run(PRINT_PATH, LAYERNORM_LIBRARY=str(path))
    assert re.match(rf"ImportError: {path} is liblayernorm \d\.\d\.\d+; this", last_line(done))


def test_isa():
    assert layernorm.isa() in {"x86-64", "x86-64-v3", "x86-64-v4", "portable"}


def test_isa_can_be_chosen():
    if layernorm.isa() == "portable":
        pytest.skip("there is one instruction set on this machine")
    done = run("import layernorm; print(layernorm.isa())", LAYERNORM_ISA="x86-64")
    assert last_line(done) == "x86-64"


def test_threads():
    default = layernorm.get_num_threads()
    assert default == len(os.sched_getaffinity(0))
    layernorm.set_num_threads(3)
    assert layernorm.get_num_threads() == 3
    layernorm.set_num_threads(0)
    assert layernorm.get_num_threads() == default


def test_import_starts_no_thread():
    code = "import numpy, os; before = len(os.listdir('/proc/self/task'))\n"
    code += "import layernorm; print(len(os.listdir('/proc/self/task')) - before)"
    assert last_line(run(code)) == "0"
