"""What all tests share: the same random numbers and few threads on every machine."""

import os

# Read by numerical libraries when they load; test processes are many and small.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Nobody's own checkpoints take part, and nothing is downloaded but from the tests' server.
os.environ["DENOISE_CACHE"] = os.path.join(os.path.dirname(__file__), "no-such-cache")
os.environ["DENOISE_OFFLINE"] = "1"
os.environ.pop("DENOISE_WEIGHTS_URL", None)

import numpy as np
import pytest


@pytest.fixture(autouse=True)
def seed() -> None:
    np.random.seed(0)
