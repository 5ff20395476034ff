"""Prints what was measured, and compares it with what was measured before."""

import statistics

WORSE = 1.10


def number(value):
    if value >= 100:
        return f"{value:.0f}"
    return f"{value:.3g}" if value >= 0.001 else "0"


def figure(pair):
    if pair.difference:
        return f"+{number(max(0, pair.figure()))} {pair.unit}"
    return f"{pair.figure():.2f}"


def lines(pairs):
    yield "| what | against | unit | there | served | figure | goal | |"
    yield "| --- | --- | --- | --- | --- | --- | --- | --- |"
    for pair in pairs:
        held = "" if pair.goal is None else "holds" if pair.figure() <= pair.goal else "missed"
        yield (f"| {pair.name} | {pair.other} | {pair.unit} | {number(statistics.median(pair.native))} | "
               f"{number(statistics.median(pair.served))} | {figure(pair)} | {pair.goal_text} | {held} |")


def worse_than(pairs, baseline):
    """What became more than a tenth worse, a line each."""
    before = {row["name"]: row["figure"] for row in baseline["rows"]}
    for pair in pairs:
        if pair.name not in before:
            yield f"{pair.name}: not in the baseline"
        elif pair.figure() > before[pair.name] * WORSE:
            yield f"{pair.name}: {number(before[pair.name])} before, {number(pair.figure())} now"
