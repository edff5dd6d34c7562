"""`python -m denoise_cli` is `denoise`."""

from .cli import main

main()
