"""How many submits fall into one window of the quota."""

import bisect
import math
from collections import Counter


def most_in_any_second(times):
    """Return the largest number of times, in seconds, within any window of one second."""
    times = sorted(times)
    return max((bisect.bisect_left(times, start + 1.0) - index for index, start in enumerate(times)), default=0)


def most_in_any_hour(times):
    """Return the largest number of times, in seconds UTC, within one hour of the clock."""
    return max(Counter(math.floor(time / 3600.0) for time in times).values(), default=0)
