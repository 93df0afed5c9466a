#!/usr/bin/env python3
"""What the adapters to frameworks need, export and import: adapters.py path/to/their/folder"""

import re
import sys
from pathlib import Path

from elftools.elf.dynamic import DynamicSection
from elftools.elf.elffile import ELFFile
from library import FORBIDDEN

LARGEST = 64 * 1024
NEEDED = re.compile(r"liblayernorm\.so\.0|lib(c|m|dl)\.so\.\d|ld-linux-[\w-]+\.so\.\d+")
# What each framework, or the adapter's own part in Python, looks up by name.
EXPORTED = {
    "jax": {"layernorm_jax_forward", "layernorm_jax_backward"},
    "onnxruntime": {"RegisterCustomOps"},
    "torch": {
        f"layernorm_torch_{name}"
        for name in ("start", "install", "uninstall", "set_error", "cell_forward", "cell_backward")
    },
    "tvm_ffi": {
        f"__tvm_ffi_{add}{norm}_norm{backward}"
        for add in ("", "add_")
        for norm in ("layer", "rms")
        for backward in ("", "_backward")
    },
}
# These print nowhere. abort() stands where PyTorch's error has been thrown and nothing returns.
ALLOWED = {"snprintf", "vsnprintf"}
ALLOWED_IN = {"torch": {"abort"}}


def problems(framework: str, path: Path) -> list[str]:
    found = []
    with path.open("rb") as stream:
        elf = ELFFile(stream)
        dynamic = next(s for s in elf.iter_sections() if isinstance(s, DynamicSection))
        tags = list(dynamic.iter_tags())
        needed = [tag.needed for tag in tags if tag.entry.d_tag == "DT_NEEDED"]
        searched = [tag.runpath for tag in tags if tag.entry.d_tag == "DT_RUNPATH"]
        symbols = [s for s in elf.get_section_by_name(".dynsym").iter_symbols() if s.name]
    found += [f"needs {name}" for name in needed if not NEEDED.fullmatch(name)]
    if searched != ["$ORIGIN"]:
        found.append(f"looks for libraries in {searched}, not beside itself")
    imported = {s.name for s in symbols if s.entry.st_shndx == "SHN_UNDEF"}
    allowed = ALLOWED | ALLOWED_IN.get(framework, set())
    found += [f"imports {name}" for name in imported - allowed if FORBIDDEN.fullmatch(name)]
    exported = {s.name for s in symbols} - imported
    found += [f"exports {name}" for name in exported - EXPORTED[framework]]
    found += [f"does not export {name}" for name in EXPORTED[framework] - exported]
    size = path.stat().st_size
    if size >= LARGEST:
        found.append(f"has {size} bytes, {LARGEST} or more")
    print(f"{path.name}: {size} bytes, needs {', '.join(needed)}")
    return [f"{path.name} {problem}" for problem in found]


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    result = []
    for framework in EXPORTED:
        result += problems(framework, folder / f"liblayernorm_{framework}.so")
    for problem in result:
        print(f"FAILED: {problem}")
    sys.exit(bool(result))
