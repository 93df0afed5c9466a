import layernorm
import pytest
from hypothesis import settings

# The same examples in every run; no deadline, for the machine may be busy.
settings.register_profile("layernorm", derandomize=True, deadline=None)
settings.load_profile("layernorm")


@pytest.fixture(autouse=True)
def _default_threads():
    yield
    layernorm.set_num_threads(0)
