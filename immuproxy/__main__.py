"""``python -m immuproxy`` is the command ``immuproxy``."""

from immuproxy.cli import main

if __name__ == "__main__":
    main()
