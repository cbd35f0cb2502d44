"""The table of a run, and the document around it."""

import datetime
import os
import platform
import re
import subprocess
from pathlib import Path
from statistics import median


def table(cases, versions, options):
    """Medians with [lowest-highest], and ratios to Envoy in the same run."""
    lines = [
        f"{datetime.date.today()}, {_machine()}, load on another CPU than the proxies.",
        f"Medians of {options.rounds} rounds of {options.seconds} s, interleaved, [lowest-highest]. "
        + ", ".join(f"{name} {version}" for name, version in versions.items())
        + f", ironmesh {_revision()}.",
    ]
    load = f"{options.connections} connections, answers of {options.body} bytes"
    titles = {
        "single": f"One proxy, HTTP/1.1, {load}",
        "pair": f"A pair of sidecars, mutual TLS between them, HTTP/1.1 application, {load}",
    }
    for group, title in titles.items():
        members = [case for case in cases if case.group == group and case.samples]
        if not members:
            continue
        lines += ["", f"**{title}**", "",
                  "| | req/s | CPU us/request | of Envoy | each proxy | p50 ms | idle MiB | MB per CPU second |",
                  "|---|---|---|---|---|---|---|---|"]
        base = _base(members)
        lines += [_row(case, base, options.body) for case in members]
    return "\n".join(lines)


def ratios(cases, name, other):
    """CPU time a request of one case beside another of its group: of the medians, and of each round,
    since the two are measured right after each other."""
    lines = []
    for group in ("single", "pair"):
        found = {case.name: [sum(sample.cpu) for sample in case.samples]
                 for case in cases if case.group == group and case.samples}
        if name in found and other in found:
            own, others = found[name], found[other]
            rounds = ", ".join(f"{a / b:.3f}" for a, b in zip(own, others))
            lines.append(f"{group} {name}: {median(own) / median(others):.3f} of {other} "
                         f"(each round: {rounds})")
    return "\n".join(lines)


def document(text):
    return f"""# Measurements

Written by `bench/run`; not to be edited. Compare ratios, not absolute figures: they hold for one
machine. CPU time is the run time of all threads of the proxies, with what the kernel does in their
name (`/proc/PID/task/*/schedstat`). Proxies have one worker and one CPU, access logs are off. Envoy
has the bare router filter; ironmesh is the released binary with routing, metrics and, in pairs,
identities, as the mesh runs it. Its policies are a timeout, retries, outlier detection and limits of
connections, none of which acts. Of Envoy in pairs the cheaper of its two ways is what ratios are to.

{text}
"""


def _base(members):
    totals = [median(sum(s.cpu) for s in case.samples)
              for case in members if case.name.startswith("Envoy")]
    return min(totals, default=None)


def _row(case, base, body_bytes):
    per_second = median(sample.per_second for sample in case.samples)
    p50 = median(sample.p50 for sample in case.samples)
    if not case.proxies:
        return f"| {case.name} | {per_second:,.0f} | - | - | - | {p50:.2f} | - | - |"
    totals = [sum(sample.cpu) for sample in case.samples]
    total = median(totals)
    each = ", ".join(f"{median(column):.1f}" for column in zip(*(s.cpu for s in case.samples)))
    ratio = f"{total / base:.2f}x" if base else "-"
    return (f"| {case.name} | {per_second:,.0f} | {total:.1f} [{min(totals):.1f}-{max(totals):.1f}] "
            f"| {ratio} | {each} | {p50:.2f} | {case.idle_mebibytes:.0f} | {body_bytes / total:,.0f} |")


def _machine():
    text = Path("/proc/cpuinfo").read_text()
    model = re.search(r"model name\s*: (.*)", text)
    name = model.group(1).strip() if model else platform.machine()
    return f"{os.cpu_count()} CPUs ({name}), Linux {platform.release()}"


def _revision():
    root = Path(__file__).resolve().parent
    result = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=root,
                            capture_output=True, text=True)
    return result.stdout.strip() or "(unknown revision)"
