"""Counts the cases of the fault matrix and tells them at the end of the run, from all workers."""


def pytest_terminal_summary(terminalreporter):
    told = {"passed": [0, 0], "failed": [0, 0]}
    for outcome, counts in told.items():
        for report in terminalreporter.stats.get(outcome, []):
            for name, value in report.user_properties:
                if name == "fault_matrix_cases":
                    counts[0] += value
                    counts[1] += 1
    cases = told["passed"][0] + told["failed"][0]
    if cases:
        terminalreporter.write_line(
            f"fault matrix: {cases} cases over real HTTP, {told['failed'][1]} of"
            f" {told['passed'][1] + told['failed'][1]} groups failed"
        )
