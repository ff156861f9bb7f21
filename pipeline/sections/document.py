"""Checks of JSON documents by models of pydantic, with one line for the first thing that is wrong."""

from __future__ import annotations

from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from data.wording import shown

Model = TypeVar("Model", bound=BaseModel)
LONGEST_PLACE = 120  # characters


class WrongDocument(ValueError):
    """Raised if a document does not fit its model; the message names the field, what was found and expected."""


def checked(model: type[Model], document: Any) -> Model:
    """Return a document of JSON as its model. Raises `WrongDocument`."""
    try:
        return model.model_validate(document)
    except ValidationError as error:
        failure = error.errors(include_url=False, include_context=False)[0]
    place = ".".join(str(part) for part in failure["loc"])[:LONGEST_PLACE] or "the document"
    said = failure["msg"].removeprefix("Value error, ")
    if failure["type"] == "value_error":
        raise WrongDocument(f"{place}: {said}")
    if failure["type"] == "missing":
        raise WrongDocument(f"{place} is missing")
    raise WrongDocument(f"{place} is {shown(failure['input'])}: {said[:1].lower()}{said[1:]}")
