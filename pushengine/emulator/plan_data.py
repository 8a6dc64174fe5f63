"""Plain data of a fault plan: checks, and the conversion of mappings to dataclasses and back."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

_T = TypeVar("_T")


class FaultPlanError(ValueError):
    """A plan with an unknown or impossible entry; the message names its place in the plan."""


def require(condition: bool, where: str, message: str) -> None:  # noqa: FBT001 - reads like an assertion
    """Check a condition on the entry at `where`.

    Raises:
        FaultPlanError: The condition is false.
    """
    if not condition:
        raise FaultPlanError(f"{where}: {message}")


def require_amount(value: float | None, where: str) -> None:
    """Check that a number is finite and not negative; None passes.

    Raises:
        FaultPlanError: It is not.
    """
    require(value is None or 0 <= value < float("inf"), where, "must not be negative or infinite")


def at(where: str, parse: Callable[[Any], _T], data: Any) -> _T:
    """Parse a part of a plan.

    Raises:
        FaultPlanError: The part is malformed; the message starts with `where`.
    """
    try:
        return parse(data)
    except FaultPlanError as exc:
        raise FaultPlanError(f"{where}.{exc}") from None


def validated(kind: type[_T], data: Mapping[str, Any]) -> _T:
    """Build an instance of a dataclass from plain data, checking every key and type.

    Raises:
        FaultPlanError: A key is unknown or missing, or a value has the wrong type.
    """
    # Imported here because pydantic loads slowly and most emulators read no plan.
    from pydantic import ConfigDict, ValidationError, create_model  # noqa: PLC0415

    known_fields: tuple[dataclasses.Field[Any], ...] = dataclasses.fields(kind)  # type: ignore[arg-type]
    fields: dict[str, Any] = {known.name: (known.type, _model_default(known)) for known in known_fields}
    model = create_model(kind.__name__, __config__=ConfigDict(extra="forbid", strict=True), **fields)
    try:
        checked = model.model_validate(dict(data))
    except ValidationError as exc:
        problem = exc.errors()[0]
        where = ".".join(str(step) for step in problem["loc"])
        raise FaultPlanError(f"{where}: {problem['msg'][0].lower()}{problem['msg'][1:]}") from None
    return kind(**{name: getattr(checked, name) for name in checked.model_fields_set})


def _model_default(known: dataclasses.Field[Any]) -> Any:
    return ... if _default(known) is dataclasses.MISSING else _default(known)


def without_defaults(instance: Any) -> dict[str, Any]:
    """Return the fields that differ from their defaults, except `action`."""
    fields = {known.name: known for known in dataclasses.fields(instance) if known.name != "action"}
    values = {name: getattr(instance, name) for name in fields}
    return {name: value for name, value in values.items() if value != _default(fields[name])}


def _default(known: dataclasses.Field[Any]) -> Any:
    return known.default_factory() if known.default_factory is not dataclasses.MISSING else known.default
