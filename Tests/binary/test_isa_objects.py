"""isa_objects.py finds what it is there to find. The tools are named by OBJDUMP and CC."""

import os
import subprocess

import isa_objects
import pytest

OWN = "own: {0}\nret\n"
WEAK = ".weak shared\nshared: {0}\nret\n"
GROUP = '.section .text.shared,"axG",@progbits,shared,comdat\nshared: {0}\nret\n'
SSE, AVX, AVX512 = "addps %xmm1, %xmm0", "vaddps %ymm1, %ymm0, %ymm0", "vaddps %zmm1, %zmm0, %zmm0"

BEYOND_V3 = (AVX512, "vaddps %ymm16, %ymm0, %ymm0", "kmovw %eax, %k1")
BEYOND_BASELINE = (
    *BEYOND_V3,
    AVX,
    "vaddss %xmm1, %xmm0, %xmm0",
    "vfmadd213ss %xmm1, %xmm0, %xmm0",
    "shlx %eax, %ecx, %edx",
    "roundps $0, %xmm0, %xmm0",
    "popcnt %eax, %eax",
    "lzcnt %eax, %eax",
)
BASELINE = (SSE, "cvtdq2ps %xmm0, %xmm1", "pminsw %xmm0, %xmm1", "sqrtps %xmm0, %xmm0", "shll %eax")
BASELINE += ("rep bsf %eax, %ecx",)


@pytest.fixture
def problems(tmp_path):
    """What is found in objects with these names, made from this assembly."""

    def find(**sources: str) -> list[str]:
        paths = [tmp_path / f"{name}.o" for name in sources]
        for path, source in zip(paths, sources.values(), strict=True):
            command = [os.environ["CC"], "-c", "-x", "assembler", "-o", path, "-"]
            subprocess.run(command, input=source, text=True, check=True)
        return isa_objects.problems(os.environ["OBJDUMP"], paths)

    return find


def test_each_object_within_its_own(problems):
    objects = {"KernelsX8664": SSE, "KernelsX8664V3": AVX, "KernelsX8664V4": AVX512}
    assert problems(**{name: OWN.format(line) for name, line in objects.items()}) == []


@pytest.mark.parametrize("shared", [WEAK, GROUP])
@pytest.mark.parametrize(
    ("other", "line"), [("KernelsX8664V3", AVX), ("KernelsX8664", SSE), ("LayerNorm", SSE)]
)
def test_a_shared_function_with_vector_code(problems, shared, other, line):
    (found,) = problems(**{other: shared.format(line), "KernelsX8664V4": shared.format(AVX512)})
    assert "share shared" in found


def test_a_shared_function_without_vector_code(problems):
    assert problems(KernelsX8664=WEAK.format(SSE), KernelsX8664V4=WEAK.format("nop")) == []


@pytest.mark.parametrize("name", ["KernelsX8664", "LayerNorm"])
@pytest.mark.parametrize("line", BEYOND_BASELINE)
def test_code_beyond_the_baseline(problems, name, line):
    (found,) = problems(**{name: OWN.format(line)})
    assert "own has 1" in found


@pytest.mark.parametrize("line", BASELINE)
def test_code_of_the_baseline(problems, line):
    assert problems(KernelsX8664=OWN.format(line)) == []


@pytest.mark.parametrize("line", BEYOND_V3)
def test_code_beyond_v3(problems, line):
    (found,) = problems(KernelsX8664V3=OWN.format(line))
    assert "own has 1" in found
