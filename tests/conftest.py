"""What holds for the whole run: commands may keep their bytecode, and the cases of the fault matrix are summed over all workers."""

import os

# Hundreds of tests start commands. Where bytecode is not written, each of them would compile the project again.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)


def pytest_terminal_summary(terminalreporter):
    counts_by_outcome = {"passed": [0, 0], "failed": [0, 0]}
    for outcome, counts in counts_by_outcome.items():
        for report in terminalreporter.stats.get(outcome, []):
            for name, value in report.user_properties:
                if name == "fault_matrix_cases":
                    counts[0] += value
                    counts[1] += 1
    cases = counts_by_outcome["passed"][0] + counts_by_outcome["failed"][0]
    if cases:
        terminalreporter.write_line(
            f"fault matrix: {cases} cases over real HTTP, {counts_by_outcome['failed'][1]} of"
            f" {counts_by_outcome['passed'][1] + counts_by_outcome['failed'][1]} groups failed"
        )
