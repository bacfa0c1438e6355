"""`view` with FiftyOne, without a browser: content of the database, sharing, replacement, cleanup."""

import signal
import subprocess
import time
from urllib.parse import quote_plus

import pytest
from app_scene import (
    FALSE_POSITIVES,
    MISSED,
    await_gone,
    needs_mongod,
    open_view,
    processes_of,
    save_scene,
)
from extras import needs_fiftyone
from sample_datasets import build_dataset, save, set_column

from curate.commands import view as viewing
from curate.errors import DataError, MissingError, UsageError
from curate.fiftyone_app.mongo import FOLDER_VARIABLE, find_mongod
from curate.fiftyone_app.views import EVERYTHING

pytestmark = [needs_fiftyone, needs_mongod]


def name_in(link):
    """The name of the FiftyOne dataset that a link opens."""
    return link.partition("/datasets/")[2].partition("?")[0]


@pytest.fixture
def root(tmp_path):
    """The dataset of `app_scene`."""
    return save_scene(tmp_path / "faces", runs=("first", "second"))


def load(name):
    import fiftyone as fo

    return fo.load_dataset(name)


def names_in_database(_=None):
    import fiftyone as fo

    return fo.list_datasets()


def test_every_view_holds_what_is_told(root, open_app):
    """Each saved view, opened by FiftyOne, has as many images or patches as the result says."""

    def count(name):
        dataset = load(name)
        return {view: len(dataset.load_saved_view(view)) for view in dataset.list_saved_views()}

    result, counts = open_app(root, count, all_views=True, run=["first"])
    told = {one.name: one.objects if one.name.endswith("patches") else one.images for one in result.views}
    assert counts == told
    assert {size: counts[f"missed {size} patches"] for size in MISSED} == MISSED
    assert {size: counts[f"false positives {size} patches"] for size in MISSED} == FALSE_POSITIVES
    assert counts["unlabelled of street"] == 2


def test_in_the_range_of_interest(root, open_app):
    """With a range of interest, objects outside it have a view of their own and are not missed."""
    result, _ = open_app(root, run=["first"], min_side=24)
    objects = {one.name: one.objects for one in result.views}
    assert objects["missed small"] == 0
    assert objects["missed medium"] == 2
    assert objects["out of the range of interest"] == 2


def test_the_terms_of_the_last_evaluation(root, open_app):
    """Without options, those of the run's last evaluation apply."""
    import curate

    curate.evaluate(root, run="first", min_side=24, score=0.7, report=False)
    result, _ = open_app(root, run=["first"])
    assert (result.min_side_px, result.score) == (24, 0.7)
    assert open_app(root, run=["first"], min_side=0)[0].score == 0.5


def test_difficult_objects_of_the_last_evaluation(root, open_app):
    """Difficult objects are ignored as in the run's last evaluation, whatever the other options are."""
    import curate
    from curate.store import Store

    Store(root).commit("mark", {}, lambda now: now.replace(boxes=now.boxes.assign(difficult=True)))
    curate.evaluate(root, run="first", ignore_difficult=True, report=False)
    for options in ({}, {"score": 0.4}):
        result, _ = open_app(root, run=["first"], **options)
        assert not any(one.objects for one in result.views if one.name.startswith("missed"))


def test_colours(root, open_app):
    """Missed objects are red, false positives orange, found objects and right detections green, ignored ones grey."""

    def read_colours(name):
        fields = load(name).app_config.color_scheme.fields
        return {field["path"]: {one["value"]: one["color"] for one in field["valueColors"]} for field in fields}

    grey = "#9aa0a6"
    colours = open_app(root, read_colours, run=["first"])[1]
    assert colours["ground_truth"] == {"missed": "#e02b35", "found": "#1fa34a", "ignored": grey}
    assert colours["run_first"] == {"false positive": "#f28500", "right": "#7bc96f", "ignored": grey}


def test_documents_are_fiftyones_own(root, open_app):
    """Documents have the keys, types and values that FiftyOne writes for the same sample."""

    def compare(name):
        import fiftyone as fo

        ours = load(name)
        theirs = fo.Dataset()
        theirs.add_samples([sample.copy() for sample in ours], dynamic=True)
        pairs = zip(*([*one._sample_collection.find().sort("filepath")] for one in (ours, theirs)), strict=True)
        own = {"_id", "_dataset_id", "created_at", "last_modified_at", "_rand"}
        for mine, other in pairs:
            assert mine.keys() == other.keys()
            assert {type(value) for value in mine.values()} == {type(value) for value in other.values()}
            assert plain(mine, own) == plain(other, own)
        assert theirs.get_field_schema().keys() <= ours.get_field_schema().keys()
        return True

    def plain(document, without):
        return {
            key: [plain(one, {"_id"}) for one in value["detections"]]
            if isinstance(value, dict) and "detections" in value
            else value
            for key, value in document.items()
            if key not in without
        }

    assert open_app(root, compare, run=["first"])[1]


def test_the_same_is_not_built_twice(root, open_app, monkeypatch):
    """A second view of the same content reuses its FiftyOne dataset; another version or run gets a new one."""
    from curate.fiftyone_app import dataset as fiftyone_views

    built = []
    build = fiftyone_views.build
    monkeypatch.setattr(fiftyone_views, "build", lambda name, *a, **k: (built.append(name), build(name, *a, **k)))
    first, again = open_app(root, run=["first"])[1], open_app(root, run=["first"])[1]
    assert (again, len(built)) == (first, 1)
    open_app(root, run=["second"])
    set_column(root, "source", ["other"] * 11)
    open_app(root, run=["first"])
    assert len(set(built)) == 3


def test_nothing_grows(root, open_app):
    """After several changes, one FiftyOne dataset is left, without collections of the others."""

    def collections(_):
        import fiftyone.core.odm as odm

        return len(names_in_database()), len(odm.get_db_conn().list_collection_names())

    counts = []
    for source in "abc":
        set_column(root, "source", [source] * 11)
        counts.append(open_app(root, collections, run=["first"])[1])
    # the first deletion makes collections that FiftyOne keeps
    assert counts[1] == counts[2]


def test_other_peoples_datasets_stay(root, open_app, tmp_path):
    """Content of other programs and other datasets in the database is not changed."""

    def add(name):
        import fiftyone as fo

        fo.Dataset("mine", persistent=True, overwrite=True)
        return name

    _, own = open_app(root, add)
    other = save_scene(tmp_path / "others", runs=())
    _, names = open_app(other, names_in_database)
    assert {"mine", own} <= set(names)


def test_of_a_dataset_that_is_gone(tmp_path, open_app):
    """FiftyOne datasets of deleted folders are deleted."""
    import shutil

    _, name = open_app(save_scene(tmp_path / "old", runs=()))
    shutil.rmtree(tmp_path / "old")
    _, names = open_app(save_scene(tmp_path / "new", runs=()), names_in_database)
    assert name not in names


def test_what_a_person_made_comes_along(root, open_app):
    """Tags, views and workspaces of a person are kept when the dataset changes."""

    def make(name):
        import fiftyone as fo
        from fiftyone import ViewField as F

        dataset = load(name)
        dataset.match(F("image_id") == 3).tag_samples("drop")
        dataset.save_view("my view", dataset.match(F("split") == "val").limit(2))
        dataset.save_workspace("my place", fo.Space(children=[fo.Panel(type="Samples", component_id="a")]))
        return name

    def find(name):
        dataset = load(name)
        (tagged,) = dataset.match_tags("drop")
        return name, tagged.image_id, len(dataset.load_saved_view("my view")), "my place" in dataset.list_workspaces()

    _, old = open_app(root, make, run=["first"])
    set_column(root, "source", ["other"] * 11)
    _, (new, *found) = open_app(root, find, run=["first"])
    assert new != old
    assert found == [3, 2, True]


def test_tags_are_one_for_all_views(root, open_app):
    """Tags of one view appear in the others when they are opened; the latest apply."""

    def tag(name):
        from fiftyone import ViewField as F

        load(name).match(F("image_id").is_in([3, 5])).tag_samples("drop")

    def untag(name):
        from fiftyone import ViewField as F

        found = sorted(load(name).match_tags("drop").values("image_id"))
        load(name).match(F("image_id") == 5).untag_samples("drop")
        return found

    open_app(root, run=["second"])
    open_app(root, tag, run=["first"])
    assert open_app(root, untag, run=["second"])[1] == [3, 5]
    assert open_app(root, untag, run=["first"])[1] == [3]


def test_a_folder_that_is_away_for_a_while(root, open_app, tmp_path):
    """Tags are kept when the dataset moves, also after views of other datasets in between."""

    def tag(name):
        from fiftyone import ViewField as F

        load(name).match(F("image_id") == 3).tag_samples("drop")

    def tagged(name):
        return load(name).match_tags("drop").values("image_id")

    open_app(root, tag)
    root.rename(tmp_path / "away")
    # not the same content: two datasets that are committed in one second would have one mark
    open_app(save(build_dataset(tmp_path / "others", [[]]), pictures=True))
    assert open_app(tmp_path / "away", tagged)[1] == [3]
    (tmp_path / "away").rename(root)
    assert open_app(root, tagged)[1] == [3]


def test_only_views_are_built_on_request(root, open_app):
    """A request that names another class than a stage or an aggregation is refused."""
    from curate.fiftyone_app.guard import limit_requests

    def ask(_):
        import eta.core.utils as etau
        from fiftyone.core.aggregations import Aggregation, Count
        from fiftyone.core.stages import Limit, ViewStage

        limit_requests()
        touch = {"_cls": "subprocess.Popen", "kwargs": [["args", ["touch", str(root / "pwned")]]]}
        others = [{"_cls": f"fiftyone.core.stages.{name}", "kwargs": []} for name in ("Mongo", "ToFrames", "fot.x")]
        for base in (ViewStage, Aggregation):
            for one in (touch, *others, {"_cls": "fiftyone.core.odm.drop_database", "kwargs": []}, {}, None, []):
                with pytest.raises(ValueError, match="not to be built"):
                    base._from_dict(one)
        with pytest.raises(ImportError, match="not to be imported"):
            etau.get_class("subprocess.Popen")
        assert isinstance(ViewStage._from_dict({**Limit(3)._serialize(), "_uuid": None}), Limit)
        assert isinstance(Aggregation._from_dict(Count()._serialize()), Count)

    open_app(root, ask)
    assert not (root / "pwned").exists()


def test_cut_off(root, open_app, monkeypatch):
    """An interrupted load is repeated the next time."""
    from curate.fiftyone_app import dataset as fiftyone_views

    with monkeypatch.context() as patch:
        patch.setattr(fiftyone_views, "_colour", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            open_app(root, run=["first"])
    _, views = open_app(root, lambda name: load(name).list_saved_views(), run=["first"])
    assert EVERYTHING in views


def test_misuse(root, open_app, tmp_path):
    """Errors are one line, before anything is started."""
    with pytest.raises(UsageError, match="given twice"):
        open_app(root, run=["first", "first"])
    with pytest.raises(UsageError, match="split"):
        open_app(root, run=["first"], split="nowhere")
    with pytest.raises(DataError, match="no image"):
        open_app(save(build_dataset(tmp_path / "empty")))
    with pytest.raises(UsageError, match="not a score"):
        open_app(root, run=["first"], score=2)


def test_two_at_once(root, open_app):
    """Several open apps do not delete the FiftyOne datasets of one another."""

    def open_others(name):
        same, other = open_app(root, run=["first"]), open_app(root, names_in_database, run=["second"])
        assert same[1] == name
        assert name_in(other[0].link) != name
        assert {name, name_in(other[0].link)} <= set(other[1])
        assert name in names_in_database()
        return {same[0].port, other[0].port}

    first, ports = open_app(root, open_others, run=["first"])
    assert len(ports | {first.port}) == 3


@pytest.mark.long
def test_two_processes_at_once(root, tmp_path):
    """Several views run at once, and the last one leaves no process."""
    database = tmp_path / "database"
    with open_view(root, "--run", "first", database=database) as (first, process):
        others = (open_view(root, "--run", run, database=database) for run in ("first", "second"))
        with next(others) as (same, _), next(others) as (other, _):
            assert name_in(first["link"]) == name_in(same["link"]) != name_in(other["link"])
            assert len({one["port"] for one in (first, same, other)}) == 3
        assert process.poll() is None
    assert process.returncode == 0
    assert await_gone(database) == []


@pytest.mark.long
def test_a_server_that_is_there(root, tmp_path):
    """With FIFTYONE_DATABASE_URI that server is used and stays unchanged; none is started."""
    data, socket = tmp_path / "own", tmp_path / "own.sock"
    data.mkdir()
    own = subprocess.Popen(
        [find_mongod(), "--dbpath", data, "--bind_ip", socket, "--unixSocketPrefix", tmp_path],
        stdout=subprocess.DEVNULL,
    )
    try:
        while not socket.exists():
            time.sleep(0.05)
        uri = f"mongodb://{quote_plus(str(socket))}"
        database = tmp_path / "database"
        with open_view(root, "--run", "first", database=database, FIFTYONE_DATABASE_URI=uri) as (document, _):
            assert document["images"] == 11
            assert [line for line in processes_of(tmp_path) if "mongo_keeper" in line] == []
        assert own.poll() is None
        assert not (database / "data").exists()
    finally:
        own.terminate()
        own.wait()


@pytest.mark.parametrize("by", [pytest.param(signal.SIGTERM, marks=pytest.mark.long), signal.SIGKILL])
def test_killed(root, tmp_path, by):
    """A killed view leaves no process."""
    database = tmp_path / "database"
    with open_view(root, "--run", "first", database=database) as (_, process):
        assert processes_of(database)
        process.send_signal(by)
        process.wait(timeout=30)
        assert await_gone(database) == []
        assert process.returncode == (0 if by == signal.SIGTERM else -signal.SIGKILL)


def test_without_fiftyone(root, monkeypatch, app_database):
    """Without FiftyOne the error says how to install it."""
    import sys

    monkeypatch.setenv(FOLDER_VARIABLE, str(app_database))
    monkeypatch.setitem(sys.modules, "fiftyone", None)
    with pytest.raises(MissingError, match=r"curate-vision\[view\]"):
        viewing.view(root, browser=False)
