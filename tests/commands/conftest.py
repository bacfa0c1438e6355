"""What the tests of `view` and `pull-tags` share."""

import pytest

from curate.fiftyone_app import dataset as fiftyone_dataset
from curate.fiftyone_app.mongo import FOLDER_VARIABLE, URI_VARIABLE
from curate.fiftyone_app.server import AppServer


@pytest.fixture
def open_app(app_database, monkeypatch):
    """Call `view` without serving: its result, and what `look` returns for the name of the open FiftyOne dataset.

    Each saved view takes FiftyOne a tenth of a second, so that only three are saved unless `all_views` is set.
    """
    import curate

    monkeypatch.setenv(FOLDER_VARIABLE, str(app_database))
    monkeypatch.delenv(URI_VARIABLE, raising=False)

    def opened(root, look=lambda name: name, *, all_views=False, **options):
        results, answers = [], []

        def serve(self, is_media, on_ready, has_database):
            on_ready()
            answers.append(look(name_in(results[0].link)))

        with monkeypatch.context() as patch:
            patch.setattr(AppServer, "serve", serve)
            if not all_views:
                patch.setattr(fiftyone_dataset, "build", with_three_views(fiftyone_dataset.build))
            curate.view(root, browser=False, on_ready=results.append, **options)
        return results[0], answers[0]

    return opened


def name_in(link):
    """The name of the FiftyOne dataset that a link opens."""
    return link.partition("/datasets/")[2].partition("?")[0]


def with_three_views(build):
    """Save the first view, one of patches, and the last; the others are left out."""

    def build_few(*arguments, views, **options):
        patches = next(view for view in views if view.as_patches)
        return build(*arguments, views=[views[0], patches, views[-1]], **options)

    return build_few
