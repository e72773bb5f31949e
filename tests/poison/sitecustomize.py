"""For tests: storages that behave as the real ones never should.

poison://...      ends the process that reads it, as a broken decoder or a bad GPU would
gate:///a/b.wav   the local file /a/b.wav, for whose contents a reader waits until /a/b.wav.open is there;
                  /a/b.wav.asked says that one waits
broken://...      answers with an error that another try does not change

Python imports this by itself where the folder is on PYTHONPATH.
"""

import errno
import importlib.util
import os
import shutil
import sys
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
        Path(f"{path}.asked").touch()
        while not os.path.exists(f"{path}.open"):
            time.sleep(0.05)


class Broken(AbstractFileSystem):
    protocol = "broken"

    def info(self, path, **kwargs):
        raise OSError(errno.EROFS, "the storage is broken")


for storage in (Poison, Gate, Broken):
    fsspec.register_implementation(storage.protocol, storage, clobber=True)


class SickGpu:
    """Ends a render worker that has the GPU $FLOATCAST_SICK_GPU when it decodes its first clip, after its self-test.

    Workers with other GPUs wait until it has happened three times, which lines in the file $FLOATCAST_SICK_LOG say.
    """

    def find_spec(self, name, path=None, target=None):
        if name != "pipeline.render.model_runner":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        load = spec.loader.exec_module

        def exec_module(module):
            load(module)
            decoded, calls = module.ModelRunner.decoded, []

            def fails(runner, *arguments):
                import ray

                calls.append(1)
                log = Path(os.environ["FLOATCAST_SICK_LOG"])
                if len(calls) > 1 and ray.get_runtime_context().get_accelerator_ids().get("GPU") == [SICK]:
                    with log.open("a") as file:
                        file.write("died\n")
                    os._exit(1)
                while len(calls) > 1 and log.read_text().count("died") < 3:
                    time.sleep(0.05)
                return decoded(runner, *arguments)

            module.ModelRunner.decoded = fails

        spec.loader.exec_module = exec_module
        return spec


if SICK := os.environ.get("FLOATCAST_SICK_GPU"):
    sys.meta_path.insert(0, SickGpu())
