"""What every body of the web APIs is made of: objects without unknown fields, checked in bounded time."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, model_validator
from pydantic_core import PydanticCustomError

MOST_FIELDS = 100
"""Of an object. Each unknown one is an error of its own, which takes time and memory."""


class Body(BaseModel):
    """A request's body, or an object in it. A number in quotes is no number, a name that is not listed is an error."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _read(cls, body: Any) -> Any:
        if not isinstance(body, dict):
            return body
        if len(body) > MOST_FIELDS:
            raise PydanticCustomError("too_many_fields", "more than {most} fields in one object", {"most": MOST_FIELDS})
        return {name: value for name, value in body.items() if not cls._says_nothing(name, value)}

    @classmethod
    def _says_nothing(cls, name: str, value: Any) -> bool:
        """Whether a field counts as not given."""
        return False
