"""The entry point of the command `acga`: it answers interrupts first, and imports the command only then."""

from __future__ import annotations

from pipeline import interrupts


def main() -> int:
    """Run the command of this process's arguments and return its exit code."""
    interrupts.answer()
    from pipeline import cli  # imported here because it takes a moment

    return cli.main()
