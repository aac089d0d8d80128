"""`python -m ota_cli` is `ota`."""

from .cli.main import main

if __name__ == "__main__":
    main()
