"""What all comparisons do: those that are compared take turns."""

from collections.abc import Sequence
from typing import TypeVar

_Some = TypeVar("_Some")


def in_turn(all_of_them: Sequence[_Some], number: int) -> Sequence[_Some]:
    """In which order they have their turns in a round: who goes first alternates with the rounds' numbers."""
    return all_of_them[::-1] if number % 2 else all_of_them
