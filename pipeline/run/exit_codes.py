"""Exit codes, which are the same for every job.

0    done
1    finished, but some of it is not done or fails quality control; the table says what and why
2    refused: the configuration, the manifest or the machine must change, so trying again is pointless
3    the storage or the cluster failed; the same command resumes and may succeed (`jobs.submit` tries again)
4    a bug in this program: please report it with the traceback
130  interrupted; the same command resumes
"""

from pipeline.common.errors import ClusterError, RefusedError
from pipeline.storage.trouble import is_trouble

DONE, INCOMPLETE, REFUSED, INFRASTRUCTURE, BUG, INTERRUPTED = 0, 1, 2, 3, 4, 130


def code_of(error: BaseException) -> int:
    """The exit code for an exception."""
    if isinstance(error, KeyboardInterrupt):
        return INTERRUPTED
    if isinstance(error, RefusedError):
        return REFUSED
    of_ray = any(kind.__module__.partition(".")[0] == "ray" for kind in type(error).__mro__)
    if isinstance(error, ClusterError) or of_ray or is_trouble(error):
        return INFRASTRUCTURE
    return BUG
