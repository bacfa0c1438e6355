"""Which modules have their examples run: all but those of a library that no registry has, where it is absent.

A test module that cannot be imported is an error. `--doctest-ignore-import-errors` would make it a skip.
"""

from importlib.util import find_spec

collect_ignore_glob = [] if find_spec("detectron2") else ["curate/engines/detectron2_engine/*.py"]
