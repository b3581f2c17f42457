"""The seccomp filter, asked about every system call number by an interpreter of its instructions."""

from __future__ import annotations

import errno

import pytest

from codeio_hpc.sandbox.jail import bpf
from codeio_hpc.sandbox.jail.syscalls import AUDIT_ARCH, NUMBERS

MACHINES = sorted(NUMBERS)
PID = 4711
SPECIAL = {rule.call for rule in bpf.SPECIAL}


def verdict(machine: str, call: str | int, *args: int) -> int:
    number = NUMBERS[machine][call] if isinstance(call, str) else call
    return bpf.evaluate(bpf.build(machine), AUDIT_ARCH[machine], number, args, PID)


@pytest.mark.parametrize("machine", MACHINES)
def test_every_number_gets_the_verdict_of_the_list(machine: str) -> None:
    program = bpf.build(machine)
    names = {number: name for name, number in NUMBERS[machine].items()}
    for number in (*range(1024), *(2**bit for bit in range(10, 30)), bpf.X32_BIT - 1):
        name = names.get(number)
        answer = bpf.evaluate(program, AUDIT_ARCH[machine], number, (), PID)
        if name in bpf.PLAIN:
            assert answer == bpf.ALLOW, name
        elif name not in SPECIAL:
            assert answer == bpf.REFUSE | errno.EPERM, (number, name)


@pytest.mark.parametrize("machine", MACHINES)
def test_plain_calls_are_allowed_whatever_their_arguments(machine: str) -> None:
    full = (2**64 - 1,) * 6
    for name in bpf.PLAIN:
        if name in NUMBERS[machine]:
            assert verdict(machine, name, *full) == bpf.ALLOW, name


@pytest.mark.parametrize("machine", MACHINES)
def test_a_native_program_may_also_be_executed_and_nothing_else(machine: str) -> None:
    python, native = bpf.build(machine, bpf.PYTHON), bpf.build(machine, bpf.NATIVE)
    names = {number: name for name, number in NUMBERS[machine].items()}
    more = {
        names[number]
        for number in range(1024)
        if bpf.evaluate(python, AUDIT_ARCH[machine], number) != bpf.evaluate(native, AUDIT_ARCH[machine], number)
    }
    assert more == {"execve", "execveat"}
    if machine == "x86_64":
        for what, answer in ((0x1002, bpf.ALLOW), (0x1003, bpf.ALLOW), (0x1001, bpf.REFUSE | errno.EPERM)):
            assert bpf.evaluate(native, AUDIT_ARCH[machine], 158, (what,)) == answer


@pytest.mark.parametrize("machine", MACHINES)
def test_another_architecture_is_killed(machine: str) -> None:
    other = 0x40000003  # i386: its numbers mean other calls
    assert bpf.evaluate(bpf.build(machine), other, 1) == bpf.KILL_PROCESS
    assert verdict(machine, bpf.X32_BIT + 1) == bpf.KILL_PROCESS
    assert verdict(machine, 0xFFFFFFFF) == bpf.KILL_PROCESS


@pytest.mark.parametrize("machine", MACHINES)
def test_files_open_for_reading_only(machine: str) -> None:
    assert verdict(machine, "openat", 0, 0, 0o2000000) == bpf.ALLOW  # O_CLOEXEC
    assert verdict(machine, "openat", 0, 0, 0o200000) == bpf.ALLOW  # O_DIRECTORY
    for flags in (0o1, 0o2, 0o3, 0o101, 0o100, 0o1000, 0o2000, 0o20200002, 0o20200000):
        assert verdict(machine, "openat", 0, 0, flags) == bpf.REFUSE | errno.EROFS, oct(flags)
    assert verdict(machine, "openat2") == bpf.REFUSE | errno.ENOSYS


@pytest.mark.parametrize("machine", MACHINES)
def test_clone_makes_threads_and_nothing_else(machine: str) -> None:
    thread = 0x3D0F00  # what glibc passes for pthread_create
    assert verdict(machine, "clone", thread) == bpf.ALLOW
    assert verdict(machine, "clone3") == bpf.REFUSE | errno.ENOSYS
    for flags in (0, 17, 0x4111, 0x1200011, thread & ~0x10000, thread & ~0x100):
        assert verdict(machine, "clone", flags) == bpf.REFUSE | errno.EPERM, hex(flags)
    for bit in range(32):
        if (0x20000 | 0x7E000000 | 0x80 | 0x2000 | 0x4000 | 0x8000) >> bit & 1:
            assert verdict(machine, "clone", thread | 1 << bit) == bpf.REFUSE | errno.EPERM, bit


@pytest.mark.parametrize("machine", MACHINES)
def test_only_its_own_process_can_be_signalled_and_only_to_abort(machine: str) -> None:
    assert verdict(machine, "tgkill", PID, PID + 3, 6) == bpf.ALLOW
    for target, number in ((PID, 9), (PID + 1, 6), (1, 6), (0, 6), (2**32 - 1, 6), (PID, 19)):
        assert verdict(machine, "tgkill", target, target, number) == bpf.REFUSE | errno.EPERM


@pytest.mark.parametrize("machine", MACHINES)
def test_limits_can_be_read_but_not_set(machine: str) -> None:
    assert verdict(machine, "prlimit64", 0, 7, 0, 1234) == bpf.ALLOW
    assert verdict(machine, "prlimit64", PID, 7, 0, 1234) == bpf.ALLOW
    assert verdict(machine, "prlimit64", 1, 7, 0, 1234) == bpf.REFUSE | errno.EPERM
    for pointer in (1, 0x7FFF00000000, 0xFFFFFFFF):  # also one whose low half is zero
        assert verdict(machine, "prlimit64", 0, 7, pointer, 0) == bpf.REFUSE | errno.EPERM


@pytest.mark.parametrize("machine", MACHINES)
def test_arguments_that_choose_an_operation_are_on_a_list(machine: str) -> None:
    assert verdict(machine, "ioctl", 0, 0x5401) == bpf.ALLOW
    assert verdict(machine, "ioctl", 0, 0x5412) == bpf.REFUSE | errno.ENOTTY  # TIOCSTI types into a terminal
    assert verdict(machine, "prctl", 15) == bpf.ALLOW
    for operation in (1, 4, 8, 22, 36, 38, 59):
        assert verdict(machine, "prctl", operation) == bpf.REFUSE | errno.EPERM
    assert verdict(machine, "socketpair", 1) == bpf.ALLOW
    assert verdict(machine, "socketpair", 2) == bpf.REFUSE | errno.EPERM
    assert verdict(machine, "sendto", 3, 0, 0, 0, 0, 0) == bpf.ALLOW
    for address in (1, 2**32, 2**63):
        assert verdict(machine, "sendto", 3, 0, 0, 0, address, 0) == bpf.REFUSE | errno.EPERM
    assert verdict(machine, "fcntl", 3, 1033) == bpf.REFUSE | errno.EPERM


@pytest.mark.parametrize("machine", MACHINES)
def test_the_program_is_what_the_kernel_takes(machine: str) -> None:
    program = bpf.build(machine)
    assert len(program.packed()) == 8 * len(program.instructions)
    assert len(program.instructions) <= 4096
    assert program.pid_offsets()
    for offset in program.pid_offsets():
        assert program.packed()[offset : offset + 4] == bytes(4)
    for place, one in enumerate(program.instructions):
        assert place + 1 + max(one.jump_true, one.jump_false) < len(program.instructions) or one.code == bpf.RETURN


def test_a_jump_that_is_too_long_is_noticed() -> None:
    conditions = tuple(bpf.Condition(0, (1,), wide=True) for _ in range(50))
    with pytest.raises(ValueError, match="a jump over"):
        bpf.build("x86_64", [bpf.Rule("read", conditions), bpf.Rule("close", conditions)])


def test_the_interpreter_notices_a_program_without_an_end() -> None:
    with pytest.raises(ValueError, match="without a verdict"):
        bpf.evaluate(bpf.Program((bpf.Instruction(bpf.LOAD, 0, 0, 0),), ()), 0, 0)
