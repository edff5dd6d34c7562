"""What all tests share: the same random numbers and few threads on every machine."""

import os

# Read by numerical libraries when they load; test processes are many and small.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pytest


@pytest.fixture(autouse=True)
def seed() -> None:
    np.random.seed(0)
