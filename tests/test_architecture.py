"""What imports what: the hub no spoke, and the command line nothing heavy before a command runs."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
HEAVY = ("torch", "gymnasium", "pydantic", "numpy")


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["-h"],
        ["--version"],
        ["list"],
        ["list", "agents", "--json"],
        ["plugins"],
        ["run"],
        ["completion", "bash"],
    ],
    ids=" ".join,
)
def test_the_command_line_imports_nothing_heavy_before_a_command_runs(arguments):
    code = (
        "import sys\nfrom rllab.cli import main\n"
        "try:\n    main(sys.argv[1:])\nexcept SystemExit:\n    pass\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("words", ["rllab ", "rllab run ", "rllab run d", "rllab resume --", "rllab list "])
def test_completion_in_a_shell_imports_nothing_heavy(words):
    code = (
        "import sys\nfrom rllab.cli import cli\n"
        "try:\n    cli.main(prog_name='rllab')\nexcept SystemExit:\n    pass\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules])\n"
    )
    environment = {
        **os.environ,
        "_RLLAB_COMPLETE": "bash_complete",
        "COMP_WORDS": words,
        "COMP_CWORD": str(len(words.split(" ")) - 1),
    }
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
    if words == "rllab run d":
        assert "plain,dqn" in done.stdout


def test_import_rllab_is_cheap():
    code = f"import rllab, sys; print([name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_the_contracts_of_import_linter_hold():
    pytest.importorskip("importlinter")
    from importlinter.cli import lint_imports

    code = (
        "import sys\nfrom importlinter.cli import lint_imports\n"
        "sys.exit(lint_imports(config_filename='pyproject.toml', no_cache=True))\n"
    )
    assert callable(lint_imports)
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert " 0 broken" in done.stdout


def test_every_package_says_that_it_is_typed():
    packages = [path.parent for path in ROOT.glob("*/__init__.py")] + [
        path.parent for path in ROOT.glob("*/rllab_*/__init__.py")
    ]
    assert {path.name for path in packages} >= {"rllab", "rllab_agents"}
    assert [path for path in packages if not (path / "py.typed").is_file()] == []


def test_no_module_has_the_name_of_a_public_function():
    import rllab

    modules = {path.stem for path in (ROOT / "rllab").glob("*.py")} | {
        p.name for p in (ROOT / "rllab").iterdir() if p.is_dir()
    }
    assert modules & set(rllab.__all__) == set()


def test_every_public_name_can_be_imported_and_others_are_attribute_errors():
    import rllab

    for name in rllab.__all__:
        assert getattr(rllab, name) is not None
        assert name in dir(rllab)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = rllab.nothing
