"""Runs commands in turns and takes the medians of what they say or take."""

import json
import os
import pathlib
import statistics
import subprocess
import tempfile

PATIENCE = 600  # seconds for one command


class Failed(Exception):
    """A command that was to be measured did not work."""


def output_of(command, **options):
    """What the command prints; raises Failed when it does not end with 0."""
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          text=True, timeout=PATIENCE, check=False, **options)
    if done.returncode != 0:
        raise Failed(f"{' '.join(map(str, command))}: status {done.returncode}: {done.stderr.strip()[-500:]}")
    return done.stdout


def seconds_of(command, cwd=None, env=None):
    """How long the command takes, by hyperfine."""
    with tempfile.NamedTemporaryFile(suffix=".json") as result:
        output_of(["hyperfine", "--shell=none", "--runs", "1", "--warmup", "0", "--style", "none",
                   "--output", "null", "--export-json", result.name, command], cwd=cwd, env=env)
        return json.load(result)["results"][0]["mean"]


class Pair:
    """What was measured of two sides, round by round."""

    def __init__(self, name, unit, goal, goal_text, other="native", difference=False):
        self.name = name
        self.unit = unit
        self.goal = goal
        self.goal_text = goal_text
        self.other = other
        self.difference = difference  # the goal is for what is added, not for the ratio
        self.native = []
        self.served = []

    def add(self, native, served):
        self.native.append(native)
        self.served.append(served)

    def figure(self):
        """The ratio of the medians, or their difference."""
        native, served = statistics.median(self.native), statistics.median(self.served)
        if self.difference:
            return served - native
        return served / native

    def as_json(self):
        return {"name": self.name, "unit": self.unit, "other": self.other,
                "native": statistics.median(self.native), "served": statistics.median(self.served),
                "figure": self.figure(), "difference": self.difference, "goal": self.goal,
                "goal_text": self.goal_text, "native_rounds": self.native, "served_rounds": self.served}


def in_turns(pair, rounds, native, served):
    """Measures both sides `rounds` times, first the one, then the other first."""
    for turn in range(rounds):
        if turn % 2 == 0:
            one = native()
            two = served()
        else:
            two = served()
            one = native()
        pair.add(one, two)
    return pair


class Server:
    """A server with its pagers, that programs can be preloaded against."""

    def __init__(self, build, *options, group=None):
        """`options` are the server's; `group` is where it and its pagers belong."""
        self.build = pathlib.Path(build)
        self.directory = tempfile.TemporaryDirectory(prefix="bench-")
        self.socket = f"{self.directory.name}/server.sock"
        self.group = group
        self.parts = []
        self.server = self.start([self.build / "vmserver/vmserver", "--socket", self.socket, *options])
        for kind in ("anon", "file", "device"):
            self.start([self.build / f"pagers/pager-{kind}", f"--server={self.socket}", "--log-level=warning"])

    def start(self, command):
        ready, told = os.pipe()
        part = subprocess.Popen([*command, f"--ready-fd={told}"], pass_fds=[told], stdin=subprocess.DEVNULL,
                                preexec_fn=self.group.enter if self.group else None)
        os.close(told)
        self.parts.append(part)
        with os.fdopen(ready) as end:
            if end.read() != "ready\n":
                raise Failed(f"{command[0]} did not get ready")
        return part

    def environment(self):
        return {**os.environ, "LD_PRELOAD": str(self.build / "libshim/libvmshim.so"),
                "VMSHIM_SOCKET": self.socket}

    def resident_kib(self):
        for line in pathlib.Path(f"/proc/{self.server.pid}/status").read_text().splitlines():
            if line.startswith("RssAnon:"):
                return int(line.split()[1])
        raise Failed("the server has gone")

    def close(self):
        self.server.terminate()  # and with it its pagers
        for part in self.parts:
            part.wait(PATIENCE)
        self.directory.cleanup()

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.close()
