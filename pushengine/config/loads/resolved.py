"""The loads of a config file with all their settings resolved: precedence applied, variables expanded, paths absolute."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

from pushengine.credentials import Credentials
from pushengine.model import Mode

Pick = Literal["newest", "all"]
CleanUp = Literal["leave", "move", "delete"]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where loads go.

    Attributes:
        name: Name of the target; `default` for `[connection]` and `[auth]`.
        credentials: None if none were asked for.
    """

    name: str
    url: str
    pool_id: str
    connection_id: str | None
    credentials: Credentials | None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class LoadSettings:
    """The effective settings of one load: of one table of a rule.

    Attributes:
        rule: Name of the rule.
        table: Table, as spelled.
        target: Name of the target.
        connection_id: Data connection; None means that of the target.
        mode: How the rows change the table.
        keys: Key columns.
        format: Format of the files; None means to go by their names.
        order_by: `duplicate_removal_column` of the push.
        options: All other keyword arguments of `PushEngine.push`: column types, text settings, guards, patience.
        pick: Which of several generations a replace loads.
        max_age: Age above which the newest generation counts as missing, seconds; None means any age.
        deadline: Time of day, in `timezone`, by which the load has to be done; None means none.
        cleanup: What happens to files after DONE.
        cleanup_dir: Folder for `move`; None means a folder `loaded` beside the files.
        control: Pattern of the control files (`config.patterns.SourcePattern`): a name beside the files, or an absolute path; None means none.
        loads_changed_files: In append, load a known path with new content whole (`changed_files = "load"`).
        loads_same_content: Load a content that is loaded already under another name (`same_content = "load"`).
        timezone: Time zone of `deadline`.
        priority: Submits of a higher priority leave first.
        retries: How often a load is tried again in one run after a temporary failure.
        tags: Words that `pushengine load --tag` selects by.
        daemon_keys: Keys that are set and need the daemon, such as `schedule`.
    """

    rule: str
    table: str
    target: str = "default"
    connection_id: str | None = None
    mode: Mode = "replace"
    keys: tuple[str, ...] = ()
    format: str | None = None
    order_by: str | None = None
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    pick: Pick = "newest"
    max_age: float | None = None
    deadline: dt.time | None = None
    timezone: dt.tzinfo = dt.UTC
    cleanup: CleanUp = "leave"
    cleanup_dir: Path | None = None
    control: str | None = None
    loads_changed_files: bool = False
    loads_same_content: bool = False
    priority: int = 0
    retries: int = 0
    tags: tuple[str, ...] = ()
    daemon_keys: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The name of the load: `sap.VBAP`."""
        return f"{self.rule}.{self.table}"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One `[[load]]`.

    Attributes:
        name: Its name, unique in the file.
        sources: Paths with placeholders (`config.patterns.SourcePattern`), absolute.
        table: The table of all its files; None if `{table}` in the sources names it.
        overrides: Tables with settings of their own, as spelled in `[load.tables.X]`.
        settings_for: Returns the effective settings of a table of this rule, which need not be among the overrides.
        tags: Its tags.
    """

    name: str
    sources: tuple[str, ...]
    table: str | None
    overrides: tuple[str, ...]
    settings_for: Callable[[str], LoadSettings]
    tags: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Loads:
    """All loads of a config file.

    Attributes:
        path: The config file.
        targets: The targets by name.
        rules: The rules, in the order of the file.
        parallel: How many loads read or upload at once.
        daemon_keys: Keys outside of rules that are set and need the daemon, such as `notify`.
    """

    path: Path
    targets: Mapping[str, Target]
    rules: tuple[Rule, ...]
    parallel: int = 8
    daemon_keys: tuple[str, ...] = ()
