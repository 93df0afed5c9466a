"""The declarations of bindings/jax/xla_ffi.h against XLA's own header, in the wheel of jaxlib."""

import shutil
import subprocess
from pathlib import Path

import jax
import pytest

FOLDER = Path(__file__).resolve().parents[3] / "bindings/jax"

# Ours and XLA's, with their fields.
STRUCTS = {
    ("xla_ffi_extension", "XLA_FFI_Extension_Base"): "struct_size type next",
    ("xla_ffi_version", "XLA_FFI_Api_Version"): (
        "struct_size extensions=extension_start major=major_version minor=minor_version"
    ),
    ("xla_ffi_metadata", "XLA_FFI_Metadata"): "struct_size version=api_version traits",
    ("xla_ffi_metadata_extension", "XLA_FFI_Metadata_Extension"): "base=extension_base metadata",
    ("xla_ffi_error_create_args", "XLA_FFI_Error_Create_Args"): (
        "struct_size extensions=extension_start message code=errc"
    ),
    ("xla_ffi_api", "XLA_FFI_Api"): (
        "struct_size extensions=extension_start version=api_version internal=internal_api"
        " error_create=XLA_FFI_Error_Create error_destroy=XLA_FFI_Error_Destroy"
        " thread_pool_schedule=XLA_FFI_ThreadPool_Schedule"
    ),
    ("xla_ffi_error_destroy_args", "XLA_FFI_Error_Destroy_Args"): (
        "struct_size extensions=extension_start error"
    ),
    ("xla_ffi_schedule_args", "XLA_FFI_ThreadPool_Schedule_Args"): (
        "struct_size extensions=extension_start context=ctx task data"
    ),
    ("xla_ffi_buffer", "XLA_FFI_Buffer"): (
        "struct_size extensions=extension_start dtype data rank dims"
    ),
    ("xla_ffi_operands", "XLA_FFI_Args"): (
        "struct_size extensions=extension_start size types values=args"
    ),
    ("xla_ffi_operands", "XLA_FFI_Rets"): (
        "struct_size extensions=extension_start size types values=rets"
    ),
    ("xla_ffi_scalar", "XLA_FFI_Scalar"): "dtype value",
    ("xla_ffi_span", "XLA_FFI_ByteSpan"): "data=ptr size=len",
    ("xla_ffi_attributes", "XLA_FFI_Attrs"): (
        "struct_size extensions=extension_start size types names values=attrs"
    ),
    ("xla_ffi_call_frame", "XLA_FFI_CallFrame"): (
        "struct_size extensions=extension_start api context=ctx stage arguments=args results=rets"
        " attributes=attrs"
    ),
}

CONSTANTS = {
    "XLA_FFI_EXTENSION_METADATA": "XLA_FFI_Extension_Metadata",
    "XLA_FFI_INVALID_ARGUMENT": "XLA_FFI_Error_Code_INVALID_ARGUMENT",
    "XLA_FFI_RESOURCE_EXHAUSTED": "XLA_FFI_Error_Code_RESOURCE_EXHAUSTED",
    "XLA_FFI_FAILED_PRECONDITION": "XLA_FFI_Error_Code_FAILED_PRECONDITION",
    "XLA_FFI_PRED": "XLA_FFI_DataType_PRED",
    "XLA_FFI_F16": "XLA_FFI_DataType_F16",
    "XLA_FFI_F32": "XLA_FFI_DataType_F32",
    "XLA_FFI_F64": "XLA_FFI_DataType_F64",
    "XLA_FFI_BF16": "XLA_FFI_DataType_BF16",
    "XLA_FFI_OPERAND_BUFFER": "XLA_FFI_ArgType_BUFFER",
    "XLA_FFI_OPERAND_BUFFER ": "XLA_FFI_RetType_BUFFER",
    "XLA_FFI_ATTRIBUTE_SCALAR": "XLA_FFI_AttrType_SCALAR",
}


@pytest.mark.skipif(not shutil.which("c++"), reason="no C++ compiler")
def test_declarations(tmp_path):
    lines = ['#include "xla_ffi.h"', "#include <xla/ffi/api/c_api.h>"]
    for (ours, theirs), fields in STRUCTS.items():
        for field in fields.split():
            our_field, _, their_field = field.partition("=")
            their_field = their_field or our_field
            for measure in "offsetof({}, {})", "sizeof((({} *)0)->{})":
                a, b = measure.format(ours, our_field), measure.format(theirs, their_field)
                lines.append(f'static_assert({a} == {b}, "{ours}.{our_field}");')
    for ours, theirs in CONSTANTS.items():
        lines.append(f'static_assert((int){ours} == (int){theirs}, "{ours}");')
    # The header of a call may grow at its end, and the frame is only read.
    for whole in "Buffer", "Args", "Rets", "Scalar", "ByteSpan", "Attrs":
        ours = next(ours for ours, theirs in STRUCTS if theirs == f"XLA_FFI_{whole}")
        lines.append(f'static_assert(sizeof({ours}) == sizeof(XLA_FFI_{whole}), "{ours}");')
    source = tmp_path / "declarations.cpp"
    source.write_text("\n".join(lines) + "\n")
    command = ["c++", "-std=c++17", "-fsyntax-only", f"-I{FOLDER}", f"-I{jax.ffi.include_dir()}"]
    done = subprocess.run([*command, source], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
