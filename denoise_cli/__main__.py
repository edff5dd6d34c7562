"""`python -m denoise_cli` is `denoise`."""

from .cli import main

if __name__ == "__main__":  # the processes of --jobs import this file, too
    main()
