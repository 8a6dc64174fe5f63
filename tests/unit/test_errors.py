"""The error tree: the drawing that people read is the tree that code branches on."""

import inspect
import pickle
import re

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


def test_a_disposition_set_on_one_error_does_not_reach_the_next():
    raised = errors.ServerError("broken", status=500)
    raised.disposition = "outcome_unknown"
    assert errors.ServerError("broken", status=500).disposition == "transient"


def test_a_rate_limit_says_how_long():
    raised = errors.RateLimitedError("slow down", retry_after_seconds=30.0)
    assert (raised.status, raised.retry_after_seconds) == (429, 30.0)
