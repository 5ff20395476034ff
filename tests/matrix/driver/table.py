"""Times and results of rows, as lines to print and as the table of docs/programs.md."""

import os
import platform
import re
import statistics

BEGIN = "<!-- rows: scripts/programs writes these lines -->"
END = "<!-- end of rows -->"
HEAD = ["| row | program | native s | served s | ratio | faults served | result |",
        "| --- | --- | ---: | ---: | ---: | ---: | --- |"]


class Result:
    def __init__(self, row):
        self.row = row
        self.native = []
        self.served = []
        self.faults = []
        self.complaints = []

    def add(self, native, served, complaints):
        self.native.append(native.seconds)
        self.served.append(served.seconds)
        self.faults.append(served.statistics.get("faults", 0))
        self.complaints += complaints

    def _figures(self):
        native, served = statistics.median(self.native), statistics.median(self.served)
        return (f"{native:.2f}", f"{served:.2f}", f"{served / max(native, 0.001):.2f}",
                f"{statistics.median(self.faults):.0f}")

    def line(self):
        native, served, ratio, faults = self._figures()
        result = "FAILED" if self.complaints else "passed"
        return (f"{result}  {self.row.name:27} native {native:>7} s  served {served:>7} s  "
                f"ratio {ratio:>5}  faults {faults:>7}")

    def table_line(self):
        result = "**differs**" if self.complaints else "the same"
        return f"| {self.row.name} | {self.row.title} | " + " | ".join(self._figures()) + f" | {result} |"


def write(path, results):
    """Puts the results into the table, beside lines of rows that were not run."""
    text = path.read_text(encoding="utf-8")
    before, begin, rest = text.partition(BEGIN + "\n")
    inside, end, after = rest.partition(END)
    if not begin or not end:
        raise SystemExit(f"{path}: no table to write to")
    lines = dict(re.findall(r"^\| ([\w.-]+) (\| .*)$", inside, re.MULTILINE))
    lines.pop("row", None)
    lines.pop("---", None)
    lines = {name: f"| {name} {rest}" for name, rest in lines.items()}
    lines.update({result.row.name: result.table_line() for result in results})
    rounds = max(len(result.native) for result in results)
    taken = (f"Linux {platform.release().split('-')[0]}, {os.cpu_count()} CPUs; "
             + ("one round." if rounds == 1 else f"medians of {rounds} rounds."))
    body = "\n".join([taken, "", *HEAD, *(lines[name] for name in sorted(lines))])
    path.write_text(f"{before}{begin}\n{body}\n\n{end}{after}", encoding="utf-8")
