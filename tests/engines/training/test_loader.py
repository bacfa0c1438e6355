"""Batches from worker processes: without shared memory, and from workers that do not answer."""

import pytest
from engine_contract import shapes_dataset
from extras import needs_torch

pytestmark = needs_torch
STEPS = 4


@pytest.fixture
def batches(tmp_path):
    from curate.engines.training.augment import Augmentation, Sizing
    from curate.engines.training.batches import TrainingBatches
    from curate.engines.training.order import BatchOrder
    from curate.run_folder.config import TrainingConfig

    dataset = shapes_dataset(tmp_path / "shapes", images=4)
    order = BatchOrder.of(dataset, TrainingConfig(model="some:model", batch=2))
    return TrainingBatches(dataset, order, Sizing(64, 96), Augmentation(), seed=0)


def load(batches, workers):
    from curate.engines.training.loader import BatchLoader

    loader = BatchLoader(batches, 0, STEPS, workers)
    return loader, [[image.tolist() for image in batch.images] for batch in loader]


def test_workers_change_nothing(batches):
    """Their batches are those that this process prepares."""
    assert load(batches, 2)[1] == load(batches, 0)[1] == load(batches, 1)[1]


def test_a_batch_that_does_not_fit_in_shared_memory_comes_through_a_pipe(batches, monkeypatch, caplog):
    """It is the same batch; what would make the training faster is said once."""
    from curate.engines.training import loader

    expected = load(batches, 0)[1]

    def full(_):
        raise RuntimeError("unable to write to file </torch_1_2>: No space left on device (28)")

    monkeypatch.setattr(loader, "_share", full)
    assert load(batches, 2)[1] == expected
    assert [record.message.count("shared memory") for record in caplog.records if record.levelname == "WARNING"] == [2]


def test_no_workers_without_semaphores(batches, monkeypatch, caplog):
    """Where no process can be started, this one prepares the batches."""
    from curate.engines.training import loader

    expected = load(batches, 0)[1]
    start = loader.BatchLoader._torch_loader

    def refuse(self, workers):
        if workers:
            raise OSError(28, "No space left on device")
        return start(self, workers)

    monkeypatch.setattr(loader.BatchLoader, "_torch_loader", refuse)
    assert load(batches, 2)[1] == expected
    assert "cannot be started" in caplog.text


def test_a_batch_that_cannot_be_opened_is_prepared_here(batches, monkeypatch, caplog):
    """As when this process has too many open files."""
    from curate.engines.training import loader

    expected = load(batches, 0)[1]

    def refuse(_):
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(loader, "_opened", refuse)
    assert load(batches, 1)[1] == expected
    assert caplog.text.count("Too many open files") == 1


class Silent:
    """An iterator like torch's, whose workers do not answer a number of times."""

    def __init__(self, times):
        self.times = times

    def __next__(self):
        from curate.engines.training.loader import Loaded, _Packed, pickle

        self.times -= 1
        if self.times >= 0:
            raise RuntimeError("DataLoader timed out after 60 seconds")
        return _Packed(pickle.dumps(Loaded("batch", {})), True)


def test_workers_that_do_not_answer_are_waited_for(batches, caplog):
    """Each minute says so."""
    from curate.engines.training.loader import BatchLoader

    loader = BatchLoader(batches, 0, STEPS, 1)
    loader._loader = Silent(3)
    assert next(loader) == "batch"
    assert [record.message for record in caplog.records if record.levelname == "WARNING"][-1].startswith(
        "step 0: no batch for 180 s"
    )


def test_workers_that_never_answer_are_an_error(batches):
    """After ten minutes without a batch."""
    from curate.engines.training.loader import BatchLoader
    from curate.errors import TrainingError

    loader = BatchLoader(batches, 0, STEPS, 1)
    loader._loader = Silent(1000)
    with pytest.raises(TrainingError, match=r"do not answer.*600 s.*--workers 0"):
        next(loader)
    assert not loader.is_waiting
