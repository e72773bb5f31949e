"""How a job can end, as exit codes: the same for every job.

0    done
1    finished, but not all of it is done or passes quality control: the table says what is not, and why
2    refused: the configuration, the manifest or the machine has to be changed; another try changes nothing
3    the storage or the cluster failed: the same command goes on, and may succeed (`jobs.submit` tries it again)
4    a bug of this program: please report it, with the traceback
130  interrupted; the same command goes on
"""

from pipeline.common.errors import ClusterError, RefusedError
from pipeline.storage.objects import is_trouble

DONE, INCOMPLETE, REFUSED, INFRASTRUCTURE, BUG, INTERRUPTED = 0, 1, 2, 3, 4, 130


def code_of(error: BaseException) -> int:
    """The exit code that an exception leads to."""
    if isinstance(error, KeyboardInterrupt):
        return INTERRUPTED
    if isinstance(error, RefusedError):
        return REFUSED
    of_ray = any(kind.__module__.partition(".")[0] == "ray" for kind in type(error).__mro__)
    if isinstance(error, ClusterError) or of_ray or is_trouble(error):
        return INFRASTRUCTURE
    return BUG
