"""The tree of errors: its drawing in the docstring of errors.py matches the classes, and each error keeps what it is given."""

import ast
import inspect
import pickle
import re
from pathlib import Path

import pytest

from pushengine import errors
from pushengine.errors import PushEngineError

ATTRIBUTES = {"status": 418, "phase": "read", "job_id": "j", "path": "/p", "attempts": 3, "elapsed_seconds": 1.0}
CLASSES = sorted(
    (value for value in vars(errors).values() if inspect.isclass(value) and issubclass(value, PushEngineError)),
    key=lambda error: error.__name__,
)


def drawn_tree():
    """Return {class name: name of its parent} as drawn in the docstring of errors.py."""
    drawing = (errors.__doc__ or "").split("```")[1]
    parents, path = {}, []
    for line in drawing.splitlines():
        found = re.match(r"((?:│   |    |├── |└── )*)(\w+Error)\b", line)
        if found is None:
            continue
        depth = len(found[1]) // 4
        path[depth:] = [found[2]]
        parents[found[2]] = path[depth - 1] if depth else "Exception"
    return parents


def required(error):
    """Return a value for each required argument of an error class."""
    parameters = inspect.signature(error).parameters.values()
    return {
        one.name: ATTRIBUTES[one.name]
        for one in parameters
        if one.kind is one.KEYWORD_ONLY and one.default is one.empty
    }


def build(error):
    return error("what broke", hint="what to do", **required(error))


def test_the_drawn_tree_matches_the_classes():
    assert drawn_tree() == {error.__name__: error.__base__.__name__ for error in CLASSES}


@pytest.mark.parametrize("error", CLASSES, ids=lambda error: error.__name__)
def test_every_error_says_what_broke_and_what_to_do(error):
    raised = build(error)
    assert raised.message == "what broke"
    assert raised.hint == "what to do"
    assert str(raised) == "what broke (what to do)"
    assert raised.receipt is None


@pytest.mark.parametrize("error", CLASSES, ids=lambda error: error.__name__)
def test_every_error_keeps_its_attributes(error):
    raised = build(error)
    for name, value in required(error).items():
        assert getattr(raised, name) == value


@pytest.mark.parametrize("error", CLASSES, ids=lambda error: error.__name__)
def test_every_error_can_be_created_without_a_hint(error):
    assert str(error("what broke", **required(error))) == "what broke"


@pytest.mark.parametrize("error", CLASSES, ids=lambda error: error.__name__)
def test_every_error_survives_pickling_between_processes(error):
    raised = build(error)
    restored = pickle.loads(pickle.dumps(raised))
    assert (type(restored), str(restored), vars(restored)) == (error, str(raised), vars(raised))


def test_a_source_error_starts_with_its_position():
    raised = errors.SchemaError("too long", source="a.csv", position="row 7, column NAME", hint="cut it")
    assert str(raised) == "a.csv, row 7, column NAME: too long (cut it)"
    assert str(errors.SourceReadError("no rows", source="a.csv")) == "a.csv: no rows"


def test_the_dispositions_of_transport_and_api_errors():
    calls = [error for error in CLASSES if issubclass(error, errors.TransportError | errors.ApiError)]
    assert {error.__name__: error.disposition for error in calls if error.disposition != "terminal"} == {
        "TransportError": "transient",
        "ConnectionFailedError": "transient",
        "RequestTimeoutError": "transient",
        "OutcomeUnknownError": "outcome_unknown",
        "RateLimitedError": "transient",
        "ServerError": "transient",
        "UnexpectedResponseError": "outcome_unknown",
        "ForeignResponseError": "outcome_unknown",
    }


@pytest.mark.parametrize(
    ("error", "disposition"),
    [
        (errors.JobDeadlineError, "transient"),
        (errors.RetriesExhaustedError, "transient"),
        (errors.SubmitOutcomeUnknownError, "outcome_unknown"),
        (errors.JobFailedError, "terminal"),
        (errors.ConfigError, "terminal"),
        (errors.EngineClosedError, "terminal"),
    ],
)
def test_the_dispositions_of_other_errors(error, disposition):
    assert build(error).disposition == disposition


@pytest.mark.parametrize("error", CLASSES, ids=lambda error: error.__name__)
@pytest.mark.parametrize("disposition", ["transient", "terminal", "outcome_unknown"])
def test_a_disposition_given_to_one_error_does_not_affect_the_next(error, disposition):
    assert error("what broke", disposition=disposition, **required(error)).disposition == disposition
    assert build(error).disposition == error.disposition


def raised_with_everything(error):
    """Return an error as a caller catches it: raised from another error, with a note and a receipt."""
    try:
        try:
            raise OSError(104, "reset")  # noqa: TRY301 - the error needs a context
        except OSError as cause:
            raise build(error) from cause
    except PushEngineError as raised:
        raised.add_note("seen on the way")
        raised.receipt = "the receipt"
        return raised


@pytest.mark.parametrize("error", CLASSES, ids=lambda error: error.__name__)
def test_replace_changes_only_what_is_given(error):
    raised = raised_with_everything(error)
    before = dict(vars(raised))
    other = raised.replace(message="other message", hint="", disposition="transient")
    assert (type(other), other.message, other.hint, other.disposition) == (error, "other message", "", "transient")
    assert "other message" in str(other)
    assert "what to do" not in str(other)
    assert vars(raised) == before
    kept = {name: value for name, value in vars(other).items() if name not in ("message", "hint", "disposition")}
    assert kept == {name: value for name, value in before.items() if name not in ("message", "hint", "disposition")}
    for name in ("__cause__", "__context__", "__suppress_context__", "__traceback__", "receipt"):
        assert getattr(other, name) is getattr(raised, name)
    other.add_note("later")
    assert raised.__notes__ == ["seen on the way"]
    restored = pickle.loads(pickle.dumps(other))
    assert (type(restored), str(restored), vars(restored), restored.args) == (
        error,
        str(other),
        vars(other),
        ("other message",),
    )


def test_replace_without_arguments_changes_nothing():
    raised = errors.ServerError("broken", status=500, hint="wait", disposition="outcome_unknown")
    other = raised.replace()
    assert (str(other), other.disposition, other.status, other.args) == (
        "broken (wait)",
        "outcome_unknown",
        500,
        ("broken",),
    )


def assignments(tree):
    """Yield (variable, attribute) for each attribute that the code sets, in any way."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store | ast.Del):
            yield ast.unparse(node.value), node.attr
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("setattr", "object.__setattr__"):
            yield ast.unparse(node.args[0]), ast.unparse(node.args[1]).strip("\"'")


def test_an_error_is_complete_when_it_is_created():
    """Code that catches an error must not change it, because other code may hold it too. It creates its own with `replace`."""
    package = Path(errors.__file__).parent
    found = {
        (str(path.relative_to(package)), variable, attribute)
        for path in package.rglob("*.py")
        for variable, attribute in assignments(ast.parse(path.read_text(encoding="utf-8")))
        if attribute in ("message", "hint", "disposition", "args") and variable != "self"
    }
    assert {found for found in found if found[0] != "errors.py"} == {
        ("celonis/error_mapping.py", "link", "message"),  # aiohttp's errors, which may contain secrets
        ("celonis/error_mapping.py", "link", "args"),
    }


def test_a_rate_limit_carries_its_wait():
    raised = errors.RateLimitedError("slow down", retry_after_seconds=30.0)
    assert (raised.status, raised.retry_after_seconds) == (429, 30.0)
