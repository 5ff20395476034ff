"""The processes that a run leaves: whatever it started and did not end becomes this process's child."""

import ctypes
import os
import pathlib
import signal
import time

PR_SET_CHILD_SUBREAPER = 36
PATIENCE = 10  # seconds that what is ending may take


def adopt_orphans():
    """From now on, descendants whose parents end become children of this process."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")


def _parents():
    """pid -> (parent's pid, name, state) of every process."""
    found = {}
    for path in pathlib.Path("/proc").glob("[0-9]*/stat"):
        try:
            text = path.read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue  # it ended
        name, _, rest = text.partition("(")[2].rpartition(")")
        state, parent = rest.split()[:2]
        found[int(path.parent.name)] = (int(parent), name, state)
    return found


def descendants():
    """[(pid, name, state)] of all that come from this process; zombies that are its own are reaped."""
    while True:
        try:
            if os.waitpid(-1, os.WNOHANG)[0] == 0:
                break
        except ChildProcessError:
            break
    known = _parents()
    ours = {os.getpid()}
    grew = True
    while grew:
        more = {pid for pid, (parent, _, _) in known.items() if parent in ours} - ours
        ours |= more
        grew = bool(more)
    return [(pid, *known[pid][1:]) for pid in sorted(ours - {os.getpid()})]


def _command(pid):
    try:
        text = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ")
        return text.decode(errors="replace").strip()[:120]
    except OSError:
        return ""


def _waits_in(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/wchan").read_text()
    except OSError:
        return "?"


def describe(found):
    return "\n".join(f"  {pid} ({name}) {state}, in {_waits_in(pid)}: {_command(pid)}"
                     for pid, name, state in found)


def end_all():
    """Kills whatever is left."""
    deadline = time.monotonic() + PATIENCE
    while (left := descendants()) and time.monotonic() < deadline:
        for pid, _, _ in left:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        time.sleep(0.05)


def left_over():
    """Waits for what is ending; then a description of what has not ended, having killed that, or ''."""
    deadline = time.monotonic() + PATIENCE
    while (left := descendants()) and time.monotonic() < deadline:
        time.sleep(0.02)
    text = describe(left)
    end_all()
    return text
