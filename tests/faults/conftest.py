"""What the long form found, as the table of docs/reliability.md."""


def pytest_terminal_summary(terminalreporter):
    rows = [
        value
        for report in terminalreporter.stats.get("passed", [])
        for name, value in report.user_properties
        if name == "faults"
    ]
    if rows:
        terminalreporter.section("faults")
        terminalreporter.line("| fault | tried | survived | seconds lost, median (most) |")
        terminalreporter.line("|---|---|---|---|")
        for row in sorted(rows):
            terminalreporter.line(f"| {row} |")
