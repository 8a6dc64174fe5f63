"""What is passed in to the engine: time, chance, files and threads."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable

from pushengine.interfaces import FileSystem, OffLoop, Workers
from pushengine.runtime.clock import Clock


@dataclasses.dataclass(frozen=True, slots=True)
class Runtime:
    """What the engine does not make itself, so that a simulation can own it: time, chance, files and threads."""

    clock: Clock
    rng: random.Random
    filesystem: FileSystem
    off_loop: OffLoop
    new_workers: Callable[[], Workers]
