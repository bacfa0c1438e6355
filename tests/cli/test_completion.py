"""Shell completion: names of a dataset by the protocol of the shells; quick, and silent whatever is damaged."""

import io
import os
import shlex
import shutil
import subprocess
import sys

import pytest
from sample_datasets import MEDIUM, build_dataset, face_dataset, run_curate, save, set_column
from typer.main import get_command

from curate.cli import main
from curate.cli.app import app
from curate.cli.completion import VARIABLE, completer_of
from curate.commands.registry import COMMANDS, Role
from curate.engines.models import known_models
from curate.store import Store

CLASSES = ["with_mask", "without_mask", "badly_masked"]
TORCHVISION = [model.name for model in known_models() if model.engine == "torchvision"]
RESNETS = [model.name for model in known_models() if model.engine == "two-stage"]


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A saved dataset `faces` in the working folder, with two runs and two sources, and a run of another dataset."""
    root = save(face_dataset(tmp_path / "faces"), pictures=True)
    for run in ("faces/runs/first", "faces/runs/second", "masks/runs/old"):
        (tmp_path / run).mkdir(parents=True)
        (tmp_path / run / "run.json").touch()
    (root / "runs" / "notes").mkdir()
    (root / "media" / "images" / "clip").mkdir()
    (tmp_path / "masks" / "HEAD").write_text("000000\n")
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path)
    return root


@pytest.fixture
def tab(monkeypatch):
    """Press the tab key after these words, the last of which is incomplete; returns what bash is given."""

    def pressed(*words):
        with monkeypatch.context() as patch:
            patch.setenv(VARIABLE, "complete_bash")
            patch.setenv("COMP_WORDS", "\n".join(("curate", *words)))
            patch.setenv("COMP_CWORD", str(len(words)))
            patch.setattr(sys, "argv", ["curate"])
            patch.setattr(sys, "stdout", io.StringIO())
            with pytest.raises(SystemExit):
                main()
            return sys.stdout.getvalue().splitlines()

    return pressed


EVERY_NAME = [
    (("",), list(COMMANDS)),
    (("me",), ["merge-classes"]),
    (("stats", ""), ["faces", "masks"]),
    (("stats", "fa"), ["faces"]),
    (("stats", "new"), []),
    (("train", "faces", "--run", ""), ["first", "second"]),
    (("evaluate", "faces", "--run", "s"), ["second"]),
    (("evaluate", "faces", "--against", ""), ["first", "second"]),
    (("view", "faces", "--run", "first", "--run", "se"), ["second"]),
    (
        (
            "report",
            "faces",
            "--run=f",
        ),
        ["first"],
    ),
    (("predict", ""), ["faces/runs/first", "faces/runs/second", "masks/runs/old"]),
    (("predict", "faces/runs/s"), ["faces/runs/second"]),
    (("watch", "faces"), ["faces/runs/first", "faces/runs/second"]),
    (("merge-classes", "faces", ""), CLASSES),
    (("merge-classes", "faces", "badly_masked", "--into", "with"), ["with_mask", "without_mask"]),
    (("merge-classes", "faces", "with_mask", ""), ["without_mask", "badly_masked"]),
    (("rename-class", "faces", "b"), ["badly_masked"]),
    (("drop-class", "faces", "with_mask", "w"), ["without_mask"]),
    (("evaluate", "faces", "--split", ""), ["train", "val", "test", "all"]),
    (("label", "faces", "--source", ""), ["clip", "faces"]),
    (("checkout", "faces", ""), ["2", "1"]),
    (("diff", "faces", "1", ""), ["2", "1"]),
    (("train", "faces", "--model", "torchvision:ssd3"), ["ssd300_vgg16"]),
    (("train-classifier", "faces", "--model", ""), RESNETS),
    (("train-classifier", "faces", "--detector", "f"), ["first"]),
    (("import-voc", "faces", "x", "--origin", ""), ["labelimg", "voc"]),
]


@pytest.mark.parametrize(("words", "expected"), EVERY_NAME, ids=lambda value: " ".join(value))
def test_names_that_are_completed(root, tab, words, expected):
    """Datasets, runs, classes, versions, sources, splits, models and commands are completed where they are expected."""
    set_column(root, "split", ["train"] * 8)
    assert tab(*words) == expected


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("torchvision", ":", "fasterrcnn_m"), [name for name in TORCHVISION if name.startswith("fasterrcnn_m")]),
        (("torchvision", ":"), TORCHVISION),
        (("retinaface", ":", "m"), ["mobilenet0.25"]),
        (("ret",), ["retinaface:mobilenet0.25", "retinaface:resnet50", "retinaface:resnet152"]),
        (("nothing", ":", ""), []),
    ],
)
def test_colons(root, tab, words, expected):
    """bash splits words at colons and replaces the last part: that part alone is printed."""
    assert tab("train", "faces", "--model", *words) == expected


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("--run", "=", "s"), ["second"]),
        (("--run", "="), ["first", "second"]),
        (("--model", "=", "retinaface", ":", "m"), ["mobilenet0.25"]),
        (("--model", "=", "ret"), ["retinaface:mobilenet0.25", "retinaface:resnet50", "retinaface:resnet152"]),
    ],
)
def test_equals_signs(root, tab, words, expected):
    """bash splits `--run=second` too, and replaces what follows the sign."""
    assert tab("train", "faces", *words) == expected


@pytest.mark.parametrize(
    "name", ["it's", "a$b", "a(b)", "a;b", "a&b", "a*b", 'a"b', "a`b`", "a!b", "a\\b", "#a", "a b"]
)
def test_names_that_bash_would_interpret(tmp_path, monkeypatch, tab, name):
    """What bash would interpret in a name is quoted: the completed line means the name."""
    save(build_dataset(tmp_path / "d", [[(name, MEDIUM)]], classes=(name,)))
    monkeypatch.chdir(tmp_path)
    (word,) = tab("drop-class", "d", "")
    assert word != name
    assert shlex.split(word) == [name]


@pytest.mark.parametrize("name", ["maske", "Hündchen", "口罩", "a-b_c.d", "x+y", "50%", "a/b"])
def test_plain_names_are_not_quoted(tmp_path, monkeypatch, tab, name):
    """Names of letters of any script stay as they are."""
    save(build_dataset(tmp_path / "d", [[(name, MEDIUM)]], classes=(name,)))
    monkeypatch.chdir(tmp_path)
    assert tab("drop-class", "d", "") == [name]


def test_names_with_spaces(tmp_path, monkeypatch, tab):
    """A name with a space is quoted for bash."""
    save(build_dataset(tmp_path / "d", [[("with mask", MEDIUM)], [("bare", MEDIUM)]], classes=("with mask", "bare")))
    monkeypatch.chdir(tmp_path)
    assert tab("drop-class", "d", "'with") == ["'with mask'"]


def test_versions_beside_a_damaged_one(root, tab):
    """A damaged version file hides no other version: the one to check out may be among them."""
    set_column(root, "split", ["train"] * 8)
    for content in ("damaged", "{}", "[]"):
        (root / "versions" / "000002.json").write_text(content)
        assert tab("checkout", "faces", "") == ["1"]


def test_classes_are_those_of_the_current_version(root, tab):
    """After an undo, the classes of the version that is current are completed."""
    Store(root).commit("drop", {}, lambda now: now.replace(boxes=now.boxes[:0], classes=now.classes[:1]))
    assert tab("drop-class", "faces", "") == ["with_mask"]
    Store(root).undo()
    assert tab("drop-class", "faces", "") == CLASSES


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells(root, monkeypatch, capsys, shell):
    """zsh and fish are told the operation of a version, too."""
    monkeypatch.setenv(VARIABLE, f"complete_{shell}")
    monkeypatch.setenv("_TYPER_COMPLETE_ARGS", "curate checkout faces ")
    monkeypatch.setenv("_TYPER_COMPLETE_FISH_ACTION", "get-args")
    with pytest.raises(SystemExit):
        main()
    out = capsys.readouterr().out
    assert "build, 20" in out
    assert "1" in out


ATTACKS = [
    r"\$(touch pwned)",
    r"\`touch pwned\`",
    "a\\",
    r'\"; touch pwned; "',
    r"\'$(touch pwned)'",
    "$(touch pwned)",
    "'; touch pwned; '",
    r"\\$(touch pwned)",
    "; touch pwned",
]


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_names_run_nothing_in_zsh(tmp_path, monkeypatch, capsys):
    """zsh evaluates what Typer prints, and `_arguments` evaluates the names in it; bash has the same rules for both."""
    root = save(build_dataset(tmp_path / "d", [[(name, MEDIUM) for name in ATTACKS]], classes=ATTACKS))
    Store(root).commit("$(touch pwned) \\$(touch pwned)", {}, lambda now: now.replace(boxes=now.boxes[1:]))
    monkeypatch.chdir(tmp_path)
    arguments = '_arguments() { a="${1#*: :}"; eval "words=( ${a:2:-2} )"; printf "%s\\n" "${words[@]}"; }'
    for words in ("drop-class d ", "checkout d "):
        monkeypatch.setenv(VARIABLE, "complete_zsh")
        monkeypatch.setenv("_TYPER_COMPLETE_ARGS", f"curate {words}")
        monkeypatch.setattr(sys, "argv", ["curate"])
        with pytest.raises(SystemExit):
            main()
        printed = capsys.readouterr().out
        done = subprocess.run(
            ["bash", "--norc", "-c", f'{arguments}\neval "$1"', "bash", printed], capture_output=True, text=True
        )
        assert not (tmp_path / "pwned").exists()
        assert done.returncode == 0, done.stderr
        if words.startswith("drop"):
            assert {r"\$(touch pwned)", r"\`touch pwned\`", "a\\", r"\\$(touch pwned)"} <= set(done.stdout.splitlines())


def test_names_are_quoted_for_powershell(tmp_path, monkeypatch, capsys):
    """PowerShell puts what it is given into the command line as it is."""
    names = ["$(touch pwned)", "it's", "plain"]
    save(build_dataset(tmp_path / "d", [[(name, MEDIUM) for name in names]], classes=names))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(VARIABLE, "complete_powershell")
    monkeypatch.setenv("_TYPER_COMPLETE_ARGS", "curate drop-class d ")
    monkeypatch.setattr(sys, "argv", ["curate"])
    with pytest.raises(SystemExit):
        main()
    words = [line.partition(":::")[0] for line in capsys.readouterr().out.splitlines()]
    assert words == ["'$(touch pwned)'", "'it''s'", "plain"]


def test_invisible_characters_are_not_put_into_a_command_line(tmp_path, monkeypatch, tab):
    """A class is completed with its escapes, by which the commands know it; such runs are left out."""
    root = save(build_dataset(tmp_path / "d", [[("a\u202e", MEDIUM), ("b\nc", MEDIUM)]], classes=("a\u202e", "b\nc")))
    for run in ("ok", "no\x1b[2J", "no\nok2"):
        (root / "runs" / run).mkdir(parents=True)
        (root / "runs" / run / "run.json").touch()
    monkeypatch.chdir(tmp_path)
    assert tab("drop-class", "d", "") == [r"'a\u202e'", r"'b\nc'"]
    assert tab("train", "d", "--run", "") == ["ok"]


NOTHING = [
    ("train", "nowhere", "--run", ""),
    ("train", "--run", ""),
    ("drop-class", "nowhere", ""),
    ("checkout", "other", ""),
    ("label", "other", "--source", ""),
    ("stats", "no/such/folder/"),
    ("predict", "nowhere/runs/"),
    ("train", "--run", "a", "--model", "x", "--run", ""),
]


@pytest.mark.parametrize("words", NOTHING, ids=" ".join)
def test_nothing_to_complete(root, tab, words):
    """Where there is no dataset, nothing is printed, and nothing is raised."""
    assert tab(*words) == []


@pytest.mark.parametrize("content", ["", "{", "[]", '{"classes": 3}', "\x00"])
def test_damaged_version_file(root, tab, content):
    """A version file that cannot be read gives no names."""
    (root / "versions" / "000001.json").write_text(content)
    assert tab("drop-class", "faces", "") == []
    assert tab("diff", "faces", "") == []


@pytest.mark.parametrize("variable", ["COMP_WORDS", "COMP_CWORD"])
@pytest.mark.parametrize("value", [None, "", "x", "-3", "99", "curate"])
def test_broken_request(root, monkeypatch, capsys, variable, value):
    """A request that no shell makes prints no error."""
    monkeypatch.setenv(VARIABLE, "complete_bash")
    monkeypatch.setenv("COMP_WORDS", "curate\nstats\n")
    monkeypatch.setenv("COMP_CWORD", "2")
    monkeypatch.delenv(variable) if value is None else monkeypatch.setenv(variable, value)
    with pytest.raises(SystemExit):
        main()
    assert "rror" not in "".join(capsys.readouterr())


@pytest.mark.parametrize("command", COMMANDS.values(), ids=list(COMMANDS))
def test_every_name_of_a_run_dataset_and_model_has_a_completer(command):
    """A parameter that names a dataset, a run, a model or a split has a completer, which Typer asks."""
    built = {parameter.name: parameter for parameter in get_command(app).commands[command.name].params}
    roles = (Role.DATASET, Role.DATASET_AND_CARD, Role.DATASET_AND_RUNS, Role.NEW_RUN, Role.RUN, Role.EVALUATED_RUN)
    for name in {*command.names(*roles, Role.DETECTOR, Role.MODEL), "split", "against"} & built.keys():
        assert completer_of(command, name) is not None
        assert "shell_complete" in vars(built[name])


@pytest.mark.parametrize(
    "words", ["train faces --run ", "drop-class faces ", "train faces --model t", "checkout faces "]
)
def test_completion_is_quick(root, words):
    """The answer comes from a process that loads no library of tables, arrays or networks."""
    script = (
        "import sys\n"
        "from curate.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print(sorted({'pandas', 'numpy', 'torch', 'pyarrow', 'cv2'} & sys.modules.keys()), file=sys.stderr)\n"
    )
    environment = {VARIABLE: "complete_bash", "COMP_WORDS": f"curate {words}", "COMP_CWORD": str(len(words.split(" ")))}
    found = subprocess.run(
        [sys.executable, "-c", script], env={**os.environ, **environment}, capture_output=True, text=True
    )
    assert found.stdout
    assert found.stderr == "[]\n"


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_bash(root, tmp_path):
    """bash itself, with the script that --show-completion prints, gets the names."""
    program = tmp_path / "bin" / "curate"
    program.parent.mkdir()
    program.write_text(f"#!{sys.executable}\nfrom curate.cli import main\nmain()\n")
    program.chmod(0o755)
    script = run_curate("stats", **{VARIABLE: "source_bash"}).stdout
    keys = "COMP_WORDS=(curate merge-classes faces with); COMP_CWORD=3; _curate_completion curate"
    found = subprocess.run(
        ["bash", "--norc", "-c", f'{script}\n{keys}\nprintf "%s\\n" "${{COMPREPLY[@]}}"'],
        env={**os.environ, "PATH": f"{program.parent}:/usr/bin:/bin"},
        capture_output=True,
        text=True,
    )
    assert found.stdout.split() == ["with_mask", "without_mask"]
