import layernorm.tvm_ffi
import pytest


@pytest.fixture(scope="session")
def module():
    return layernorm.tvm_ffi.load()
