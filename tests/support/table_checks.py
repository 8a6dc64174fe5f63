"""Runs sequences of pushes on a stage and compares each table with the model after every one of them."""

import asyncio
import re
from collections import Counter

from support.table_model import TableModel


class Checker:
    """Pushes to a stage and to the model.

    Args:
        stage: `MemoryStage`, or another with the same methods.

    Attributes:
        outcomes: How many pushes ended how.
        last: Outcome of the last push into each table, by case-folded name.
    """

    def __init__(self, stage):
        self.stage = stage
        self.model = TableModel()
        self.outcomes = Counter()
        self.last = {}
        self._number = 0

    async def run(self, actions):
        """Run all actions. Return a sentence for everything that must not be so; the first action with a problem is the last one."""
        for number, action in enumerate(actions, 1):
            problems = await self.run_action(action)
            may_leave_job = action.kill_at > 0  # a process that dies before it notes its new job cannot delete it
            problems += self.stage.problems(may_leave_job=may_leave_job)
            if problems:
                return [f"action {number} ({action.kind}): {problem}" for problem in problems]
        return []

    def _source(self, step):
        self._number += 1
        return self.stage.write(step, f"night{self._number}")

    async def run_action(self, action):
        stage, first = self.stage, action.first
        spec = self._source(first)
        if action.kind == "alone":
            return await self.check(first, lambda: stage.push(first, spec))
        if action.kind == "killed":
            return await self.check(first, lambda: self._until_done(first, spec, action.kill_at))
        second = action.second
        other = self._source(second)
        before = stage.submits()
        if action.kind == "overtaken":
            killed = await stage.push(first, spec, stage.process(action.kill_at))
            outcomes = [killed, await stage.push(second, other)]
            if not (killed.receipt or killed.error):
                outcomes[0] = await self._until_done(first, spec)
        else:
            process = stage.process(action.kill_at or None)
            others = process if action.kind == "together" else stage.process()
            outcomes = await asyncio.gather(stage.push(first, spec, process), stage.push(second, other, others))
            if not (outcomes[0].receipt or outcomes[0].error):
                outcomes[0] = await self._until_done(first, spec)
        return await self._together([first, second], outcomes, before)

    async def _until_done(self, step, spec, kill_at=None):
        """Run a command in one process after another until none dies."""
        while True:
            outcome = await self.stage.push(step, spec, self.stage.process(kill_at))
            if outcome.receipt or outcome.error:
                return outcome
            kill_at = None

    async def check(self, step, push):
        """Make one push, into a table that no other push loads at the same time, and return what must not be so."""
        stage, model = self.stage, self.model
        expected = model.expect(step)
        submits = stage.submits(step.table)
        known = model.table(step.table)
        outcome = await push()
        sent = len(stage.submits(step.table)) - len(submits)
        self._count(step, outcome)
        self.last[step.table.casefold()] = outcome
        structure = await stage.structure(step.table)
        if outcome.error is not None:
            problems = refusal_problems(step, expected, outcome.error)
            problems += [f"refused after {sent} submits"] * bool(sent)
            return problems + await self._compare(step.table)
        problems = [f"loaded, but must be refused: {expected.problems}"] if expected.verdict == "refuse" else []
        is_empty = step.is_delta and not step.extract.rows
        problems += [f"{sent} submits"] * (sent != (not is_empty))
        if structure is not None:
            problems += model.apply(step, structure, expected=expected)
            if not is_empty:
                problems += told_problems(step, expected, known, structure, outcome.receipt)
        return [f"{problem}; {step}" for problem in problems] + await self._compare(step.table)

    # --- Two pushes

    async def _together(self, steps, outcomes, before):
        """Check two pushes that overlapped: those that are DONE count in the order of their submits."""
        stage = self.stage
        problems = []
        order = stage.submits()
        done = []
        for step, outcome in zip(steps, outcomes, strict=True):
            self._count(step, outcome)
            if outcome.receipt is not None and outcome.receipt.job_id is not None:
                done.append((order.index(outcome.receipt.job_id), step))
        done.sort(key=lambda one: one[0])
        if len(order) - len(before) != len(done):
            problems.append(f"{len(order) - len(before)} submits, {len(done)} pushes done")
        into_one = len({step.table.casefold() for step in steps}) == 1
        for place, step in done:
            structure = await stage.structure_after(order[place])
            if structure is not None:
                problems += self.model.apply(step, structure, is_alone=not into_one)
        problems = [f"{problem}; {steps}" for problem in problems]
        for step in steps:
            problems += [f"{problem}; {steps}" for problem in await self._compare(step.table)]
        return problems

    # --- Both

    def _count(self, step, outcome):
        self.outcomes["refused" if outcome.error else "done"] += 1
        self.outcomes[step.mode, "refused" if outcome.error else "done"] += 1

    async def _compare(self, name):
        """Compare a table with the model: its columns, its rows, and what is remembered of it."""
        table, structure = self.model.table(name), await self.stage.structure(name)
        if table is None or structure is None:
            return [] if table is None and structure is None else [f"table {name}: {structure}, expected {table}"]
        problems = []
        if structure != table.structure():
            problems.append(f"table {name} has {structure}, expected {table.structure()}")
        found = Counter(map(frozen, await self.stage.rows(name)))
        wanted = Counter(map(frozen, table.rows))
        if found != wanted:
            problems.append(f"table {name}: unexpected rows {dict(found - wanted)}, lost rows {dict(wanted - found)}")
        remembered = self.stage.remembered(name)
        if remembered != structure:
            problems.append(f"remembered {remembered}, table {name} has {structure}")
        return problems


def frozen(row):
    return tuple(sorted((name, type(value).__name__, value) for name, value in row.items()))


def refusal_problems(step, expected, error):
    """Return what is wrong with a refusal."""
    text = str(error)
    if expected.verdict == "load":
        return [f"refused, but must load: {type(error).__name__}: {text}; {step}"]
    problems = []
    if type(error).__module__ != "pushengine.errors" or not hasattr(error, "source"):
        problems.append(f"not an error about the source: {error!r}; {step}")
    elif not error.source:
        problems.append(f"the error names no source: {text}; {step}")
    columns = {name for problem in expected.problems for name in problem.columns}
    if not any(name in text for name in columns):
        problems.append(f"the error names none of {columns}: {text}; {step}")
    match = re.search(r"row (\d+)(?:.*?, column (.+))?$", getattr(error, "position", None) or "")
    if match:
        row, column = int(match[1]), match[2]
        places = [(problem.row, problem.columns) for problem in expected.problems]
        if not any(at in (row, None) and (column is None or column in names) for at, names in places):
            problems.append(f"the error names row {row}, column {column}; expected {places}: {text}; {step}")
    elif step.extract.is_text and all(problem.row is not None for problem in expected.problems):
        problems.append(f"the error names no row: {text}; {step}")
    return problems


def told_problems(step, expected, known, structure, receipt):
    """Return the changes of a table that its push did not report, or reported although there are none."""
    changes = [
        change for change in receipt.schema_changes if not change.startswith("keys: ")
    ]  # the model does not remember keys
    if known is None or step.mode == "delete":
        return [f"changes of a new table: {changes}"] * bool(known is None and changes)
    before = known.structure()
    changed = [column[0] for name, column in structure.items() if name not in before or before[name][1:] != column[1:]]
    changed += [
        column[0] for name, column in before.items() if name not in structure
    ]  # a replace drops what is left out
    lacking = [column.name for column in expected.missing] if step.extract.names else []
    left_out = [name for name in expected.new if name.casefold() not in structure]
    told = " ".join(changes).casefold()
    # That the source still lacks a column is not told again.
    valued = {name for row in known.rows for name, value in row.items() if value is not None}
    lost = [name for name in lacking if name.casefold() in valued]
    untold = [name for name in (*changed, *lost, *left_out) if name.casefold() not in told]
    problems = [f"not told: {untold}, told: {changes}"] * bool(untold)
    is_other_time = any(" in UTC" in change for change in changes)
    if changes and not (changed or lacking or left_out or is_other_time):
        problems.append(f"told {changes}, but nothing changed")
    if len(expected.new) == len(lacking) == 1 and not any("renamed" in note for note in receipt.notes):
        problems.append(
            f"{expected.missing} is gone and {expected.new} is new, but nothing asks whether it was renamed: {receipt.notes}"
        )
    return problems
