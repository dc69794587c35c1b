"""Device processes: messages, errors with the child's text, stuck and killed children, parents that crash."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from device_targets import alive, fails, wait_until

from robopolicy_datasets.errors import DeviceError
from robopolicy_datasets.spec import Feature
from robopolicy_drivers.realtime.process import DeviceProcess
from robopolicy_drivers.realtime.ring import Ring

pytestmark = pytest.mark.realtime

HERE = str(Path(__file__).parent)


@pytest.fixture
def device():
    process = DeviceProcess(
        "device_targets:echo", {"greeting": "hello"}, name="echo device", heartbeat_timeout_s=5.0
    )
    assert process.start() == "hello"
    yield process
    process.close()


def memory_blocks() -> int:
    return Path("/proc/self/maps").read_text().count("memfd:robopolicy")


def test_messages_requests_and_lateness(device):
    device.send("note", 1)
    device.send("note", {"a": 2})
    assert device.request("notes") == [1, {"a": 2}]
    assert device.request("echo", "x" * 10_000) == "x" * 10_000
    assert device.lateness().ticks > 0
    with pytest.raises(DeviceError, match="unknown: dance"):
        device.request("dance")
    assert device.request("echo", 5) == 5


def test_an_error_in_the_child_comes_back_with_its_text(device):
    pid = device.pid
    with pytest.raises(DeviceError, match="ValueError: the motor is hot"):
        device.request("fail", "the motor is hot")
    with pytest.raises(DeviceError, match="Connect again"):
        device.check()
    assert not alive(pid)
    assert device.start() == "hello"


def test_a_child_that_is_slow_to_exit_is_not_taken_for_a_stuck_one():
    process = DeviceProcess("device_targets:slow_to_exit", {}, name="device", heartbeat_timeout_s=0.3)
    process.start()
    words = []

    def ended():
        try:
            process.check()
        except DeviceError as error:
            words.append(str(error))
        return words

    assert wait_until(ended)
    process.close()
    assert "Its cable is cut." in words[0]


def test_an_expected_error_comes_back_without_a_traceback(device):
    with pytest.raises(DeviceError) as caught:
        device.request("refuse", "The lid is open.")
    assert "The lid is open." in str(caught.value)
    assert "Traceback" not in str(caught.value)


@pytest.mark.parametrize(("how", "text"), [(signal.SIGKILL, "SIGKILL"), (signal.SIGSEGV, "SIGSEGV")])
def test_a_killed_child_is_noticed(device, how, text, reaction):
    os.kill(device.pid, how)
    reaction(f"a device process ended by {text}", lambda: fails(device))
    with pytest.raises(DeviceError, match=text):
        device.send("note", 1)
    with pytest.raises(DeviceError, match=text):
        device.request("echo", 1)


def test_a_child_that_exits_is_noticed(device):
    with pytest.raises(DeviceError, match=r"ended \(3\)"):
        device.request("exit")


@pytest.mark.parametrize("how", ["stopped", "stuck"])
def test_a_child_without_a_sign_of_life_is_noticed(how, reaction):
    process = DeviceProcess(
        "device_targets:echo", {"greeting": 1}, name="echo device", heartbeat_timeout_s=0.2
    )
    process.start()
    if how == "stopped":
        os.kill(process.pid, signal.SIGSTOP)
    else:
        process.send("sleep", 60.0)
    reaction(f"a {how} device process (0.2 s allowed)", lambda: fails(process))
    with pytest.raises(DeviceError, match="no sign of life"):
        process.check()
    pid = process.pid
    process.close(timeout_s=0.2)
    assert not alive(pid)


def test_a_restarted_device_goes_on_with_its_ring():
    ring = Ring((Feature("x", (2,)),), 64)
    process = DeviceProcess("device_targets:count", {"rate_hz": 500.0}, name="sensor", rings={"ring": ring})
    with pytest.raises(DeviceError, match="not connected"):
        process.check()
    process.restart()  # where nothing runs, it is a start
    last = 0
    for signal_number in (signal.SIGKILL, signal.SIGSEGV, signal.SIGSTOP, None):
        last, pid = ring.wait_newer(last, 20.0).number, process.pid
        process.heartbeat_timeout_s = 0.2 if signal_number is signal.SIGSTOP else 5.0
        if signal_number is not None:
            os.kill(pid, signal_number)
            assert wait_until(lambda: fails(process))
        last = ring.latest
        process.restart()
        assert not alive(pid)
        process.check()
        assert ring.wait_newer(last, 20.0).number > last
        kept = [record.number for record in ring.history(5)]
        assert kept == list(range(kept[0], kept[0] + len(kept)))
    process.close()


def test_the_queue_keeps_its_order_and_never_makes_the_sender_wait(device):
    os.kill(device.pid, signal.SIGSTOP)
    sent = []

    def flood():
        for number in range(100_000):
            device.send("note", number)
            sent.append(number)

    with pytest.raises(DeviceError, match="its queue is full; 'note' was not sent"):
        flood()
    os.kill(device.pid, signal.SIGCONT)
    assert len(sent) > 50
    assert wait_until(lambda: not fails(device, lambda: device.request("notes")))
    assert device.request("notes") == sent


def test_a_loop_says_what_its_cycles_were_spent_on(device):
    assert wait_until(lambda: device.cycles().cycles > 10)
    device.request("sleep and reply", 0.1)
    assert wait_until(lambda: device.cycles().overruns > 0)
    sections = {section.name: section for section in device.cycles().sections}
    assert sections["messages"].longest_in > 0
    assert sections["messages"].max_ms >= 100.0


def test_a_request_that_is_not_answered_times_out(device):
    with pytest.raises(DeviceError, match=r"did not answer 'sleep' within 0\.2 s"):
        device.request("sleep", 0.5, timeout_s=0.2)


def test_a_late_refusal_answers_no_later_request(device):
    device.send("sleep", 0.5)
    with pytest.raises(DeviceError, match="did not answer"):
        device.request("unheard of", timeout_s=0.2)
    assert device.request("echo", 5) == 5


def test_start_reports_what_went_wrong():
    with pytest.raises(DeviceError, match="The cable is not plugged in"):
        DeviceProcess("device_targets:fail_at_once", {}, name="arm").start()
    with pytest.raises(DeviceError, match="become ready within 1 s"):
        DeviceProcess("device_targets:never_ready", {}, name="arm").start(timeout_s=1.0)
    with pytest.raises(DeviceError, match="no_such_module"):
        DeviceProcess("no_such_module:run", {}, name="arm").start()


def test_close_kills_what_does_not_listen_and_leaves_no_memory():
    before = memory_blocks()
    process = DeviceProcess("device_targets:deaf", {}, name="deaf device")
    process.start()
    pid = process.pid
    process.close(timeout_s=0.2)
    process.close()
    assert not alive(pid)
    with pytest.raises(DeviceError, match="not connected"):
        process.check()
    del process
    assert memory_blocks() <= before


@pytest.mark.parametrize(
    ("target", "arguments", "kind"),
    [("echo", {"greeting": 1}, "one that listens"), ("deaf", {}, "one that does not")],
)
def test_a_child_ends_when_its_parent_is_killed(target, arguments, kind, reaction):
    code = (
        "from robopolicy_drivers.realtime.process import DeviceProcess\nimport time\n"
        f"process = DeviceProcess('device_targets:{target}', {arguments}, name='device')\n"
        "process.start()\nprint(process.pid, flush=True)\ntime.sleep(60)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], cwd=HERE, stdout=subprocess.PIPE, text=True)
    child = int(parent.stdout.readline())
    assert alive(child)
    parent.kill()
    reaction(f"a killed parent, device process: {kind}", lambda: not alive(child))
    parent.communicate()


def test_a_child_whose_parent_was_killed_ends_without_a_word():
    code = (
        "from robopolicy_drivers.realtime.process import DeviceProcess\n"
        "DeviceProcess('device_targets:ready_without_parent', {}, name='arm').start()\n"
    )
    parent = subprocess.run(
        [sys.executable, "-c", code], cwd=HERE, stderr=subprocess.PIPE, text=True, timeout=60
    )
    assert parent.returncode == -signal.SIGKILL
    assert parent.stderr == ""
