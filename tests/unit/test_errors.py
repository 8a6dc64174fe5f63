"""The error tree: the drawing that people read is the tree that code branches on."""

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
    """{class name: parent's name} as the docstring of errors.py draws it."""
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
    """A value for each argument that an error cannot be made without."""
    parameters = inspect.signature(error).parameters.values()
    return {
        one.name: ATTRIBUTES[one.name]
        for one in parameters
        if one.kind is one.KEYWORD_ONLY and one.default is one.empty
    }


def build(error):
    return error("what broke", hint="what to do", **required(error))


def test_the_drawing_is_the_tree():
    assert drawn_tree() == {error.__name__: error.__base__.__name__ for error in CLASSES}


@pytest.mark.parametrize("error", CLASSES, ids=lambda error: error.__name__)
def test_every_error_says_what_broke_and_what_to_do(error):
    raised = build(error)
    assert raised.message == "what broke"
    assert raised.hint == "what to do"
    assert str(raised) == "what broke (what to do)"
    assert raised.receipt is None


@pytest.mark.parametrize("error", CLASSES, ids=lambda error: error.__name__)
def test_every_error_keeps_what_it_was_given(error):
    raised = build(error)
    for name, value in required(error).items():
        assert getattr(raised, name) == value


@pytest.mark.parametrize("error", CLASSES, ids=lambda error: error.__name__)
def test_every_error_can_be_made_without_a_hint(error):
    assert str(error("what broke", **required(error))) == "what broke"


@pytest.mark.parametrize("error", CLASSES, ids=lambda error: error.__name__)
def test_every_error_survives_the_way_between_two_processes(error):
    raised = build(error)
    restored = pickle.loads(pickle.dumps(raised))
    assert (type(restored), str(restored), vars(restored)) == (error, str(raised), vars(raised))


def test_a_source_error_leads_with_the_place():
    raised = errors.SchemaError("too long", source="a.csv", position="row 7, column NAME", hint="cut it")
    assert str(raised) == "a.csv, row 7, column NAME: too long (cut it)"
    assert str(errors.SourceReadError("no rows", source="a.csv")) == "a.csv: no rows"


def test_the_dispositions_of_calls_are_these():
    calls = [error for error in CLASSES if issubclass(error, errors.TransportError | errors.ApiError)]
    assert {error.__name__: error.disposition for error in calls if error.disposition != "terminal"} == {
        "TransportError": "transient",
        "ConnectionFailedError": "transient",
        "RequestTimeoutError": "transient",
        "OutcomeUnknownError": "outcome_unknown",
        "RateLimitedError": "transient",
        "ServerError": "transient",
        "UnexpectedResponseError": "outcome_unknown",
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
def test_the_dispositions_of_pushes_are_these(error, disposition):
    assert build(error).disposition == disposition


@pytest.mark.parametrize("error", CLASSES, ids=lambda error: error.__name__)
@pytest.mark.parametrize("disposition", ["transient", "terminal", "outcome_unknown"])
def test_a_disposition_is_given_to_one_error_and_does_not_reach_the_next(error, disposition):
    assert error("what broke", disposition=disposition, **required(error)).disposition == disposition
    assert build(error).disposition == error.disposition


def raised_with_everything(error):
    """The error as it arrives somewhere: raised from another one, with a note and a receipt."""
    try:
        try:
            raise OSError(104, "reset")  # noqa: TRY301 - it needs a context
        except OSError as cause:
            raise build(error) from cause
    except PushEngineError as raised:
        raised.add_note("seen on the way")
        raised.receipt = "the receipt"
        return raised


@pytest.mark.parametrize("error", CLASSES, ids=lambda error: error.__name__)
def test_an_error_that_says_something_else_is_otherwise_the_same(error):
    raised = raised_with_everything(error)
    before = dict(vars(raised))
    other = raised.replace(message="what else broke", hint="", disposition="transient")
    assert (type(other), other.message, other.hint, other.disposition) == (error, "what else broke", "", "transient")
    assert "what else broke" in str(other)
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
        ("what else broke",),
    )


def test_what_is_not_replaced_stays():
    raised = errors.ServerError("broken", status=500, hint="wait", disposition="outcome_unknown")
    other = raised.replace()
    assert (str(other), other.disposition, other.status, other.args) == (
        "broken (wait)",
        "outcome_unknown",
        500,
        ("broken",),
    )


def assignments(tree):
    """(variable, attribute) of each attribute that some code sets, in any way."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store | ast.Del):
            yield ast.unparse(node.value), node.attr
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("setattr", "object.__setattr__"):
            yield ast.unparse(node.args[0]), ast.unparse(node.args[1]).strip("\"'")


def test_an_error_is_complete_when_it_is_made():
    """Whoever catches it later tells something else by an error of its own (`replace`): others may look at this one too."""
    package = Path(errors.__file__).parent
    found = {
        (str(path.relative_to(package)), variable, attribute)
        for path in package.rglob("*.py")
        for variable, attribute in assignments(ast.parse(path.read_text(encoding="utf-8")))
        if attribute in ("message", "hint", "disposition", "args") and variable != "self"
    }
    assert {found for found in found if found[0] != "errors.py"} == {
        ("celonis/error_mapping.py", "link", "message"),  # aiohttp's errors, which may hold what they were sent
        ("celonis/error_mapping.py", "link", "args"),
    }


def test_a_rate_limit_says_how_long():
    raised = errors.RateLimitedError("slow down", retry_after_seconds=30.0)
    assert (raised.status, raised.retry_after_seconds) == (429, 30.0)
