"""Where stages run, on a Ray cluster or in this process, and the connection to the cluster."""

import atexit
import contextlib
import logging
import os
import secrets
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import pipeline
from pipeline.cluster.address import check_cluster, cluster_address
from pipeline.cluster.executor import Executor
from pipeline.cluster.serial import SerialExecutor
from pipeline.common.errors import ClusterError
from pipeline.common.options import option
from pipeline.common.terminal import say

STAGES = (
    "ray runs the stages on a Ray cluster, or with Ray on this machine; serial runs them one after another in this "
    "process, without Ray, which suits a laptop, a debugger or a small job; auto is ray."
)


def executor_option(sentence: str = STAGES) -> Any:
    """The setting `executor` of every job that works on a cluster."""
    return option("auto", sentence, choices=("auto", "ray", "serial"))


CODE = Path(pipeline.__file__).parents[1]
"""Folder from which this process imports the program."""

SLOW_SECONDS = 5.0
"""A start of Ray that takes longer is told when it is over."""

ADDRESS = (
    "Address of the Ray cluster to use; empty uses $RAY_ADDRESS, or starts Ray on this machine if that is not set."
)
"""Help sentence of the setting `address`."""


@contextmanager
def open_executor(name: str, address: str, tell: Callable[[str], object] = say) -> Iterator[Executor]:
    """The executor that the setting `executor` asks for, connected for as long as the context lasts.

    `tell` gets lines for the user: Ray takes seconds to start.
    """
    if name == "serial":
        yield SerialExecutor()
        return
    with connected(address, tell=tell):
        from pipeline.cluster.ray_data import RayExecutor  # importing Ray takes seconds

        yield RayExecutor()


@contextmanager
def connected(address: str, *, hide_workers: bool = False, tell: Callable[[str], object] = say) -> Iterator[None]:
    """Join the cluster at `address` or $RAY_ADDRESS, or start Ray on this machine, until the context ends.

    If this process is already connected, as in a notebook, that cluster is used and left as it is. `hide_workers` hides
    the output of workers, because the job itself prints what users want to read. `tell` gets lines for the user before
    and after what takes long. A Ray that is started here listens on the loopback interface alone. Raises ClusterError
    if nothing answers at the address, or if it is another one than that to which this process is connected.
    """
    # Ray must not connect by itself: a thread that still waits for a lost cluster would join, or start, another one.
    os.environ.setdefault("RAY_ENABLE_AUTO_CONNECT", "0")
    os.environ.setdefault("RAY_COLOR_PREFIX", "0")  # jobs print no escape sequences, Ray's colours included
    if (known := sys.modules.get("ray")) is not None and known.is_initialized():
        here = known.get_runtime_context().gcs_address
        if address not in ("", here):
            raise ClusterError(
                f"this process is already connected to the Ray cluster {here}, but address={address} names another "
                "one: leave address empty, or call ray.shutdown() first"
            )
        yield
        return
    found, begun = cluster_address(address), time.monotonic()
    tell("starting Ray on this machine ..." if found is None else f"connecting to the Ray cluster {found} ...")
    if found is not None:
        check_cluster(found)
    import ray  # takes seconds, which serial runs need not spend

    address = "local" if found is None else found.value
    dashboard = {"include_dashboard": False} if address == "local" else {}
    # Worker output would break the progress bar on a terminal, but belongs in a job's log. Ray keeps it in its files.
    shown = not (hide_workers or sys.stderr.isatty())
    with ExitStack() as private:
        if address == "local":
            give_python_a_path_without_spaces()
            private.enter_context(only_this_machine())
        try:
            handler = signal.getsignal(signal.SIGTERM)
            # Ray puts the current folder of this process first in the module search path of its workers, where a folder
            # with its own `pipeline` would hide ours.
            with contextlib.chdir(CODE):
                ray.init(address, logging_level=logging.ERROR, log_to_driver=shown, **dashboard)
            if threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGTERM, handler)  # Ray installs its own handler, which ends the process
            _leave_colours()
            if (spent := time.monotonic() - begun) > SLOW_SECONDS:
                tell(f"Ray {'started' if found is None else 'answered'} after {spent:.0f} s")
            yield
        finally:
            ray.shutdown()


def _leave_colours() -> None:
    """Ray's command line, which Ray imports, has colorama write an escape sequence when the process ends.

    On a terminal it would be seen, because what jobs print is filtered (`pipeline.common.terminal`), and no job has
    changed the colours.
    """
    if (colorama := sys.modules.get("colorama.initialise")) is not None:
        atexit.unregister(colorama.reset_all)


@contextmanager
def only_this_machine() -> Iterator[None]:
    """A Ray that is started inside this context listens on 127.0.0.1 alone, and asks for a token of its own.

    Ray runs whatever is sent to its ports, which by default are those of every network that the machine is in. On Linux
    it takes 127.0.0.1 for the machine's address only with the switch that it has for macOS and Windows; given as an
    argument, that address would be replaced. Other users of this machine reach the loopback interface too. Therefore
    Ray's processes get a random token in their environment, which only this user can read (Ray's own file of a token
    can be read by everybody who can enter the home folder). $RAY_AUTH_MODE, $RAY_AUTH_TOKEN and $RAY_AUTH_TOKEN_PATH
    are left as they are where the user has set one of them.
    """
    from ray._private import ray_constants
    from ray._raylet import AuthenticationTokenLoader, Config  # type: ignore[attr-defined]

    changed = {ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR: "0"}
    ours = not any(os.environ.get(name) for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"))
    if ours:
        changed |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}

    def read_again() -> None:  # Ray has read both when it was imported
        Config.initialize("")
        AuthenticationTokenLoader.instance().reset_cache()

    with mock.patch.object(ray_constants, "ENABLE_RAY_CLUSTER", False):
        try:
            with mock.patch.dict(os.environ, changed):
                if ours:
                    read_again()
                yield
        finally:
            if ours:
                read_again()


def give_python_a_path_without_spaces() -> None:
    """Ray 2.60 starts its runtime environment agent with a command line that it splits at spaces.

    Without that agent Ray Train waits for ever. A link to the virtual environment, in a path without spaces, avoids
    this.
    """
    if " " not in sys.executable:
        return
    folder = tempfile.mkdtemp(prefix="floatcast-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    python = Path(sys.executable)
    link = Path(folder) / "python"
    link.symlink_to(python.parents[1], target_is_directory=True)
    sys.executable = str(link / python.parent.name / python.name)
