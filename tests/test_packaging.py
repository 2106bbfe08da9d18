"""What pip installs: the wheel has everything, runs, and takes a stranger's plugin in and lets it go again."""

import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

ROOT = Path(__file__).parent.parent
PIP = ("-m", "pip", "--disable-pip-version-check", "--quiet")
OFFLINE = {"PIP_NO_INDEX": "1", "PIP_NO_INPUT": "1"}

Call = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from this checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, *PIP, "wheel", str(ROOT), "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder)]
    subprocess.run(build, check=True, env={**os.environ, **OFFLINE})
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Call:
    """A clean environment with the wheel in it, and the dependencies of this one; calls its programs."""
    folder = tmp_path_factory.mktemp("clean")
    venv.create(folder / "venv", with_pip=True)
    programs = folder / "venv" / ("Scripts" if os.name == "nt" else "bin")
    python = programs / "python"
    (folder / "dependencies").mkdir()
    for package in Path(sysconfig.get_path("purelib")).iterdir():
        ours = package.name.lower().startswith(("rllab", "_rllab", "__editable__", "pip", "setuptools"))
        if not ours and package.suffix != ".pth":
            (folder / "dependencies" / package.name).symlink_to(package)
    site = subprocess.check_output(
        [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], text=True
    ).strip()
    (Path(site) / "dependencies.pth").write_text(f"{folder / 'dependencies'}\n")
    (folder / "work").mkdir()
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("RLLAB_", "PYTHON"))}

    def call(program: str, *arguments: object, code: int = 0) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [programs / program, *map(str, arguments)],
            cwd=folder / "work",
            env={**environment, **OFFLINE},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == code, f"{program} {arguments}: {done.stdout}{done.stderr}"
        assert "Traceback" not in done.stderr
        return done

    call("python", *PIP, "install", "--no-deps", wheel)
    return call


def names(done: subprocess.CompletedProcess[str]) -> set[str]:
    return {line.split()[0] for line in done.stdout.splitlines()[1:]}


def test_the_wheel_has_every_package_with_its_presets_templates_and_types(wheel: Path):
    files = set(zipfile.ZipFile(wheel).namelist())
    spokes = ("agents", "datasets", "envs", "generative", "supervised")
    packages = [ROOT / "rllab", *(ROOT / folder / f"rllab_{folder}" for folder in spokes)]
    expected = {f"{package.name}/py.typed" for package in packages}
    for package in packages:
        for path in package.rglob("*"):
            if path.suffix in {".py", ".toml", ".in", ".typed"}:
                expected.add(str(path.relative_to(package.parent)))
    assert {"rllab_agents/dqn.toml", "rllab_supervised/cnn.toml", "rllab_generative/vae.toml"} <= expected <= files
    assert {f"rllab/templates/agent/{name}" for name in ("package.py.in", "pyproject.toml.in", "test.py.in")} <= files
    strays = {name.split("/")[0] for name in files} - {package.name for package in packages}
    assert all(name.startswith("rllab-") and name.endswith(".dist-info") for name in strays), strays
    assert not [name for name in files if "__pycache__" in name or name.endswith(".pyc")]


def test_the_wheel_has_the_command_and_all_entry_points(wheel: Path):
    archive = zipfile.ZipFile(wheel)
    (name,) = (name for name in archive.namelist() if name.endswith("entry_points.txt"))
    text = archive.read(name).decode()
    for part in ("rllab = rllab.cli:main", "[rllab.agents]", "dqn = rllab_agents.dqn:DQN", "[rllab.loggers]"):
        assert part in text
    (licence,) = (name for name in archive.namelist() if name.endswith("LICENSE"))
    assert "MIT" in archive.read(licence).decode()


def test_the_installed_wheel_lists_and_trains(installed: Call):
    assert {"dqn", "console", "tensorboard"} <= names(installed("rllab", "list"))
    where = installed("python", "-c", "import rllab; print(rllab.__file__)").stdout
    assert str(ROOT) not in where
    small = ("--preset", "none", "--timesteps", "100", "--learning-starts", "50", "--device", "cpu")
    done = installed("rllab", "run", "dqn", "CartPole-v1", *small, "--json")
    assert '"status": "finished"' in done.stdout
    assert installed("rllab", "eval", "last", "--episodes", "2").stdout
    assert installed("rllab", "plugins", "--check").stdout.count(" ok") >= 30
    assert '"status": "finished"' in installed("rllab", "run", "knn", "digits", "--json").stdout
    assert "crescents" in installed("rllab", "data", "list").stdout
    assert "preset CartPole-v1" in installed("rllab", "run", "dqn", "CartPole-v1", "--dry-run").stdout


def test_a_strangers_plugin_comes_in_by_pip_and_goes_again(installed: Call, tmp_path: Path):
    source = tmp_path / "hill-climber"
    installed("rllab", "new", "agent", "hill-climber", "--directory", source)
    installed("python", *PIP, "install", "--no-deps", "--no-build-isolation", source)
    assert {"dqn", "hill-climber"} <= names(installed("rllab", "list"))
    assert "hill-climber 0.1.0" in installed("rllab", "list").stdout

    # it runs, is resumed, is measured, and passes its own test, which runs the conformance suite
    run = tmp_path / "run"
    small = ("--timesteps", "500", "--eval-episodes", "2", "--run-dir", run, "--quiet")
    installed("rllab", "run", "hill-climber", "CartPole-v1", *small, "--stop-after", "200", code=75)
    installed("rllab", "resume", run, "--quiet")
    installed("rllab", "eval", run, "--episodes", "2")
    assert "finished" in installed("rllab", "info", run).stdout
    assert "--noise" in installed("rllab", "run", "hill-climber", "--help").stdout
    assert " passed" in installed("python", "-m", "pytest", "-q", "-p", "no:cacheprovider", source).stdout

    # broken, it costs one line, and nothing else notices
    module = installed("python", "-c", "import hill_climber; print(hill_climber.__file__)").stdout.strip()
    healthy = Path(module).read_text()
    Path(module).write_text("import a_module_that_is_nowhere\n")
    assert {"dqn", "hill-climber"} <= names(installed("rllab", "list"))
    checked = installed("rllab", "plugins", "--check", code=4).stdout.splitlines()
    (line,) = (line for line in checked if "broken: " in line)
    assert line.startswith("hill-climber ")
    assert "a_module_that_is_nowhere" in line
    failed = installed("rllab", "run", "hill-climber", "CartPole-v1", code=4)
    assert 1 <= len(failed.stderr.splitlines()) <= 2
    assert len(installed("rllab", "resume", run, "--extend", "600", code=4).stderr.splitlines()) <= 2
    dqn = ("--preset", "none", "--timesteps", "100", "--learning-starts", "50", "--quiet")
    installed("rllab", "run", "dqn", "CartPole-v1", *dqn)
    Path(module).write_text(healthy)

    # removed, everything works as before
    installed("python", *PIP, "uninstall", "--yes", "hill-climber")
    assert "hill-climber" not in names(installed("rllab", "list"))
    installed("rllab", "plugins", "--check")
    installed("rllab", "run", "dqn", "CartPole-v1", *dqn)
    gone = installed("rllab", "resume", run, code=4).stderr
    assert "there is no method called 'hill-climber" in gone
