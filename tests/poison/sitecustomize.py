"""For tests: a storage whose files end the process that reads them, as a broken decoder or a bad GPU would.

Python imports this by itself where the folder is on PYTHONPATH.
"""

import os

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


fsspec.register_implementation("poison", Poison, clobber=True)
