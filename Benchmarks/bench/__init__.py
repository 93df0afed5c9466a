"""Times liblayernorm beside other libraries and beside a copy of the same bytes, in one run."""
