r"""Faults as data: what goes wrong in the emulator, and at which calls of which operation.

A plan is plain JSON or TOML, so a plan that made one test fail can be pasted into another:

    {"seed": 7, "faults": [
        {"operation": "upsert", "nth": [2, 5], "action": "drop_after"},
        {"operation": "submit", "nth": 1, "action": "status", "code": 503, "after_commit": true},
        {"operation": "get", "table": "orders", "after": 1, "times": 3, "action": "stale_status"},
        {"operation": "*", "probability": 0.05, "action": "delay", "seconds": 0.2}]}

Each rule counts the calls that match it. For each call, the rules are checked in order, and only the first one that is
due acts; if none is due, the call is processed normally. Nothing here does I/O or waits, except that
`FaultPlan.from_file` reads its file. `http/fault_injection.py` carries out the actions.
"""

import dataclasses
import json
import random
import tomllib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple, Self

from pushengine.emulator.plan_data import FaultPlanError, at, require, require_amount, validated, without_defaults


class Operation(StrEnum):
    """The operations that a fault plan can name."""

    CREATE = "create"
    LIST = "list"
    GET = "get"
    SUBMIT = "submit"
    DELETE = "delete"
    UPSERT = "upsert"
    DELETE_ROWS = "delete_rows"
    LIST_CHUNKS = "list_chunks"
    TOKEN = "token"  # noqa: S105 - a name, not a secret
    DISCOVERY = "discovery"
    TEAM = "team"
    USER = "user"
    PERMISSIONS = "permissions"
    LIST_POOLS = "list_pools"
    GET_POOL = "get_pool"
    LIST_TABLES = "list_tables"
    LIST_COLUMNS = "list_columns"


ANY_OPERATION = "*"
_ALL_OPERATIONS = frozenset(Operation)
_JOB_OPERATIONS = frozenset(
    {
        Operation.GET,
        Operation.SUBMIT,
        Operation.DELETE,
        Operation.UPSERT,
        Operation.DELETE_ROWS,
        Operation.LIST_CHUNKS,
    }
)
_TABLE_OPERATIONS = _JOB_OPERATIONS | {Operation.CREATE}


# Actions


@dataclass(frozen=True)
class Action:
    """The effect of a fault on a call.

    Attributes:
        name: Name of the action in a plan: `"action": "<name>"`. The fields of the class are further keys of the rule.
        operations: The operations that the action can be applied to.
    """

    name: ClassVar[str]
    operations: ClassVar[frozenset[Operation]] = _ALL_OPERATIONS


@dataclass(frozen=True)
class Status(Action):
    """A response with this status, sent instead of processing the call or after processing it.

    Attributes:
        code: The status, from 200 to 599.
        body: JSON, plain text, or None for an empty body.
        headers: Headers to add.
        after_commit: Process the call first, then respond as if it had failed.
        after_bytes: Respond once this number of bytes of the request body was read; None reads the whole body.
    """

    name: ClassVar[str] = "status"
    code: int
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
    after_commit: bool = False
    after_bytes: int | None = None

    def __post_init__(self) -> None:
        require(200 <= self.code <= 599, "code", "must be between 200 and 599")  # noqa: PLR2004 - a 1xx status is not a final response
        require(
            not self.after_commit or self.after_bytes is None, "after_bytes", "cannot be combined with after_commit"
        )
        require_amount(self.after_bytes, "after_bytes")


@dataclass(frozen=True)
class RateLimit(Action):
    """A 429 response instead of processing the call; it spends no quota.

    Attributes:
        seconds: Seconds that the client should wait; every form but `bare` states them.
        form: How the response states the wait: `retry_after` and `retry_after_date` send a `Retry-After` header with seconds or an HTTP date,
            `x_ratelimit_reset` sends three headers, `body` gives a UTC time in the gateway's wording, and `bare` states nothing, as documented.
    """

    name: ClassVar[str] = "rate_limit"
    seconds: float = 1.0
    form: Literal["retry_after", "retry_after_date", "x_ratelimit_reset", "body", "bare"] = "bare"

    def __post_init__(self) -> None:
        require_amount(self.seconds, "seconds")


@dataclass(frozen=True)
class Delay(Action):
    """A wait before the body is read and the call is processed, or between processing and the response."""

    name: ClassVar[str] = "delay"
    seconds: float
    when: Literal["before", "after"] = "before"

    def __post_init__(self) -> None:
        require_amount(self.seconds, "seconds")


@dataclass(frozen=True)
class DropBefore(Action):
    """The connection is closed and the call is not processed.

    Attributes:
        after_bytes: Close once at least this number of bytes of the request body was read; None reads the whole body.
        reset: Close with a TCP reset instead of an orderly close.
    """

    name: ClassVar[str] = "drop_before"
    after_bytes: int | None = None
    reset: bool = True

    def __post_init__(self) -> None:
        require_amount(self.after_bytes, "after_bytes")


@dataclass(frozen=True)
class DropAfter(Action):
    """The call is processed, then the connection is closed without a response; `reset` closes with a TCP reset."""

    name: ClassVar[str] = "drop_after"
    reset: bool = False


@dataclass(frozen=True)
class CommitLate(Action):
    """The body is received and the connection closed; the call is processed `seconds` later, unless the emulator closes first."""

    name: ClassVar[str] = "commit_late"
    seconds: float
    reset: bool = True

    def __post_init__(self) -> None:
        require_amount(self.seconds, "seconds")


@dataclass(frozen=True)
class Duplicate(Action):
    """The call is processed twice, as if a proxy had repeated it; `answer` selects the response to send."""

    name: ClassVar[str] = "duplicate"
    answer: Literal["first", "last"] = "last"


@dataclass(frozen=True)
class Truncated(Action):
    """The call is processed; half of the response body is sent, then the connection is closed."""

    name: ClassVar[str] = "truncated"


@dataclass(frozen=True)
class Malformed(Action):
    """The call is processed; the response keeps its status and headers but has this body."""

    name: ClassVar[str] = "malformed"
    body: str = "<html><body>It works!</body></html>"


@dataclass(frozen=True)
class Empty(Action):
    """The call is processed; the response keeps its status and headers but has no body."""

    name: ClassVar[str] = "empty"


@dataclass(frozen=True)
class StaleStatus(Action):
    """The job is shown with this status, or with its previous one if `status` is None; nothing else changes."""

    name: ClassVar[str] = "stale_status"
    operations: ClassVar[frozenset[Operation]] = frozenset({Operation.GET, Operation.LIST})
    status: str | None = None


@dataclass(frozen=True)
class ExpireTokens(Action):
    """Every access token issued so far becomes invalid, including the one of this call; static keys stay valid."""

    name: ClassVar[str] = "expire_tokens"


@dataclass(frozen=True)
class Vanish(Action):
    """The job disappears, either before the call is processed or right after.

    Attributes:
        when: `before` or `after` the call is processed.
        runs: Whether the execution of a job that was already submitted still loads its rows.
    """

    name: ClassVar[str] = "vanish"
    operations: ClassVar[frozenset[Operation]] = _JOB_OPERATIONS
    when: Literal["before", "after"] = "before"
    runs: bool = True


ACTIONS: Mapping[str, type[Action]] = {action.name: action for action in Action.__subclasses__()}


# Rules


@dataclass(frozen=True)
class Call:
    """A request as the rules see it; `job_number` counts the jobs of the emulator in order of creation, from 1."""

    operation: Operation
    job_id: str | None = None
    job_number: int | None = None
    table: str | None = None


@dataclass(frozen=True)
class Fault:
    """One rule of a plan: an action, and the calls that it applies to.

    A call matches if its operation, job and table do. Without a limit, the rule acts on every matching call.

    Attributes:
        operation: An `Operation`, or `*` for all operations that the action can be applied to.
        action: What happens to the call.
        nth: Act only on these calls, counted from 1 among the matching calls.
        after: Number of matching calls, counted from the first, on which the rule never acts.
        every: Act only on every n-th of the matching calls that follow; 1 is every call.
        times: Act at most this number of times.
        probability: Act only with this probability, drawn from the seed of the plan.
        job: Match only calls on this job: its id, or its number in order of creation, from 1.
        table: Match only calls on jobs of this table; case is ignored.
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
        """The operations that the rule can apply to."""
        if self.operation != ANY_OPERATION:
            return frozenset({Operation(self.operation)})
        if self.job is not None:
            return self.action.operations & _JOB_OPERATIONS
        return self.action.operations & _TABLE_OPERATIONS if self.table is not None else self.action.operations

    def matches(self, call: Call) -> bool:
        """Return whether the rule counts the call: its operation, job and table match."""
        return (
            call.operation in self.operations
            and (self.job is None or self.job in {call.job_id, call.job_number})
            and (self.table is None or self.table.casefold() == (call.table or "").casefold())
        )

    def is_due(self, count: int) -> bool:
        """Return whether `nth`, `after` and `every` select the count-th matching call (from 1)."""
        if self.nth is not None:
            return count in ((self.nth,) if isinstance(self.nth, int) else self.nth)
        return count > self.after and (count - self.after) % self.every == 0

    def to_data(self) -> dict[str, Any]:
        """Return the rule as plain data for a plan; fields with their default value are omitted."""
        rule = without_defaults(self) | {"action": self.action.name}
        if isinstance(self.nth, tuple):
            rule["nth"] = list(self.nth)
        return rule | without_defaults(self.action)

    @classmethod
    def from_data(cls, data: Any) -> Self:
        """Parse one rule of a plan.

        Raises:
            FaultPlanError: The rule is malformed.
        """
        require(isinstance(data, Mapping), "fault", "must be an object")
        names = {rule_field.name for rule_field in dataclasses.fields(cls)}
        rule = {key: value for key, value in data.items() if key in names}
        kind = ACTIONS.get(rule["action"]) if isinstance(rule.get("action"), str) else None
        if kind is None:
            raise FaultPlanError(f"action: must be one of {', '.join(ACTIONS)}")
        rule["action"] = validated(kind, {key: value for key, value in data.items() if key not in names})
        return validated(cls, rule)

    def _check_calls(self) -> None:
        if self.nth is not None:
            numbers = (self.nth,) if isinstance(self.nth, int) else self.nth
            require(bool(numbers) and all(number >= 1 for number in numbers), "nth", "must name calls, counted from 1")
            require(self.after == 0 and self.every == 1, "nth", "cannot be combined with after or every")
        require_amount(self.after, "after")
        require(self.every >= 1, "every", "must be at least 1")
        require(self.times is None or self.times >= 1, "times", "must be at least 1")
        require(0.0 <= self.probability <= 1.0, "probability", "must be between 0 and 1")

    def _check_operation(self) -> None:
        known = [*Operation, ANY_OPERATION]
        require(self.operation in known, "operation", f"must be one of {', '.join(known)}")
        require(
            self.operations <= self.action.operations,
            "action",
            f"{self.action.name} cannot be applied to {self.operation}",
        )
        require(self.job is None or self.operations <= _JOB_OPERATIONS, "job", f"{self.operation} does not name a job")
        require(
            self.table is None or self.operations <= _TABLE_OPERATIONS,
            "table",
            f"{self.operation} does not name a table",
        )


@dataclass(frozen=True)
class FaultPlan:
    """An ordered list of rules, and the seed for their probabilities."""

    faults: Sequence[Fault] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "faults", tuple(self.faults))

    @property
    def reads_created_tables(self) -> bool:
        """Whether a rule needs the table of a create call, which only the body of the call contains."""
        return any(fault.table is not None and Operation.CREATE in fault.operations for fault in self.faults)

    def to_data(self) -> dict[str, Any]:
        """Return the plan as plain data."""
        seed = {"seed": self.seed} if self.seed else {}
        return seed | {"faults": [fault.to_data() for fault in self.faults]}

    def to_json(self) -> str:
        """Return the plan as JSON, one rule per line."""
        rules = ",\n".join(f"  {json.dumps(fault.to_data())}" for fault in self.faults)
        return f'{{"seed": {self.seed}, "faults": [\n{rules}\n]}}'

    @classmethod
    def from_data(cls, data: Any) -> Self:
        """Parse a plan from plain data; a list is taken as the rules of a plan with seed 0.

        Raises:
            FaultPlanError: The plan is malformed.
        """
        plan = {"faults": data} if isinstance(data, list) else data
        if not isinstance(plan, Mapping):
            raise FaultPlanError("a fault plan must be an object or a list")
        for key in plan:
            require(key in {"seed", "faults"}, key, "is unknown; a plan has only seed and faults")
        seed: Any = plan.get("seed", 0)
        rules: Any = plan.get("faults", [])
        require(isinstance(seed, int) and not isinstance(seed, bool), "seed", "must be a whole number")
        require(isinstance(rules, list), "faults", "must be a list")
        return cls([at(f"faults[{index}]", Fault.from_data, rule) for index, rule in enumerate(rules)], seed)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Parse a plan from JSON.

        Raises:
            FaultPlanError: The text is not JSON, or the plan is malformed.
        """
        try:
            data = json.loads(text)
        except ValueError as exc:
            raise FaultPlanError(f"the fault plan is not valid JSON: {exc}") from exc
        return cls.from_data(data)

    @classmethod
    def from_file(cls, path: str | Path) -> Self:
        """Read a plan from a file: TOML if its name ends in `.toml`, JSON otherwise.

        Raises:
            FaultPlanError: The content is malformed; the message starts with the path.
            OSError: The file cannot be read.
        """
        content = Path(path).read_bytes()
        try:
            text = content.decode("utf-8-sig")
            if Path(path).suffix.lower() == ".toml":
                return cls.from_data(tomllib.loads(text))
            return cls.from_json(text)
        except ValueError as exc:  # also FaultPlanError, TOMLDecodeError and UnicodeDecodeError
            raise FaultPlanError(f"{path}: {exc}") from exc


# A plan in use


class FiredFault(NamedTuple):
    """A fault that fired: the operation, the number of the call among those that match its rule, and the action."""

    operation: str
    nth: int
    action: str


class Faults:
    """A plan in use, with its counters and the faults that have fired so far.

    Attributes:
        plan: The plan.
        fired: The faults that have fired, in order.
        calls: Number of calls per operation, with or without a fault.
    """

    def __init__(self, plan: FaultPlan | None = None) -> None:
        self.plan = plan or FaultPlan()
        self.fired: list[FiredFault] = []
        self.calls: Counter[str] = Counter()
        self._rules = [_Rule(fault, f"{self.plan.seed}:{index}") for index, fault in enumerate(self.plan.faults)]

    def __repr__(self) -> str:
        return f"<Faults {len(self._rules)} rules, {self.calls.total()} calls, {len(self.fired)} fired>"

    def pick(self, call: Call) -> Action | None:
        """Count a call that arrives now, and return the action to apply to it, or None."""
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
        self._random = random.Random(seed)  # noqa: S311 - must be reproducible, not secure

    def wants(self) -> bool:
        fault = self.fault
        if not fault.is_due(self.count) or (fault.times is not None and self.fired >= fault.times):
            return False
        return fault.probability >= 1.0 or self._random.random() < fault.probability
