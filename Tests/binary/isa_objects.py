#!/usr/bin/env python3
"""No object that the library is linked from holds code beyond its own instruction set, and
no two of them share a function that holds vector code of more than the baseline.

    isa_objects.py OBJDUMP OBJECT...

The second is the trap in a library with several instruction sets: a function that is emitted out of
line as a weak symbol in each object is kept once by the linker, and if it is the one built for
AVX-512, an older CPU meets it in the baseline's code.
"""

import re
import subprocess
import sys
from pathlib import Path

from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

WIDE = re.compile(r"%[yz]mm\d")
# What only a CPU of x86-64-v4 has: 512 bits, sixteen more registers, masks.
EVEX = re.compile(r"%zmm\d|%[xy]mm(?:1[6-9]|2\d|3[01])\b|%k[0-7]\b")
# What a CPU of x86-64 alone lacks: VEX encodings (v...), and the scalar additions since. But for
# tzcnt: it is encoded as "rep bsf", which such a CPU runs as bsf, and compilers write it for that
# CPU where the operand is not zero, so that both give the same.
BEYOND_BASELINE = re.compile(
    r"\t(?:v(?!err|erw)\w+|andn|bextr|bls\w+|bzhi|mulx|pdep|pext|rorx|sarx|sh[lr]x|lzcnt\w?|"
    r"popcnt\w?|movbe\w?|crc32\w?|p(?:shufb|hadd\w+|min\w[bd]|max\w[bd]|mulld|test|extr[bdq]|"
    r"insr[bdq]|blend\w+|mov[sz]x\w+|cmp\w+q)|round[sp][sd]|blendv?p[sd]|dpp[sd])\b|" + EVEX.pattern
)
FUNCTION = re.compile(r"^[0-9a-f]+ <(.+)>:$")


def excess(object_name: str) -> re.Pattern[str]:
    """What may not stand in an object, by its name."""
    if "X8664V4" in object_name:
        return re.compile(r"(?!)")
    return EVEX if "X8664V3" in object_name else BEYOND_BASELINE


def functions(objdump: str, path: Path) -> dict[str, list[str]]:
    """The instructions of each function, as objdump writes them."""
    command = [objdump, "--disassemble", "--no-show-raw-insn", str(path)]
    listing = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found: dict[str, list[str]] = {}
    lines: list[str] = []
    for line in listing.splitlines():
        if match := FUNCTION.match(line):
            lines = found.setdefault(match[1], [])
        elif line.strip():
            lines.append(line)
    return found


def mergeable(path: Path) -> set[str]:
    """What the linker may take from another object instead: weak symbols and section groups."""
    names = set()
    with path.open("rb") as stream:
        elf = ELFFile(stream)
        for section in elf.iter_sections():
            if isinstance(section, SymbolTableSection):
                for symbol in section.iter_symbols():
                    weak = symbol.entry.st_info.bind in ("STB_WEAK", "STB_LOOS")
                    if weak and symbol.entry.st_shndx != "SHN_UNDEF":
                        names.add(symbol.name)
            if section.header.sh_type == "SHT_GROUP":
                symbols = elf.get_section(section.header.sh_link)
                names.add(symbols.get_symbol(section.header.sh_info).name)
    return names


def problems(objdump: str, paths: list[Path]) -> list[str]:
    found = []
    code = {path: functions(objdump, path) for path in paths}
    for path, named in code.items():
        pattern = excess(path.name)
        for name, lines in named.items():
            if bad := [line.strip() for line in lines if pattern.search(line)]:
                found.append(f"{path.name}: {name} has {len(bad)} such as: {bad[0]}")
    names = {path: mergeable(path) for path in paths}
    for first, path in enumerate(paths):
        for other in paths[first + 1 :]:
            for name in sorted(names[path] & names[other]):
                lines = code[path].get(name, []) + code[other].get(name, [])
                if any(WIDE.search(line) for line in lines):
                    found.append(f"{path.name} and {other.name} share {name}, with vector code")
    return found


def main() -> None:
    objdump, *objects = sys.argv[1:]
    paths = [Path(path) for path in objects]
    if len(paths) < 2:
        sys.exit("usage: isa_objects.py OBJDUMP OBJECT...")
    for path in paths:
        print(f"{path.name}: {len(functions(objdump, path))} functions")
    found = problems(objdump, paths)
    for problem in found:
        print(f"FAILED: {problem}")
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
