"""For tests: storages that behave as the real ones never should.

poison://...      ends the process that reads it, as a broken decoder or a bad GPU would
gate:///a/b.wav   the local file /a/b.wav, for whose contents a reader waits until /a/b.wav.open is there
broken://...      answers with an error that another try does not change

Python imports this by itself where the folder is on PYTHONPATH.
"""

import errno
import os
import shutil
import time
from pathlib import Path

import fsspec
from fsspec.spec import AbstractFileSystem


class Poison(AbstractFileSystem):
    protocol = "poison"

    def info(self, path, **kwargs):
        return {"name": path, "size": 1000, "type": "file", "ETag": "1"}

    def cat_file(self, path, *arguments, **kwargs):
        os._exit(1)

    def get_file(self, path, *arguments, **kwargs):
        os._exit(1)


class Gate(AbstractFileSystem):
    protocol = "gate"

    def info(self, path, **kwargs):
        return {"name": path, "size": os.path.getsize(path), "type": "file", "ETag": "1"}

    def cat_file(self, path, *arguments, **kwargs):
        self._wait(path)
        return Path(path).read_bytes()

    def get_file(self, path, target, *arguments, **kwargs):
        self._wait(path)
        shutil.copyfile(path, target)

    def _wait(self, path):
        while not os.path.exists(f"{path}.open"):
            time.sleep(0.05)


class Broken(AbstractFileSystem):
    protocol = "broken"

    def info(self, path, **kwargs):
        raise OSError(errno.EROFS, "the storage is broken")


for storage in (Poison, Gate, Broken):
    fsspec.register_implementation(storage.protocol, storage, clobber=True)
