"""A worker that hangs ends its process; one that goes on does not."""

import subprocess
import sys

HANG = """
import threading, types
from pipeline.common import watchdog

now, looked = 0.0, threading.Semaphore(0)

def clock():  # of this test: no machine is too slow for it
    if threading.current_thread().name == "watchdog":
        looked.release()
    return now

watchdog.time = types.SimpleNamespace(monotonic=clock)
watchdog.GRACE_SECONDS = 0.3
dog = watchdog.Watchdog(minutes=0.01)
for _ in range(4):
    dog.begin("a short one")
    now += 0.8
    looked.acquire()  # it may have begun before the clock went on
    looked.acquire()
    dog.end("a short one")
print("short ones are left alone", flush=True)
dog.begin("the clip that hangs")
now += 1
threading.Event().wait()
"""


def test_a_hanging_clip_ends_the_process_and_is_named():
    done = subprocess.run([sys.executable, "-c", HANG], capture_output=True, text=True)
    assert done.returncode == 14
    assert done.stdout == "short ones are left alone\n"
    assert "the clip that hangs did not end within 1 s" in done.stderr
