"""FiftyOne's settings, without FiftyOne."""

import os
import sys

import pytest

from curate.errors import MissingError
from curate.fiftyone_app.dataset import _SETTINGS, URI_VARIABLE, connected


def test_nothing_is_sent_to_its_makers(monkeypatch):
    """FiftyOne is imported with its statistics of use switched off, whatever the person's environment says."""
    for name in (*_SETTINGS, URI_VARIABLE):
        monkeypatch.setenv(name, "false")
    seen = []

    class Finder:
        def find_spec(self, name, *_):
            if name.partition(".")[0] == "fiftyone":
                seen.append(os.environ["FIFTYONE_DO_NOT_TRACK"])
                raise ImportError(name)

    for name in [name for name in sys.modules if name.partition(".")[0] == "fiftyone"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [Finder(), *sys.meta_path])
    with pytest.raises(MissingError), connected("mongodb://127.0.0.1:1"):
        pass
    assert seen == ["true"]
