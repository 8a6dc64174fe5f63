r"""Faults as data: what goes wrong in the emulator, and at which calls of which operation.

A plan is plain JSON or TOML, so that one that made a test fail can be pasted into the next:

    {"seed": 7, "faults": [
        {"operation": "upsert", "nth": [2, 5], "action": "drop_after"},
        {"operation": "submit", "nth": 1, "action": "status", "code": 503, "after_commit": true},
        {"operation": "get", "table": "orders", "after": 1, "times": 3, "action": "stale_status"},
        {"operation": "*", "probability": 0.05, "action": "delay", "seconds": 0.2}]}

Each rule counts the calls that it matches. On each call the rules are asked in order, and the first that wants to acts,
alone; it may be that nobody does. Nothing here does I/O or waits, except that `FaultPlan.from_file` reads its file:
`http/fault_injection.py` carries the actions out.
"""

import dataclasses
import json
import random
import tomllib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple, Self, TypeVar

_T = TypeVar("_T")
_D = TypeVar("_D", bound="Action | Fault")


class Operation(StrEnum):
    """The operations a fault plan can name."""

    CREATE = "create"
    LIST = "list"
    GET = "get"
    SUBMIT = "submit"
    DELETE = "delete"
    UPSERT = "upsert"
    DELETE_ROWS = "delete_rows"
    LIST_CHUNKS = "list_chunks"
    TOKEN = "token"  # noqa: S105 - a name, not a secret
    TEAM = "team"


ANY_OPERATION = "*"
_EVERY = frozenset(Operation)
_OF_A_JOB = _EVERY - {Operation.CREATE, Operation.LIST, Operation.TOKEN, Operation.TEAM}
_WITH_A_TABLE = _OF_A_JOB | {Operation.CREATE}


class FaultPlanError(ValueError):
    """A plan that says something impossible, or something nobody knows; names the place."""


# Actions


@dataclass(frozen=True)
class Action:
    """What a fault does to a call; `name` is how a plan calls it.

    Attributes:
        name: In a plan: `"action": "<name>"`; the fields of the class are further keys of the rule.
        operations: The operations it can be done to.
    """

    name: ClassVar[str]
    operations: ClassVar[frozenset[Operation]] = _EVERY


@dataclass(frozen=True)
class Status(Action):
    """An answer with this status, instead of processing the call or although it was processed.

    Attributes:
        code: The status.
        body: JSON, a plain text, or None for an empty answer.
        headers: Headers to add.
        after_commit: Process the call first, then answer as if it had failed.
        after_bytes: Answer when this much of the request body was read; None reads all of it.
    """

    name: ClassVar[str] = "status"
    code: int
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
    after_commit: bool = False
    after_bytes: int | None = None

    def __post_init__(self) -> None:
        _require(200 <= self.code <= 599, "code", "must be between 200 and 599")  # noqa: PLR2004 - statuses that answer
        _require(not self.after_commit or self.after_bytes is None, "after_bytes", "makes no sense with after_commit")
        _require_amount(self.after_bytes, "after_bytes")


@dataclass(frozen=True)
class RateLimit(Action):
    """A 429 instead of processing; it spends no quota.

    Attributes:
        seconds: How long to wait, if the form tells.
        form: How it is told: `retry_after` and `retry_after_date` are that header with seconds or an HTTP date,
            `x_ratelimit_reset` the three `x-ratelimit-*` headers, `body` a UTC time in the gateway's words, and `bare`
            tells nothing, as documented.
    """

    name: ClassVar[str] = "rate_limit"
    seconds: float = 1.0
    form: Literal["retry_after", "retry_after_date", "x_ratelimit_reset", "body", "bare"] = "bare"

    def __post_init__(self) -> None:
        _require_amount(self.seconds, "seconds")


@dataclass(frozen=True)
class Delay(Action):
    """A wait before the body is read and the call processed, or between processing and the answer."""

    name: ClassVar[str] = "delay"
    seconds: float
    when: Literal["before", "after"] = "before"

    def __post_init__(self) -> None:
        _require_amount(self.seconds, "seconds")


@dataclass(frozen=True)
class DropBefore(Action):
    """The connection ends without the call being processed.

    Attributes:
        after_bytes: When this much of the request body was read, or a little more, as it comes in pieces; None reads
            all of it.
        reset: End it with a TCP reset rather than an orderly close.
    """

    name: ClassVar[str] = "drop_before"
    after_bytes: int | None = None
    reset: bool = True

    def __post_init__(self) -> None:
        _require_amount(self.after_bytes, "after_bytes")


@dataclass(frozen=True)
class DropAfter(Action):
    """The call is processed, then the connection ends without an answer, by an orderly close or a TCP reset."""

    name: ClassVar[str] = "drop_after"
    reset: bool = False


@dataclass(frozen=True)
class CommitLate(Action):
    """The body is received whole and the connection ended; the call is processed this much later.

    What is still to be processed when the emulator closes is dropped: it never happened.
    """

    name: ClassVar[str] = "commit_late"
    seconds: float
    reset: bool = True

    def __post_init__(self) -> None:
        _require_amount(self.seconds, "seconds")


@dataclass(frozen=True)
class Duplicate(Action):
    """The call is processed twice, as if a proxy had repeated it, and answered as the first or the last time."""

    name: ClassVar[str] = "duplicate"
    answer: Literal["first", "last"] = "last"


@dataclass(frozen=True)
class Truncated(Action):
    """The call is processed; of the answer half of the body is sent, then the connection is closed."""

    name: ClassVar[str] = "truncated"


@dataclass(frozen=True)
class Malformed(Action):
    """The call is processed and answered with its status and headers, but this body."""

    name: ClassVar[str] = "malformed"
    body: str = "<html><body>It works!</body></html>"


@dataclass(frozen=True)
class Empty(Action):
    """The call is processed and answered with its status, without a body."""

    name: ClassVar[str] = "empty"


@dataclass(frozen=True)
class StaleStatus(Action):
    """The job is shown with this status, or with the one before its present one; nothing else of it changes."""

    name: ClassVar[str] = "stale_status"
    operations: ClassVar[frozenset[Operation]] = frozenset({Operation.GET, Operation.LIST})
    status: str | None = None


@dataclass(frozen=True)
class ExpireTokens(Action):
    """Every access token issued so far is invalid from now on, that of this very call too; static keys are not."""

    name: ClassVar[str] = "expire_tokens"


@dataclass(frozen=True)
class Vanish(Action):
    """The job is gone, before the call is processed or right after.

    Attributes:
        when: `before` or `after`.
        runs: Whether an execution that has been started all the same loads its rows.
    """

    name: ClassVar[str] = "vanish"
    operations: ClassVar[frozenset[Operation]] = _OF_A_JOB
    when: Literal["before", "after"] = "before"
    runs: bool = True


ACTIONS: Mapping[str, type[Action]] = {action.name: action for action in Action.__subclasses__()}


# Rules


@dataclass(frozen=True)
class Call:
    """A request as the rules see it; `job_number` counts the jobs of the emulator from 1."""

    operation: Operation
    job_id: str | None = None
    job_number: int | None = None
    table: str | None = None


@dataclass(frozen=True)
class Fault:
    """One rule of a plan: an action, and the calls it happens to. Without any of the limits that is every call.

    Attributes:
        operation: An `Operation`, or `*` for each that the action can be done to.
        action: What happens.
        nth: Only at these calls, counted from 1 among those that match.
        after: Only at calls later than this many.
        every: Only at each so-many-th call, counted after `after`.
        times: At most so often.
        probability: Only with this probability, from the seed of the plan.
        job: Only calls on this job: its id, or its number in order of creation, from 1.
        table: Only calls on jobs of this table; case does not matter.
    """

    operation: str
    action: Action
    nth: int | Sequence[int] | None = None
    after: int = 0
    every: int = 1
    times: int | None = None
    probability: float = 1.0
    job: int | str | None = None
    table: str | None = None

    def __post_init__(self) -> None:
        if isinstance(self.nth, Sequence):
            object.__setattr__(self, "nth", tuple(self.nth))
        self._check_calls()
        self._check_operation()

    @property
    def operations(self) -> frozenset[Operation]:
        """The operations it can happen to."""
        if self.operation != ANY_OPERATION:
            return frozenset({Operation(self.operation)})
        if self.job is not None:
            return self.action.operations & _OF_A_JOB
        return self.action.operations & _WITH_A_TABLE if self.table is not None else self.action.operations

    def matches(self, call: Call) -> bool:
        """Whether the call is one to count."""
        return (
            call.operation in self.operations
            and (self.job is None or self.job in {call.job_id, call.job_number})
            and (self.table is None or self.table.casefold() == (call.table or "").casefold())
        )

    def is_due(self, count: int) -> bool:
        """Whether the count-th matching call is one that `nth`, `after` and `every` name."""
        if self.nth is not None:
            return count in ((self.nth,) if isinstance(self.nth, int) else self.nth)
        return count > self.after and (count - self.after) % self.every == 0

    def to_data(self) -> dict[str, Any]:
        """The rule as a plan writes it; what has its default is left out."""
        rule = _without_defaults(self) | {"action": self.action.name}
        if isinstance(self.nth, tuple):
            rule["nth"] = list(self.nth)
        return rule | _without_defaults(self.action)

    @classmethod
    def from_data(cls, data: Any) -> Self:
        """Read one rule of a plan.

        Raises:
            FaultPlanError: It is malformed.
        """
        _require(isinstance(data, Mapping), "fault", "must be an object")
        names = {rule_field.name for rule_field in dataclasses.fields(cls)}
        rule = {key: value for key, value in data.items() if key in names}
        kind = ACTIONS.get(rule["action"]) if isinstance(rule.get("action"), str) else None
        if kind is None:
            raise FaultPlanError(f"action: must be one of {', '.join(ACTIONS)}")
        rule["action"] = _validated(kind, {key: value for key, value in data.items() if key not in names})
        return _validated(cls, rule)

    def _check_calls(self) -> None:
        if self.nth is not None:
            numbers = (self.nth,) if isinstance(self.nth, int) else self.nth
            _require(bool(numbers) and all(number >= 1 for number in numbers), "nth", "counts from 1")
            _require(self.after == 0 and self.every == 1, "nth", "excludes after and every")
        _require_amount(self.after, "after")
        _require(self.every >= 1, "every", "must be at least 1")
        _require(self.times is None or self.times >= 1, "times", "must be at least 1")
        _require(0.0 <= self.probability <= 1.0, "probability", "must be between 0 and 1")

    def _check_operation(self) -> None:
        known = [*Operation, ANY_OPERATION]
        _require(self.operation in known, "operation", f"must be one of {', '.join(known)}")
        _require(
            self.operations <= self.action.operations, "action", f"{self.action.name} is impossible on {self.operation}"
        )
        _require(self.job is None or self.operations <= _OF_A_JOB, "job", f"{self.operation} names no job")
        _require(self.table is None or self.operations <= _WITH_A_TABLE, "table", f"{self.operation} names no table")


@dataclass(frozen=True)
class FaultPlan:
    """Rules in order, and the seed of their probabilities."""

    faults: Sequence[Fault] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "faults", tuple(self.faults))

    @property
    def reads_created_tables(self) -> bool:
        """Whether the table of a create call, which is in its body, has to be known."""
        return any(fault.table is not None and Operation.CREATE in fault.operations for fault in self.faults)

    def to_data(self) -> dict[str, Any]:
        """The plan as plain data."""
        seed = {"seed": self.seed} if self.seed else {}
        return seed | {"faults": [fault.to_data() for fault in self.faults]}

    def to_json(self) -> str:
        """The plan as JSON, one rule a line."""
        rules = ",\n".join(f"  {json.dumps(fault.to_data())}" for fault in self.faults)
        return f'{{"seed": {self.seed}, "faults": [\n{rules}\n]}}'

    @classmethod
    def from_data(cls, data: Any) -> Self:
        """Read a plan; a list is the rules of one with seed 0.

        Raises:
            FaultPlanError: It is malformed.
        """
        plan = {"faults": data} if isinstance(data, list) else data
        if not isinstance(plan, Mapping):
            raise FaultPlanError("a fault plan must be an object or a list")
        for key in plan:
            _require(key in {"seed", "faults"}, key, "is not known; a plan has seed and faults")
        seed: Any = plan.get("seed", 0)
        rules: Any = plan.get("faults", [])
        _require(isinstance(seed, int) and not isinstance(seed, bool), "seed", "must be a whole number")
        _require(isinstance(rules, list), "faults", "must be a list")
        return cls([_at(f"faults[{index}]", Fault.from_data, rule) for index, rule in enumerate(rules)], seed)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read a plan from JSON.

        Raises:
            FaultPlanError: It is malformed.
        """
        try:
            data = json.loads(text)
        except ValueError as exc:
            raise FaultPlanError(f"the fault plan is not valid JSON: {exc}") from exc
        return cls.from_data(data)

    @classmethod
    def from_file(cls, path: str | Path) -> Self:
        """Read a plan from a file: TOML if its name ends in `.toml`, else JSON.

        Raises:
            FaultPlanError: It is malformed; the message begins with the path.
            OSError: It cannot be read.
        """
        content = Path(path).read_bytes()
        try:
            text = content.decode("utf-8-sig")
            if Path(path).suffix.lower() == ".toml":
                return cls.from_data(tomllib.loads(text))
            return cls.from_json(text)
        except ValueError as exc:  # FaultPlanError, TOMLDecodeError and UnicodeDecodeError are
            raise FaultPlanError(f"{path}: {exc}") from exc


# A plan at work


class FiredFault(NamedTuple):
    """A fault that happened: on which operation, at which of the calls its rule counts, and what it did."""

    operation: str
    nth: int
    action: str


class Faults:
    """A plan at work, with what it has counted and done so far.

    Attributes:
        plan: The plan.
        fired: The faults that happened, in order.
        calls: Calls seen per operation, with or without fault.
    """

    def __init__(self, plan: FaultPlan | None = None) -> None:
        self.plan = plan or FaultPlan()
        self.fired: list[FiredFault] = []
        self.calls: Counter[str] = Counter()
        self._rules = [_Rule(fault, f"{self.plan.seed}:{index}") for index, fault in enumerate(self.plan.faults)]

    def __repr__(self) -> str:
        return f"<Faults {len(self._rules)} rules, {self.calls.total()} calls, {len(self.fired)} fired>"

    def pick(self, call: Call) -> Action | None:
        """Count a call that arrives now; what is to happen to it."""
        self.calls[call.operation.value] += 1
        matching = [rule for rule in self._rules if rule.fault.matches(call)]
        for rule in matching:
            rule.count += 1
        for rule in matching:
            if rule.wants():
                rule.fired += 1
                self.fired.append(FiredFault(call.operation.value, rule.count, rule.fault.action.name))
                return rule.fault.action
        return None


class _Rule:
    """A fault with its counters."""

    def __init__(self, fault: Fault, seed: str) -> None:
        self.fault = fault
        self.count = 0
        self.fired = 0
        self._random = random.Random(seed)  # noqa: S311 - chance that can be repeated

    def wants(self) -> bool:
        fault = self.fault
        if not fault.is_due(self.count) or (fault.times is not None and self.fired >= fault.times):
            return False
        return fault.probability >= 1.0 or self._random.random() < fault.probability


# Reading


def _require(condition: bool, where: str, message: str) -> None:  # noqa: FBT001 - reads as the sentence it is
    if not condition:
        raise FaultPlanError(f"{where}: {message}")


def _require_amount(value: float | None, where: str) -> None:
    _require(value is None or 0 <= value < float("inf"), where, "must not be negative or infinite")


def _at(where: str, parse: Callable[[Any], _T], data: Any) -> _T:
    try:
        return parse(data)
    except FaultPlanError as exc:
        raise FaultPlanError(f"{where}.{exc}") from None


def _validated(kind: type[_D], data: Mapping[str, Any]) -> _D:
    """An instance of a dataclass, every key and type checked."""
    # Heavy, and most emulators read no plan.
    from pydantic import ConfigDict, ValidationError, create_model  # noqa: PLC0415

    fields: dict[str, Any] = {known.name: (known.type, _model_default(known)) for known in dataclasses.fields(kind)}
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


def _without_defaults(instance: Any) -> dict[str, Any]:
    """The fields that differ from their defaults, except `action`."""
    fields = {known.name: known for known in dataclasses.fields(instance) if known.name != "action"}
    values = {name: getattr(instance, name) for name in fields}
    return {name: value for name, value in values.items() if value != _default(fields[name])}


def _default(known: dataclasses.Field[Any]) -> Any:
    return known.default_factory() if known.default_factory is not dataclasses.MISSING else known.default
