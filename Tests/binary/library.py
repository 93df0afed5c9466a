#!/usr/bin/env python3
"""What the shipped library needs, exports and imports: library.py path/to/liblayernorm.so"""

import re
import sys
from pathlib import Path

from elftools.elf.dynamic import DynamicSection
from elftools.elf.elffile import ELFFile
from elftools.elf.gnuversions import GNUVerDefSection, GNUVerSymSection

LARGEST = 1_000_000
SONAME = "liblayernorm.so.0"
VERSION_NODE = "LAYERNORM_0"
NEEDED = re.compile(r"lib[cm]\.so\.6|ld-linux-[\w-]+\.so\.\d+")
# A library prints nothing and ends no process. __stack_chk_fail is let be: the compiler's own, and
# reached only where the stack has been overwritten already.
FORBIDDEN = re.compile(
    r"abort|_*exit|_Exit|quick_exit|raise|kill|_*assert\w*|\w*terminate\w*|"
    r"\w*printf\w*|f?put[cs]\w*|putchar\w*|perror|f?write|stdin|stdout|stderr|_IO_\w+"
)


def problems(path: Path) -> list[str]:
    found = []
    with path.open("rb") as stream:
        elf = ELFFile(stream)
        dynamic = next(s for s in elf.iter_sections() if isinstance(s, DynamicSection))
        tags = list(dynamic.iter_tags())
        needed = [tag.needed for tag in tags if tag.entry.d_tag == "DT_NEEDED"]
        found += [f"needs {name}" for name in needed if not NEEDED.fullmatch(name)]
        if [tag.soname for tag in tags if tag.entry.d_tag == "DT_SONAME"] != [SONAME]:
            found.append(f"its SONAME is not {SONAME}")
        for tag in tags:
            if tag.entry.d_tag in ("DT_RPATH", "DT_RUNPATH", "DT_TEXTREL"):
                found.append(f"has {tag.entry.d_tag}")
        for segment in elf.iter_segments("PT_GNU_STACK"):
            if segment.header.p_flags & 1:
                found.append("wants an executable stack")
        found += symbol_problems(elf)
    size = path.stat().st_size
    if size >= LARGEST:
        found.append(f"has {size} bytes, {LARGEST} or more")
    print(f"{path.name}: {size} bytes, needs {', '.join(needed)}")
    return found


def symbol_problems(elf: ELFFile) -> list[str]:
    found = []
    sections = list(elf.iter_sections())
    versions = next((s for s in sections if isinstance(s, GNUVerSymSection)), None)
    definitions = next((s for s in sections if isinstance(s, GNUVerDefSection)), None)
    if versions is None or definitions is None:
        return ["its symbols have no versions"]
    names = {d.entry.vd_ndx: next(aux).name for d, aux in definitions.iter_versions()}
    exported = imported = 0
    for index, symbol in enumerate(elf.get_section_by_name(".dynsym").iter_symbols()):
        if not symbol.name:
            continue
        if symbol.entry.st_shndx == "SHN_UNDEF":
            imported += 1
            if FORBIDDEN.fullmatch(symbol.name):
                found.append(f"imports {symbol.name}")
        elif symbol.name != VERSION_NODE:
            exported += 1
            version = versions.get_symbol(index).entry.ndx
            if not symbol.name.startswith("layernorm_"):
                found.append(f"exports {symbol.name}")
            if isinstance(version, str) or names.get(version & 0x7FFF) != VERSION_NODE:
                found.append(f"exports {symbol.name} without the version {VERSION_NODE}")
    if exported == 0:
        found.append("exports nothing")
    print(f"{exported} symbols exported, {imported} imported")
    return found


if __name__ == "__main__":
    result = problems(Path(sys.argv[1]).resolve())
    for problem in result:
        print(f"FAILED: {problem}")
    sys.exit(bool(result))
