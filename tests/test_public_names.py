"""The public names are exactly these, and importing the package alone is cheap."""

import subprocess
import sys

import pytest

import denoise_cli

NAMES = ["Denoiser", "Image", "__version__", "denoise", "read", "write"]


def test_all_is_exactly_the_public_names():
    assert sorted(denoise_cli.__all__) == sorted(NAMES)
    assert sorted(dir(denoise_cli)) == sorted(NAMES)


def test_each_name_is_what_it_says():
    from denoise_cli import denoiser, image, io

    assert denoise_cli.Denoiser is denoiser.Denoiser
    assert denoise_cli.denoise is denoiser.denoise
    assert denoise_cli.Image is image.Image
    assert denoise_cli.read is io.read
    assert denoise_cli.write is io.write


def test_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'Denoizer'"):
        _ = denoise_cli.Denoizer


def test_importing_the_package_imports_nothing_heavy():
    code = "import sys, denoise_cli; print([m for m in ('torch', 'numpy') if m in sys.modules])"
    output = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert output.stdout.strip() == "[]"
