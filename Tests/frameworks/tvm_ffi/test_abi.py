"""The declarations of bindings/tvm_ffi/tvm_ffi.h against the headers in the wheel of tvm-ffi."""

import shutil
import subprocess
from pathlib import Path

import pytest
import tvm_ffi

FOLDER = Path(__file__).resolve().parents[3] / "bindings/tvm_ffi"

# Ours and theirs, with their fields.
STRUCTS = {
    ("dl_tensor", "DLTensor"): (
        "data device device.type=device.device_type device.id=device.device_id ndim dtype"
        " dtype.code dtype.bits dtype.lanes shape strides byte_offset"
    ),
    ("tvm_ffi_object", "TVMFFIObject"): "type=type_index deleter",
    ("tvm_ffi_any", "TVMFFIAny"): (
        "type=type_index as_int=v_int64 as_float=v_float64 as_pointer=v_ptr as_pointer=v_obj"
    ),
    ("tvm_ffi_version", "TVMFFIVersion"): "major minor patch",
}

CONSTANTS = {
    "DL_CPU": "kDLCPU",
    "DL_CUDA_HOST": "kDLCUDAHost",
    "DL_ROCM_HOST": "kDLROCMHost",
    "DL_FLOAT": "kDLFloat",
    "DL_BFLOAT": "kDLBfloat",
    "TVM_FFI_NONE": "kTVMFFINone",
    "TVM_FFI_INT": "kTVMFFIInt",
    "TVM_FFI_FLOAT": "kTVMFFIFloat",
    "TVM_FFI_DL_TENSOR": "kTVMFFIDLTensorPtr",
    "TVM_FFI_TENSOR": "kTVMFFITensor",
}


@pytest.mark.skipif(not shutil.which("c++"), reason="no C++ compiler")
def test_declarations(tmp_path):
    # Both declare these two functions, by types of other names.
    lines = [
        "#include <cstddef>",
        "#define TVMFFIGetVersion our_version",
        "#define TVMFFIErrorSetRaisedFromCStr our_error",
        '#include "tvm_ffi.h"',
        "#undef TVMFFIGetVersion",
        "#undef TVMFFIErrorSetRaisedFromCStr",
        "#include <tvm/ffi/c_api.h>",
        "void (*error)(const char *, const char *) = TVMFFIErrorSetRaisedFromCStr;",
        "void (*version)(TVMFFIVersion *) = TVMFFIGetVersion;",
        "int (*call)(void *, const TVMFFIAny *, int32_t, TVMFFIAny *) = TVMFFISafeCallType();",
        "static_assert(offsetof(tvm_ffi_tensor, tensor) == sizeof(TVMFFIObject));",
    ]
    for (ours, theirs), fields in STRUCTS.items():
        lines.append(f"static_assert(sizeof({ours}) == sizeof({theirs}));")
        for field in fields.split():
            our_field, _, their_field = field.partition("=")
            their_field = their_field or our_field
            for measure in "offsetof({}, {})", "sizeof((({} *)0)->{})":
                a, b = measure.format(ours, our_field), measure.format(theirs, their_field)
                lines.append(f'static_assert({a} == {b}, "{ours}.{our_field}");')
    for ours, theirs in CONSTANTS.items():
        lines.append(f'static_assert((int){ours} == (int){theirs}, "{ours}");')
    source = tmp_path / "declarations.cpp"
    source.write_text("\n".join(lines) + "\n")
    folders = [
        FOLDER,
        tvm_ffi.libinfo.find_include_path(),
        tvm_ffi.libinfo.find_dlpack_include_path(),
    ]
    command = ["c++", "-std=c++17", "-fsyntax-only", *(f"-I{folder}" for folder in folders)]
    done = subprocess.run([*command, source], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
