"""What tells the served side from the native one."""

import difflib
import filecmp
import json
import os
import shutil
import stat

MOST_LINES = 40  # of a difference that is printed


def _lines(text):
    return text.decode(errors="replace").splitlines()


def _text_difference(what, native, served):
    if native == served:
        return []
    lines = list(difflib.unified_diff(_lines(native[:1 << 20]), _lines(served[:1 << 20]),
                                      "native", "served", n=1, lineterm=""))
    if len(lines) > MOST_LINES:
        lines[MOST_LINES:] = [f"… {len(lines) - MOST_LINES} more lines"]
    return [f"{what} differs\n" + "\n".join(lines)]


def _below(tree):
    """Relative path -> lstat of everything in a tree."""
    found = {}
    for directory, names, files in os.walk(tree):
        for name in names + files:
            path = os.path.join(directory, name)
            found[os.path.relpath(path, tree)] = os.lstat(path)
    return found


def _kind(status):
    return stat.filemode(status.st_mode), status.st_uid, status.st_gid


def _tree_differences(native, served):
    a, b = _below(native), _below(served)
    complaints = [f"file {name}: only native" for name in sorted(a.keys() - b.keys())]
    complaints += [f"file {name}: only served" for name in sorted(b.keys() - a.keys())]
    for name in sorted(a.keys() & b.keys()):
        first, second = native / name, served / name
        if _kind(a[name]) != _kind(b[name]):
            complaints.append(f"file {name}: {_kind(a[name])} native, {_kind(b[name])} served")
        elif stat.S_ISLNK(a[name].st_mode):
            if os.readlink(first) != os.readlink(second):
                complaints.append(f"link {name} points elsewhere")
        elif stat.S_ISREG(a[name].st_mode) and not filecmp.cmp(first, second, shallow=False):
            sizes = f"{a[name].st_size} bytes native, {b[name].st_size} served"
            complaints.append(f"file {name} differs ({sizes})")
    if len(complaints) > MOST_LINES:
        complaints[MOST_LINES:] = [f"… {len(complaints) - MOST_LINES} more files"]
    return complaints


def differences(row, native, served):
    complaints = []
    if native.status != served.status:
        complaints.append(f"exit status {native.status} native, {served.status} served")
    elif native.status != 0:
        complaints.append(f"exit status {native.status} on both sides: a row has to succeed\n"
                          + native.errors.decode(errors="replace")[-2000:])
    complaints += _text_difference("standard output", native.output, served.output)
    if row.compares_stderr:
        complaints += _text_difference("standard error", native.errors, served.errors)
    elif complaints:
        complaints.append("served, standard error:\n" + served.errors.decode(errors="replace")[-2000:])
    return complaints + _tree_differences(native.tree, served.tree)


def keep(directory, native, served):
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    for side in (native, served):
        shutil.copytree(side.tree, directory / side.name, symlinks=True)
        (directory / f"{side.name}.out").write_bytes(side.output)
        (directory / f"{side.name}.err").write_bytes(side.errors)
    (directory / "statistics.json").write_text(json.dumps(served.statistics, indent=2) + "\n")
