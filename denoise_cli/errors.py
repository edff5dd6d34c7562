"""Errors a user can cause; each message is one line saying what is wrong and how to mend it.

- DenoiseError (exit code 1)
    - UsageError (exit code 2)
        - DeviceError
    - UnreadableImage
    - UnwritableOutput
    - CheckpointError
    - NotEnoughMemory

A message about a file starts with its path: ``f"{path}: reason; mend"``.
"""

from __future__ import annotations


class DenoiseError(Exception):
    """Base of every error a user can cause."""

    exit_code = 1


class UsageError(DenoiseError):
    """A wrong option, an unknown name, an existing or colliding output."""

    exit_code = 2


class UnreadableImage(DenoiseError):
    """A picture is missing, damaged, empty or of an unsupported layout."""


class UnwritableOutput(DenoiseError):
    """The output cannot be stored: folder, disk, or a format that cannot hold it."""


class CheckpointError(DenoiseError):
    """Weights are missing, damaged, or do not fit the method."""


class NotEnoughMemory(DenoiseError):
    """Memory runs out, or more is needed than was allowed."""


class DeviceError(UsageError):
    """The device asked for is not there."""
