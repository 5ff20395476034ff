"""One side of a row: its script, run as it is or under vmrun."""

import json
import os
import pathlib
import shutil
import subprocess
import time

from . import processes


class Side:
    """What came of it. `tree`: the files it left. `statistics`: the server's,
    of a served side. `complaints`: what is wrong with this side alone."""

    def __init__(self, name):
        self.name = name
        self.status = None
        self.seconds = 0.0
        self.output = b""
        self.errors = b""
        self.tree = None
        self.statistics = {}
        self.complaints = []

    def complain(self, text):
        self.complaints.append(f"{self.name}: {text}")


def environment(row, scratch, runtime):
    """All that a row finds in its environment: no setting of whoever runs the matrix has a part in it."""
    variables = {
        "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": str(scratch),
        "TMPDIR": str(scratch),
        "LC_ALL": "C",
        "TZ": "UTC",
        "XDG_RUNTIME_DIR": str(runtime),
        "MATRIX": str(row.matrix),
        "SCRATCH": str(scratch),
    }
    # Not about what programs compute but about how they are served; both sides have it.
    variables.update({name: value for name, value in os.environ.items() if name.startswith("VMSHIM_")})
    return variables


def run_side(row, root, name, vmrun):
    """Runs it in root/work, which goes to root/NAME afterwards; served when there is a vmrun."""
    side = Side(name)
    work, scratch, runtime = (root / name for name in ("work", "scratch", "runtime"))
    for directory in (work, scratch, runtime):
        directory.mkdir()
    statistics = root / "statistics.json"
    command = ["/bin/bash", str(row.script)]
    if vmrun:
        command = [vmrun, *row.vmrun_options, "--stats", str(statistics), "--"] + command
    output = root / f"{side.name}.out"
    errors = root / f"{side.name}.err"
    with open(output, "wb") as out, open(errors, "wb") as err:
        began = time.monotonic()
        program = subprocess.Popen(command, cwd=work, env=environment(row, scratch, runtime),
                                   stdin=subprocess.DEVNULL, stdout=out, stderr=err,
                                   start_new_session=True)
        try:
            side.status = program.wait(row.timeout)
        except subprocess.TimeoutExpired:
            side.complain(f"not done after {row.timeout} s\n" + processes.describe(processes.descendants()))
            processes.end_all()
        side.seconds = time.monotonic() - began
    if left := processes.left_over():
        side.complain("left processes behind\n" + left)
    side.output = output.read_bytes()
    side.errors = errors.read_bytes()
    if vmrun:
        check_served(side, statistics, runtime)
    side.tree = root / side.name
    work.rename(side.tree)
    shutil.rmtree(scratch)
    shutil.rmtree(runtime)
    return side


def check_served(side, file, runtime):
    # The server ends by itself when it serves nobody any more, and its directory goes with it.
    if left := [str(path.relative_to(runtime)) for path in pathlib.Path(runtime).rglob("*")]:
        side.complain("the server's directory is left: " + " ".join(left))
    try:
        statistics = side.statistics = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        side.complain(f"no statistics: {error}")
        return
    finally:
        file.unlink(missing_ok=True)
    if statistics["calls"].get("mmap", 0) == 0:
        side.complain("no mmap was served")
    if statistics["faults"] == 0:
        side.complain("no fault was served")
    for counter in ("failed_faults", "sessions_rejected"):
        if statistics[counter] != 0:
            side.complain(f"{counter}: {statistics[counter]}")
