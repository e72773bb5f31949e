"""A worker that hangs ends its process; one that goes on does not."""

import subprocess
import sys

HANG = """
import sys, time
from pipeline import watchdog
watchdog.GRACE_SECONDS = 0.3
dog = watchdog.Watchdog(minutes=0.01)
for _ in range(10):
    dog.begin("a short one")
    time.sleep(0.15)
    dog.end("a short one")
print("short ones are left alone", flush=True)
dog.begin("the clip that hangs")
time.sleep(60)
"""


def test_a_hanging_clip_ends_the_process_and_is_named():
    done = subprocess.run([sys.executable, "-c", HANG], capture_output=True, text=True, timeout=30)
    assert done.returncode == 14
    assert done.stdout == "short ones are left alone\n"
    assert "no end of the clip that hangs after 1 s" in done.stderr
