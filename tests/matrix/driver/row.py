"""A row: one shell script, and what it says about itself in its first comment."""

import pathlib
import re

DEFAULT_TIMEOUT = 120  # seconds for one side
SETTING = re.compile(r"^# (title|timeout|stderr|vmrun): +(.*\S) *$")


def row_names(matrix):
    return sorted(path.stem for path in (matrix / "rows").glob("*.sh"))


class Row:
    """`title`: the row's first column in the table. `timeout`: seconds for one side.
    `stderr`: False when standard error is not compared. `vmrun`: options for vmrun."""

    def __init__(self, matrix, name):
        self.name = name
        self.matrix = pathlib.Path(matrix)
        self.script = self.matrix / "rows" / f"{name}.sh"
        settings = self._settings()
        self.title = settings.get("title", name)
        self.timeout = int(settings.get("timeout", DEFAULT_TIMEOUT))
        self.compares_stderr = settings.get("stderr", "compared") == "compared"
        self.vmrun_options = settings.get("vmrun", "").split()

    def _settings(self):
        settings = {}
        for line in self.script.read_text(encoding="utf-8").splitlines():
            if not line.startswith("#"):
                break
            if match := SETTING.match(line):
                settings[match.group(1)] = match.group(2)
        return settings
