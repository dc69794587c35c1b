"""What a thread asks of the operating system: granted, and felt by the kernel, or warned about."""

import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from robopolicy_drivers.realtime import scheduling

pytestmark = pytest.mark.realtime

IMPORTS = """
import logging, os, resource, threading
logging.basicConfig(format="%(message)s")
from robopolicy_drivers.realtime.scheduling import pin_to_core, quiet_core, request_punctuality
"""
BECOME_NOBODY = """
resource.setrlimit(resource.RLIMIT_MEMLOCK, (65536, 65536))
os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))  # what the tests' own process has is inherited
resource.setrlimit(resource.RLIMIT_RTPRIO, (0, 0))
os.setgroups([]), os.setgid(65534), os.setuid(65534)
"""
ASK = """
granted = request_punctuality()
policy = os.sched_getscheduler(0) & ~os.SCHED_RESET_ON_FORK
print(granted, policy == os.SCHED_FIFO, quiet_core() == pin_to_core())
"""
LOOK = """
thread = threading.Thread(target=lambda: inherited.append(os.sched_getscheduler(0)))
inherited = []
thread.start(), thread.join()
print(inherited == [os.SCHED_OTHER])
print(os.sched_getaffinity(0) == {quiet_core()})
print([line.split()[1] for line in open("/proc/self/status") if line.startswith("VmLck")][0] != "0")
print(open("/proc/self/timerslack_ns").read().strip())
"""


def run(code: str) -> tuple[list[str], str]:
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return result.stdout.split(), result.stderr


def capabilities() -> int:
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return next((int(line.split()[1], 16) for line in lines if line.startswith("CapEff")), 0)


def needs(name: str, number: int) -> pytest.MarkDecorator:
    return pytest.mark.skipif(not capabilities() >> number & 1, reason=f"needs {name}")


@needs("CAP_IPC_LOCK", 14)
@needs("CAP_SYS_NICE", 23)
def test_the_kernel_grants_it_to_those_who_may():
    words, warnings = run(IMPORTS + ASK + LOOK)
    assert (words[:-1], warnings) == (["True"] * 6, "")
    assert words[-1] in ("0", "1")  # newer kernels know no slack under SCHED_FIFO, and say 0


def may_write(path: str) -> bool:
    try:
        os.close(os.open(path, os.O_WRONLY))
    except OSError:
        return False
    return True


@pytest.mark.skipif(not may_write("/dev/cpu_dma_latency"), reason="needs /dev/cpu_dma_latency")
def test_cores_are_kept_awake_as_long_as_the_process_lives():
    code = """
import os
from robopolicy_drivers.realtime.scheduling import keep_cores_awake
print(keep_cores_awake(), keep_cores_awake())
print(sum(os.readlink(f"/proc/self/fd/{fd}") == "/dev/cpu_dma_latency" for fd in range(3, 20)
          if os.path.exists(f"/proc/self/fd/{fd}")))
"""
    assert run(code) == (["True", "True", "1"], "")


def test_without_leave_to_keep_them_awake_it_is_told_what_to_do(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(scheduling, "_WAKING_LATENCY", tmp_path / "missing")
    assert scheduling.keep_cores_awake.__wrapped__()
    monkeypatch.setattr(scheduling, "_WAKING_LATENCY", tmp_path)  # a folder cannot be written
    assert not scheduling.keep_cores_awake.__wrapped__()
    assert f"sudo setfacl -m u:$USER:w {tmp_path}" in caplog.text


@needs("CAP_SETUID", 7)
def test_somebody_without_rights_is_told_what_to_do():
    words, warnings = run(IMPORTS + BECOME_NOBODY + ASK)
    assert words == ["False", "False", "True"], warnings
    assert "SCHED_FIFO priority 60 was not granted (Operation not permitted)" in warnings
    assert "'ulimit -r 60' or the CAP_SYS_NICE" in warnings
    assert "Locking the memory was not granted (Cannot allocate memory)" in warnings
    assert "'ulimit -l unlimited' or the CAP_IPC_LOCK" in warnings


def test_what_is_not_possible_is_warned_about(caplog):
    assert scheduling.request_fifo(priority=10_000) is False
    assert "SCHED_FIFO" in caplog.text
    assert scheduling.pin_to_core(100_000) is None
    assert "not kept on core 100000" in caplog.text
    assert all(record.levelno == logging.WARNING for record in caplog.records)


def test_the_quiet_core_is_one_that_was_set_aside(tmp_path, monkeypatch):
    isolated = tmp_path / "isolated"
    monkeypatch.setattr(scheduling, "_ISOLATED_CORES", isolated)
    usable = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count())
    assert scheduling.quiet_core() == max(usable)
    isolated.write_text("\n")
    assert scheduling.quiet_core() == max(usable)
    isolated.write_text("2-3,7,5\n")
    assert scheduling.quiet_core() == 7


@pytest.mark.parametrize(("text", "cores"), [("", []), ("3\n", [3]), ("0,2-4,9-9", [0, 2, 3, 4, 9])])
def test_lists_of_cores(text, cores):
    assert scheduling.parse_cores(text) == cores


def test_timer_slack_is_a_matter_of_linux():
    assert scheduling.set_timer_slack() is Path("/proc/self/timerslack_ns").exists()
