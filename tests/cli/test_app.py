"""The command line as a whole: JSON documents, exit codes, errors, and how fast `--help` is."""

import json
import os
import re
import subprocess
import sys
from pkgutil import iter_modules

import pytest
from sample_datasets import MEDIUM, build_dataset, face_dataset, results_of, run_curate, save, write_json, write_text
from typer.main import get_command

import curate
from curate.cli.app import app
from curate.commands.registry import COMMANDS as REGISTRY
from curate.store import Store

HEAVY = ("pandas", "numpy", "torch", "cv2", "pyarrow", "matplotlib", "hotcoco", "pydantic", "yaml", "lxml", "rich")
COMMANDS = sorted(get_command(app).commands)


@pytest.fixture
def root(tmp_path):
    """A saved dataset, with its own boxes as `results.json` beside it."""
    root = save(face_dataset(tmp_path / "faces"), pictures=True)
    write_json(tmp_path / "results.json", results_of(Store(root).load()))
    return root


def in_process(monkeypatch, capsys, *arguments):
    """Run the command line in this process: exit code, stdout, stderr."""
    from curate.cli import main

    monkeypatch.setattr(sys, "argv", ["curate", *map(str, arguments)])
    with pytest.raises(SystemExit) as caught:
        main()
    out, err = capsys.readouterr()
    return caught.value.code or 0, out, err


# ── help ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("command", REGISTRY.values(), ids=lambda command: command.name)
def test_every_command_is_a_function_of_the_package(command):
    """Every command is a function of the package with the same name."""
    function = getattr(curate, command.function_name)
    assert function is command.function()
    assert (function.__name__, command.cli_function().__name__) == (command.function_name,) * 2


def test_no_module_has_the_name_of_a_command():
    """A package or module `curate.report` would hide the function `curate.report` once it was imported."""
    names = {module.name for module in iter_modules(curate.__path__)}
    assert not names & {command.replace("-", "_") for command in COMMANDS}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(monkeypatch, capsys, command):
    """Every command, argument and option has a help text."""
    code, out, _ = in_process(monkeypatch, capsys, command, "--help")
    assert (code, command in out) == (0, True)
    assert get_command(app).commands[command].help.rstrip().endswith(".")
    for parameter in get_command(app).commands[command].params:
        assert parameter.help, parameter.name


@pytest.mark.parametrize("command", sorted({*COMMANDS} - {"run", "predict", "watch", "models", "doctor"}))
def test_dataset_is_the_first_argument(command):
    """The first argument of every command is the dataset folder."""
    assert get_command(app).commands[command].params[0].name == "dataset"


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_json(command):
    """Every command has `--json`."""
    assert any("--json" in parameter.opts for parameter in get_command(app).commands[command].params)


def test_help_is_quick_and_loads_nothing_heavy():
    """`curate --help` and `import curate` load no heavy library; the help takes less than 0.4 s of CPU time."""
    script = (
        "import sys, curate\n"
        "assert not {heavy!r} & sys.modules.keys(), 'import curate'\n"
        "from curate.cli import main\n"
        "sys.argv = ['curate', '--help']\n"
        "try: main()\n"
        "except SystemExit as leaving: assert not leaving.code\n"
        "assert not {heavy!r} & sys.modules.keys(), {heavy!r} & sys.modules.keys()\n"
        "import resource; print(resource.getrusage(resource.RUSAGE_SELF).ru_utime, file=sys.stderr)\n"
    ).format(heavy=set(HEAVY))
    taken = [
        float(subprocess.run([sys.executable, "-c", script], capture_output=True, check=True, timeout=60).stderr)
        for _ in range(3)
    ]
    assert min(taken) < 0.4


def test_no_arguments(run_main):
    """Without a command, the help is shown and the exit code is 2."""
    found = run_main()
    assert (found.returncode, "merge-classes" in found.stdout + found.stderr) == (2, True)


def test_version():
    """`--version` prints the version of the package."""
    assert run_curate("--version").stdout == f"curate {curate.__version__}\n"


# ── JSON ─────────────────────────────────────────────────────────────────────────────────────────────────────────

ANSWERING = [
    ("stats", "faces"),
    ("stats", "faces", "--by", "split"),
    ("log", "faces"),
    ("log", "faces", "--all"),
    ("checkout", "faces", "0"),
    ("diff", "faces", "0", "1"),
    ("merge-classes", "faces", "badly_masked", "--into", "without_mask"),
    ("rename-class", "faces", "with_mask", "masked", "--dry-run"),
    ("drop-class", "faces", "with_mask"),
    ("drop-class", "faces", "with_mask", "without_mask", "badly_masked"),
    ("models",),
    ("runs", "faces"),
    ("doctor",),
    ("split", "faces", "--val", "0.25"),
    ("gc", "faces", "--dry-run"),
    ("undo", "faces"),
    ("export-coco", "faces", "out"),
    ("evaluate", "faces", "--predictions", "results.json"),
]


@pytest.mark.parametrize("arguments", ANSWERING, ids=" ".join)
def test_one_json_document(root, tmp_path, monkeypatch, capsys, arguments):
    """With `--json`, stdout holds exactly one document; without, a table. Both exit with 0."""
    monkeypatch.chdir(tmp_path)
    version = Store(root).head()
    code, out, _ = in_process(monkeypatch, capsys, *arguments, "--json")
    assert code == 0
    assert json.loads(out) is not None
    Store(root).check_out(version)
    if arguments[0] == "export-coco":
        arguments = (*arguments, "--overwrite")
    code, out, _ = in_process(monkeypatch, capsys, *arguments)
    assert (code, bool(out.strip())) == (0, True)
    assert not re.search(r"\bNone\b|\bnan\b", out)
    with pytest.raises(json.JSONDecodeError):
        json.loads(out)


def test_json_is_the_result_of_the_function(root, run_main):
    """The document on stdout is the result of the function; notes go to stderr."""
    found = run_main("evaluate", root, "--predictions", root.parent / "results.json", "--json")
    assert json.loads(found.stdout) == curate.evaluate(root, predictions=root.parent / "results.json").to_json()
    assert found.stderr.startswith("note: The dataset has no splits")


FAILING = [
    (2, "unknown class", "merge-classes", "faces", "nose", "--into", "with_mask"),
    (2, "no classes to merge given", "merge-classes", "faces"),
    (2, "share is out of range", "split", "faces", "--val", "2"),
    (1, "there is no dataset here", "stats", "nowhere"),
    (1, "there is no dataset here", "stats", "results.json"),
    (1, "Did you mean 'faces'?", "stats", "fcaes"),
    (1, "there is no version 7", "diff", "faces", "1", "7"),
    (1, "there is no version 7", "checkout", "faces", "7"),
    (1, "there is nothing to redo", "redo", "faces"),
    (1, "the results cannot be read", "evaluate", "faces", "--predictions", "nowhere.json"),
    (1, "there is no such folder", "import-voc", "new", "nowhere"),
    (1, "Did you mean 'faces'?", "import-voc", "new", "fcaes"),
    (1, "Did you mean 'faces'?", "import-widerface", "new", "fcaes"),
    (1, "Did you mean 'results.json'?", "evaluate", "faces", "--predictions", "reslts.json"),
    (1, "Did you mean 'results.json'?", "drop-class", "faces", "--map", "reslts.json"),
    (2, "Did you mean 'results.json'?", "run", "reslts.json"),
    (2, "Did you mean 'results.json'?", "sample-frames", "faces", "reslts.json"),
    (2, "Did you mean 'results.json'?", "watch", "torchvision:x", "reslts.json", "--weights", "results.json"),
    (2, "the pipeline cannot be read", "run", "nowhere.yaml"),
    (2, "not an assignment", "run", "recipe.yaml", "--set", "novalue"),
    (2, "unknown engine", "train", "faces", "--model", "nothing:x", "--run", "r"),
    (2, "not a plot file", "stats", "faces", "--plot", "x.doc"),
    (1, "", "stats", "n" * 300),
    (1, "", "stats", "faces", "--csv", "results.json/x.csv"),
    (2, "No such command 'stat'", "stat", "faces"),
    (2, "No such option", "stats", "faces", "--bye"),
    (2, "Missing argument", "stats"),
    (2, "Missing option", "train", "faces"),
    (2, "Did you mean 'torchvision:ssd300_vgg16'?", "train", "faces", "--model", "ssd300_vgg", "--run", "r"),
    (2, "--val", "split", "faces", "--val", "much"),
    (2, "--by", "stats", "faces", "--by", "moon"),
    (2, "A", "diff", "faces", "x", "y"),
]


@pytest.mark.parametrize(("expected", "message", "arguments"), [(code, text, rest) for code, text, *rest in FAILING])
def test_failure(root, tmp_path, monkeypatch, capsys, expected, message, arguments):
    """Misuse exits with 2, a problem with 1, with a message on stderr; with `--json` also in one document on stdout."""
    monkeypatch.chdir(tmp_path)
    code, out, err = in_process(monkeypatch, capsys, *arguments)
    assert (code, out) == (expected, "")
    assert message.lower() in err.lower()
    assert "Traceback" not in err
    code, out, err = in_process(monkeypatch, capsys, *arguments, "--json")
    assert code == expected
    assert list(json.loads(out)) == ["error"]
    assert message.lower() in json.loads(out)["error"].lower()
    assert Store(root).head() == 1


@pytest.mark.parametrize("json_option", [[], ["--json"]])
def test_problem_is_one_line(tmp_path, json_option, run_main):
    """An error is one line that starts with the name of the program."""
    found = run_main("stats", "nowhere", *json_option, folder=tmp_path)
    assert found.stderr.count("\n") == 1
    assert found.stderr.startswith("curate: nowhere: there is no dataset here")


@pytest.mark.parametrize(
    "damage",
    [
        ("HEAD", b"\xff\xfe"),
        ("versions/000001.json", b"{"),
        ("versions/000001.json", b"[]"),
        ("versions/000001.json", b"\xff\xfe"),
        ("versions/000001.json", b'{"classes": 3, "next_ids": {}}'),
        ("boxes", b""),
        ("boxes", b"PAR1"),
        ("images", os.urandom(3000)),
    ],
)
@pytest.mark.parametrize("command", [("stats",), ("split",), ("log",), ("undo",)], ids=" ".join)
def test_damaged_dataset_gives_no_traceback(root, monkeypatch, capsys, damage, command):
    """For any damaged file of a dataset, the output is a result or a one-line error."""
    name, content = damage
    file = root / (Store(root).read_version(1).tables[name] if "/" not in name and name != "HEAD" else name)
    file.write_bytes(content)
    code, _, err = in_process(monkeypatch, capsys, *command, root)
    assert code in (0, 1)
    assert "Traceback" not in err
    assert code == 0 or (err.count("\n") == 1 and err.startswith("curate: "))


# ── names, terminals, pipes ──────────────────────────────────────────────────────────────────────────────────────


def test_names_are_not_markup(tmp_path, monkeypatch, capsys):
    """Class names with brackets and colons are shown as they are."""
    names = ("[red]x[/red]", "[/nothing]", ":smile:", "[bold")
    root = save(build_dataset(tmp_path / "d", [[(name, MEDIUM) for name in names]], classes=names))
    for command in (["stats", root], ["merge-classes", root, "[bold", "--into", ":smile:", "--dry-run"]):
        code, out, err = in_process(monkeypatch, capsys, *command)
        assert (code, err) == (0, "")
        assert all(name in out for name in names)


@pytest.mark.parametrize("environment", [{"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C", "PYTHONUTF8": "0"}])
def test_ascii_terminal(tmp_path, environment):
    """Names that the terminal cannot show do not break tables, and JSON stays valid."""
    names = ("masqué", "口罩")
    root = save(build_dataset(tmp_path / "d", [[(name, MEDIUM) for name in names]], classes=names))
    assert run_curate("split", root, **environment).returncode == 0
    found = run_curate("stats", root, "--json", **environment)
    assert [entry["name"] for entry in json.loads(found.stdout)["classes"]] == list(names)


def test_folder_name_that_is_not_utf8(root, tmp_path):
    """A dataset folder may have a name that is not valid UTF-8; JSON shows it too."""
    os.rename(root, os.fsencode(tmp_path) + b"/f\xff")
    found = run_curate("export-coco", os.fsdecode(os.fsencode(tmp_path) + b"/f\xff"), "out", "--json", folder=tmp_path)
    assert (found.returncode, json.loads(found.stdout)["boxes"]) == (0, 11)
    missing = run_curate("stats", os.fsdecode(b"g\xff"), "--json", folder=tmp_path)
    assert (missing.returncode, "Traceback" in missing.stderr) == (1, False)
    assert "there is no dataset" in json.loads(missing.stdout)["error"]


@pytest.mark.parametrize("option", ["--json", "--by=split"])
def test_reader_that_closes_the_pipe(root, option):
    """A reader that closes the pipe early causes no traceback."""
    with subprocess.Popen(
        [sys.executable, "-c", "from curate.cli import main; main()", "stats", root, option],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        process.stdout.close()
        err = process.stderr.read().decode()
    assert (process.returncode in (0, 1), err) == (True, "")


def test_no_colours_in_a_pipe(root):
    """Without a terminal, tables are plain text."""
    assert "\x1b" not in run_curate("stats", root).stdout


# ── commands as a whole ──────────────────────────────────────────────────────────────────────────────────────────


def test_stats_as_a_table(root, run_main):
    """The table shows the counts and shares that the JSON has."""
    out = run_main("stats", root).stdout
    assert re.search(r"with_mask\s+7\s+63\.6 %\s+█+\s+5\s+3\s+2\s+2", out)
    assert "8 labelled images (1 without boxes), 0 not labelled, 11 boxes, imbalance 7.0" in out


def test_merge_and_undo(root, monkeypatch, capsys):
    """A dry run changes nothing, a merge makes a version, undo reverts it, and redo brings it back."""
    merge = ("merge-classes", root, "badly_masked", "--into", "without_mask")
    _, out, _ = in_process(monkeypatch, capsys, *merge, "--dry-run", "--json")
    assert json.loads(out)["version"] is None
    assert "version 2" in in_process(monkeypatch, capsys, *merge)[1]
    assert "version 2 is undone; version 1 is current" in in_process(monkeypatch, capsys, "undo", root)[1]
    assert "version 2 is current" in in_process(monkeypatch, capsys, "redo", root)[1]
    in_process(monkeypatch, capsys, "undo", root)
    assert Store(root).load().class_counts() == {"with_mask": 7, "without_mask": 3, "badly_masked": 1}


def test_log_marks_versions(root, monkeypatch, capsys):
    """The log marks the current version with a star, and with `--all` the versions that were left with brackets."""
    in_process(monkeypatch, capsys, "drop-class", root, "with_mask")
    in_process(monkeypatch, capsys, "undo", root)
    _, out, _ = in_process(monkeypatch, capsys, "log", root, "--all")
    assert re.search(r"^\(2\) +drop-class", out, flags=re.MULTILINE)
    assert re.search(r"^1 \* +build", out, flags=re.MULTILINE)


def test_log_shows_arguments_in_words(root, monkeypatch, capsys):
    """The log shows lists and mappings without the brackets of Python."""
    in_process(monkeypatch, capsys, "merge-classes", root, "badly_masked", "with_mask", "--into", "without_mask")
    out = in_process(monkeypatch, capsys, "log", root)[1]
    assert "merges without_mask: badly_masked, with_mask" in out


def test_run_prints_a_line_per_command(root, tmp_path, monkeypatch, capsys):
    """A pipeline prints one line per command; the second run repeats none; with `--json` it prints one document."""
    write_text(
        tmp_path / "recipe.yaml",
        "name: demo\nvars: {into: with_mask}\nsteps:\n"
        "  - merge-classes: {dataset: faces, sources: [badly_masked], into: $into}\n"
        "  - split: {dataset: faces}\n",
    )
    monkeypatch.chdir(tmp_path)
    command = ("run", "recipe.yaml", "--set", "into=without_mask")
    first = in_process(monkeypatch, capsys, *command)[1]
    assert re.search(r"✓ merge-classes\s+with_mask 7, without_mask 4\s+\[[\d.]+ s\]", first)
    assert in_process(monkeypatch, capsys, *command)[1].count("[unchanged]") == 2
    third = in_process(monkeypatch, capsys, *command, "--json")[1]
    assert [step["skipped"] for step in json.loads(third)["steps"]] == [True, True]


@pytest.mark.parametrize("value", ["[a", "a: b: c", "2024-01-01", "x: y", "{a", "'"])
def test_values_of_variables_are_text(root, tmp_path, monkeypatch, capsys, value):
    """Values of `--set` that are not numbers, booleans or lists are text."""
    monkeypatch.chdir(tmp_path)
    step = "{dataset: faces, old: with_mask, new: $to}"
    write_text(tmp_path / "r.yaml", f"name: r\nvars: {{to: x}}\nsteps:\n  - rename-class: {step}\n")
    _, out, _ = in_process(monkeypatch, capsys, "run", "r.yaml", "--set", f"to={value}", "--json")
    assert value in json.loads(out)["steps"][0]["result"]["after"]


def test_failing_pipeline(root, tmp_path, monkeypatch, capsys):
    """A pipeline that fails prints a one-line error, with `--json` one document."""
    write_text(tmp_path / "r.yaml", "name: r\nsteps:\n  - drop-class: {dataset: faces, names: [nose]}\n")
    monkeypatch.chdir(tmp_path)
    code, out, err = in_process(monkeypatch, capsys, "run", "r.yaml", "--json")
    assert (code, err.count("\n"), list(json.loads(out))) == (2, 1, ["error"])


def test_doctor_has_remedies(monkeypatch, capsys):
    """Every part is installed, or has a remedy."""
    checks = json.loads(in_process(monkeypatch, capsys, "doctor", "--json")[1])["checks"]
    assert [check["name"] for check in checks][:4] == ["python", "yt-dlp", "av", "scenedetect-headless"]
    assert all(check["ok"] or check["remedy"] for check in checks)
