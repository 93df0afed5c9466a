#!/usr/bin/env python3
"""isa_objects.py finds what it is there to find: test_isa_objects.py OBJDUMP CC"""

import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

import isa_objects

WEAK = ".weak shared\nshared: {0}\nret\n"
GROUP = '.section .text.shared,"axG",@progbits,shared,comdat\nshared: {0}\nret\n'
SSE, AVX, AVX512 = "addps %xmm1, %xmm0", "vaddps %ymm1, %ymm0, %ymm0", "vaddps %zmm1, %zmm0, %zmm0"


class Detector(unittest.TestCase):
    objdump = cc = ""

    def problems(self, **sources: str) -> list[str]:
        """Of objects with these names, from assembly."""
        with tempfile.TemporaryDirectory() as folder:
            paths = []
            for name, source in sources.items():
                path = Path(folder, f"{name}.o")
                command = [self.cc, "-c", "-x", "assembler", "-o", path, "-"]
                subprocess.run(command, input=source, text=True, check=True)
                paths.append(path)
            return isa_objects.problems(self.objdump, paths)

    def finds(self, text: str, **sources: str) -> None:
        found = self.problems(**sources)
        self.assertEqual(len(found), 1, found)
        self.assertIn(text, found[0])

    def test_clean(self):
        own = "{1}: {0}\nret\n"
        clean = {
            "KernelsX8664": own.format(SSE, "a"),
            "KernelsX8664V3": own.format(AVX, "a"),
            "KernelsX8664V4": own.format(AVX512, "a"),
        }
        self.assertEqual(self.problems(**clean), [])

    def test_shared_weak_symbol(self):
        objects = {"KernelsX8664V3": WEAK.format(AVX), "KernelsX8664V4": WEAK.format(AVX512)}
        self.finds("share shared", **objects)
        objects = {"LayerNorm": WEAK.format(SSE), "KernelsX8664V4": WEAK.format(AVX512)}
        self.finds("share shared", **objects)

    def test_shared_group_of_local_symbols(self):
        objects = {"KernelsX8664": GROUP.format(SSE), "KernelsX8664V4": GROUP.format(AVX512)}
        self.finds("share shared", **objects)

    def test_shared_weak_symbol_without_vector_code(self):
        objects = {"KernelsX8664": WEAK.format(SSE), "KernelsX8664V4": WEAK.format("nop")}
        self.assertEqual(self.problems(**objects), [])

    def test_code_beyond_the_baseline(self):
        for line in (AVX, AVX512, "vaddss %xmm1, %xmm0, %xmm0", "shlx %eax, %ecx, %edx",
                     "roundps $0, %xmm0, %xmm0", "popcnt %eax, %eax"):
            for name in ("KernelsX8664", "LayerNorm"):
                with self.subTest(line, name=name):
                    self.finds("a has 1", **{name: f"a: {line}\nret\n"})
        lines = "cvtdq2ps %xmm0, %xmm1\npminsw %xmm0, %xmm1\nsqrtps %xmm0, %xmm0\nshll $1, %eax"
        self.assertEqual(self.problems(KernelsX8664=f"a: {lines}\nret\n"), [])

    def test_code_beyond_v3(self):
        for line in (AVX512, "vaddps %ymm16, %ymm0, %ymm0", "kmovw %eax, %k1"):
            with self.subTest(line):
                self.finds("a has 1", KernelsX8664V3=f"a: {line}\nret\n")


if __name__ == "__main__":
    Detector.objdump, Detector.cc = sys.argv[1:3]
    unittest.main(argv=sys.argv[:1])
