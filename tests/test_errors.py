"""The one form of all messages, and the exit codes."""

import errno
import os

import pytest

from curate.errors import (
    CurateError,
    DataError,
    MissingError,
    StoreError,
    StrictImportError,
    UsageError,
    is_disk_full,
    quote_remedy,
    system_error,
    unknown_name,
)


def test_whole_message():
    """A message says place, fact, got, expected and remedy, in this order."""
    error = CurateError("class is not declared", place="a.xml", got="'dgo'", expected="cat", remedy="Mend the file.")
    assert str(error) == "a.xml: class is not declared (got 'dgo'; expected cat). Mend the file."


def test_fact_alone():
    """What is not known leaves no trace in the message."""
    assert str(CurateError("nothing to undo")) == "nothing to undo."


def test_falsy_values_are_shown():
    """A value of 0 is a value."""
    assert str(CurateError("not a share", place="--val", got=0)) == "--val: not a share (got 0)."


@pytest.mark.parametrize(
    ("kind", "code"), [(CurateError, 1), (UsageError, 2), (DataError, 1), (StoreError, 1), (MissingError, 1)]
)
def test_exit_codes(kind, code):
    """Misuse leaves with 2, all else with 1."""
    assert kind("fact").exit_code == code


def test_strict_import_carries_its_result():
    """The result of a refused import can still be shown."""
    assert StrictImportError("fact", result="listed", place="a").result == "listed"


def test_unknown_name_suggests_the_closest():
    """A name that is nearly right brings the right one."""
    error = unknown_name("class", "maks", ["face", "mask"], place="D")
    assert str(error) == "D: unknown class (got 'maks'; expected one of face, mask). Did you mean 'mask'?"


def test_unknown_name_without_a_close_one():
    """Nothing is suggested where nothing is near."""
    assert "mean" not in str(unknown_name("class", "zebra", ["face", "mask"]))


def test_unknown_name_where_there_is_none():
    """An empty list of names is told in words."""
    assert "there are none yet" in str(unknown_name("class", "mask", []))


def test_unknown_name_in_another_case():
    """A name that differs in its case alone is the closest."""
    assert "Did you mean 'with_mask'?" in str(unknown_name("class", "WITH_MASK", ["mask", "with_mask"]))


def test_unknown_name_among_many():
    """A long list of names is cut; the closest name may be among the others."""
    error = str(unknown_name("class", "name_099x", [f"name_{number:03}" for number in range(100)]))
    assert "name_029, 70 more)" in error
    assert "Did you mean 'name_099'?" in error


def test_unknown_name_with_a_further_remedy():
    """What else to do follows the suggestion."""
    error = str(unknown_name("class", "maks", ["mask"], remedy="Import more."))
    assert error.endswith("Did you mean 'mask'? Import more.")


@pytest.mark.parametrize("value", [False, 0, 1.5, ["mask", True], {"mask": 1}, {True: "mask"}])
def test_names_that_yaml_reads_as_values(value):
    """A truth value or number in place of a name brings the advice to quote it."""
    assert "in quotes" in str(quote_remedy(value))


@pytest.mark.parametrize("value", ["no", ["mask"], None, {"mask": "face"}])
def test_names_that_are_text(value):
    """Text needs no quotes."""
    assert quote_remedy(value) is None


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM])
def test_what_the_system_says_about_a_write(number):
    """A full disk, a quota, a read-only disk and missing permissions bring the file, the fact and a remedy."""
    message = str(system_error(OSError(number, os.strerror(number), "a/HEAD")))
    assert message.startswith(f"a/HEAD: {os.strerror(number)}. ")
    assert message.endswith(".")


def test_what_failed_comes_before_what_the_system_says():
    """The caller knows what was written and where; its kind of error is kept."""
    error = system_error(OSError(errno.EINVAL, "Invalid argument", "x"), "no copy", place="D", kind=StoreError)
    assert (type(error), str(error)) == (StoreError, "D: no copy: Invalid argument.")


@pytest.mark.parametrize(
    ("error", "message"),
    [(OSError("odd\n thing"), "odd thing."), (OSError(), "OSError."), (TimeoutError(), "TimeoutError.")],
)
def test_system_error_without_a_number(error, message):
    """Libraries raise such errors with a text alone, or with nothing."""
    assert str(system_error(error)) == message


def test_full_disks_are_known():
    """A full disk is known by the system's number, in the error itself and in the one that it explains."""
    full = OSError(errno.ENOSPC, "x")
    explained = StoreError("no copy")
    explained.__cause__ = full
    assert is_disk_full(full)
    assert is_disk_full(explained)
    assert not is_disk_full(OSError(errno.EACCES, "x"))
    assert not is_disk_full(StoreError("no copy"))
