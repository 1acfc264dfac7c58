"""``python -m immuproxy`` is the command ``immuproxy``."""

from __future__ import annotations

from immuproxy.cli import main

if __name__ == "__main__":
    main()
