"""What valgrind's callgrind counted: instructions, and calls of the allocator."""

import re
import subprocess
from dataclasses import dataclass

from .machine import Failed

ALLOCATORS = {"malloc", "calloc", "realloc", "posix_memalign", "aligned_alloc", "memalign"}


@dataclass
class Counted:
    instructions: int
    allocations: int

    def per(self, other, count):
        """What each of `count` more cost, if `other` did so many more."""
        return {
            "instructions": round((other.instructions - self.instructions) / count),
            "allocations": round((other.allocations - self.allocations) / count, 1),
        }


def command(out):
    """What to put before a program whose instructions are counted."""
    return ["valgrind", "--quiet", "--tool=callgrind", f"--callgrind-out-file={out}"]


def zero(process):
    """Forgets what a process has done so far."""
    _control("--zero", process)


def dump(process, out, number):
    """What a process has done since the last time; the files of a process are numbered from 1."""
    _control("--dump", process)
    return read(out.with_name(f"{out.name}.{number}"))


def _control(what, process):
    result = subprocess.run(["callgrind_control", what, str(process.pid)],
                            capture_output=True, text=True)
    if result.returncode != 0 or "OK" not in result.stdout:
        raise Failed(f"callgrind_control {what}: {result.stdout}{result.stderr}")


def read(path):
    """A file of callgrind."""
    names, instructions, allocations, called = {}, None, 0, None
    with open(path) as lines:
        for line in lines:
            if match := re.match(r"(c?fn)=\((\d+)\)(?: (.*))?", line):
                kind, number, name = match.groups()
                if name:
                    names[number] = name.split("'")[0]
                called = names.get(number) if kind == "cfn" else None
            elif match := re.match(r"calls=(\d+)", line):
                allocations += int(match.group(1)) if called in ALLOCATORS else 0
            elif match := re.match(r"(?:totals|summary): (\d+)", line):
                instructions = int(match.group(1))
    if instructions is None:
        raise Failed(f"{path} has no total")
    return Counted(instructions, allocations)
