import importlib.metadata
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from rllab import plugins
from rllab.errors import PluginError, UnknownName

Install = Callable[..., Path]


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder of installed distributions; those outside of it do not count."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)
    every = importlib.metadata.distributions
    monkeypatch.setattr(
        importlib.metadata,
        "distributions",
        lambda: every(path=[path for path in sys.path if str(tmp_path) in path]),
    )
    before = set(sys.modules)
    yield folder
    for name in set(sys.modules) - before:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


@pytest.fixture
def install(site: Path) -> Install:
    """Write the metadata of a distribution, and its module."""

    def write(
        distribution: str,
        entry_points: str,
        *,
        version: str = "1.0",
        code: str | None = None,
        requires: str = "",
        folder: Path = site,
    ) -> Path:
        module = distribution.replace("-", "_")
        info = folder / f"{module}-{version}.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n{requires}")
        (info / "entry_points.txt").write_text(entry_points)
        if code is not None:
            (folder / f"{module}.py").write_text(code)
        return info

    return write


METHOD = "from rllab.algorithm import Algorithm\nclass Method(Algorithm):\n    '''A method.'''\n"


# --- names --------------------------------------------------------------------------------------------------


def test_plugins_are_found_by_group_and_sorted_by_name(install: Install) -> None:
    install("stranger", "[rllab.agents]\nzeta = stranger:Z\nalpha = stranger:A\n[rllab.envs]\nmaze = stranger:M\n")
    assert plugins.names("rllab.agents") == ["alpha", "zeta"]
    assert plugins.names(("rllab.agents", "rllab.envs")) == ["alpha", "maze", "zeta"]
    assert plugins.find("rllab.envs") == [
        plugins.Plugin("maze", "rllab.envs", "stranger:M", "stranger", "1.0"),
    ]


def test_other_peoples_entry_points_are_not_ours(install: Install) -> None:
    install("stranger", "[console_scripts]\nstranger = stranger:main\n[rllab.agents]\nzeta = stranger:Z\n")
    assert [plugin.name for plugin in plugins.find()] == ["zeta"]


def test_nothing_is_imported_to_find_a_plugin(install: Install) -> None:
    install("stranger", "[rllab.agents]\nzeta = stranger:Method\n", code="raise RuntimeError('imported')")
    assert plugins.method("zeta").value == "stranger:Method"
    assert "stranger" not in sys.modules


def test_importing_the_module_imports_nothing_heavy() -> None:
    code = (
        "import sys, rllab.plugins; rllab.plugins.find();"
        "print([m for m in ('torch', 'gymnasium', 'pydantic', 'numpy') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


def test_a_plugin_is_gone_when_its_distribution_is(install: Install) -> None:
    info = install("stranger", "[rllab.agents]\nzeta = stranger:Z\n")
    assert plugins.names("rllab.agents") == ["zeta"]
    for file in info.iterdir():
        file.unlink()
    info.rmdir()
    assert plugins.names("rllab.agents") == []


def test_a_distribution_that_lies_on_the_path_twice_is_one(
    install: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install("stranger", "[rllab.agents]\nzeta = stranger:Z\n", version="2.0")
    install("Stranger", "[rllab.agents]\nzeta = stranger:Z\n", version="1.0", folder=tmp_path / "older")
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path / "older")])
    assert len(list(importlib.metadata.distributions())) == 2
    assert [plugin.version for plugin in plugins.find("rllab.agents")] == ["2.0"]
    assert plugins.method("zeta").version == "2.0"


def test_odd_entry_points_do_not_break_listing(install: Install) -> None:
    odd = "[rllab.agents]\ntwo words = stranger:Z\nno-colon = stranger\nempty =\nnothing at all\n = x:y\n"
    install("stranger", odd + "# a comment\n[rllab.\n")
    install("plain", "[rllab.agents]\nplain = plain:P\n")
    assert plugins.names("rllab.agents") == ["empty", "no-colon", "plain", "two words"]
    assert plugins.check(plugins.method("no-colon")) == (
        "its entry point 'stranger' is not of the form package.module:attribute. "
        "Mend it with `pip install --upgrade stranger`, or remove it with `pip uninstall stranger`."
    )


def test_damaged_distributions_do_not_break_listing(install: Install, site: Path) -> None:
    nameless = install("nameless", "[rllab.agents]\nzeta = nameless:Z\n")
    (nameless / "METADATA").write_text("Metadata-Version: 2.1\n")
    (install("gone", "[rllab.agents]\neta = gone:Z\n") / "METADATA").unlink()
    (install("latin", "") / "entry_points.txt").write_bytes(b"[rllab.agents]\n\xe9\xff = x:y\n")
    (site / "empty-1.0.dist-info").mkdir()
    (site / "file-1.0.dist-info").write_text("not a folder")
    install("plain", "[rllab.agents]\nplain = plain:P\n")
    assert plugins.names("rllab.agents") == ["plain"]


# --- which one ----------------------------------------------------------------------------------------------


def test_a_near_miss_is_answered_with_the_nearest_names_of_all_methods(install: Install) -> None:
    install("stranger", "[rllab.generative]\nchar-rnn = stranger:Z\n[rllab.envs]\nchar-rmm = stranger:E\n")
    with pytest.raises(UnknownName) as caught:
        plugins.method("charrnn")
    assert str(caught.value) == (
        "there is no method called 'charrnn'\nDid you mean 'char-rnn'? `rllab list` shows what there is."
    )
    assert caught.value.exit_code == 4


def test_a_name_of_two_distributions_is_an_error_that_says_how_to_choose(install: Install) -> None:
    install("one", "[rllab.agents]\nzeta = one:Z\n")
    install("two", "[rllab.agents]\nzeta = two:Z\n", version="3.1")
    with pytest.raises(PluginError) as caught:
        plugins.method("zeta")
    assert str(caught.value) == (
        "2 plugins are called 'zeta' (method): "
        "one 1.0 (rllab.agents: one:Z) and two 3.1 (rllab.agents: two:Z)\n"
        "Say which: zeta@one or zeta@two."
    )
    assert plugins.get("rllab.agents", "zeta@two").value == "two:Z"
    assert plugins.names("rllab.agents") == ["zeta"]


def test_a_name_is_unique_across_the_groups_of_methods(install: Install) -> None:
    install("one", "[rllab.agents]\nmlp = one:Z\n")
    install("two-words", "[rllab.supervised]\nmlp = two_words:Z\n[rllab.envs]\nmlp = two_words:E\n")
    with pytest.raises(PluginError, match="mlp@one or mlp@two-words"):
        plugins.method("mlp")
    assert plugins.method("mlp@two_words").group == "rllab.supervised"
    assert plugins.get("rllab.envs", "mlp", "environment").value == "two_words:E"
    assert {plugin.full_name for plugin in plugins.clashes(plugins.find())} == {"mlp@one", "mlp@two-words"}
    assert all(plugin.group != "rllab.envs" for plugin in plugins.clashes(plugins.find()))


def test_a_name_that_one_distribution_has_twice_is_said_to_be_its_own_fault(install: Install) -> None:
    install("one", "[rllab.agents]\nmlp = one:A\n[rllab.supervised]\nmlp = one:S\n")
    with pytest.raises(PluginError, match="One distribution has it twice"):
        plugins.method("mlp@one")


def test_the_wrong_distribution_is_answered_with_the_right_ones(install: Install) -> None:
    install("one", "[rllab.agents]\nzeta = one:Z\n")
    with pytest.raises(PluginError) as caught:
        plugins.method("zeta@other")
    assert str(caught.value) == "the method 'zeta' is not of 'other', but of one 1.0\nSay zeta@one."


# --- loading ------------------------------------------------------------------------------------------------


def test_loading_imports_the_attribute(install: Install) -> None:
    code = "from rllab.algorithm import Algorithm\nclass Outer:\n    class Inner(Algorithm):\n        pass\n"
    install("stranger", "[rllab.agents]\nzeta = stranger:Outer.Inner\n", code=code)
    loaded = plugins.load("rllab.agents", "zeta")
    assert isinstance(loaded, type)
    assert loaded.__qualname__ == "Outer.Inner"
    assert plugins.load(plugins.method("zeta")) is loaded
    assert plugins.check(plugins.method("zeta")) is None


@pytest.mark.parametrize(
    ("code", "cause"),
    [
        ("import sys; sys.exit(3)", "it calls sys.exit(3) when it is imported"),
        ("import nowhere_to_be_found", "it needs the module 'nowhere_to_be_found', which is not installed"),
        ("from json import dump_all", "ImportError: cannot import name 'dump_all' from 'json'"),
        ("class Method(:", "SyntaxError: invalid syntax (stranger.py, line 1)"),
        ("other = 1", "AttributeError: module 'stranger' has no attribute 'Method'"),
        ("raise ValueError('first\\nsecond')", "ValueError: first second"),
        ("raise BaseException", "BaseException"),
        ("class E(Exception):\n def __str__(self): raise E\nraise E()", "E"),
        (None, "ModuleNotFoundError: No module named 'stranger'"),
    ],
)
def test_whatever_goes_wrong_in_a_plugin_is_one_line_with_the_mend(
    install: Install, code: str | None, cause: str
) -> None:
    install("stranger", "[rllab.agents]\nzeta = stranger:Method\n", code=code)
    install("plain", "[rllab.agents]\nplain = plain:Method\n", code=METHOD)
    plugin = plugins.method("zeta")
    with pytest.raises(PluginError) as caught:
        plugins.load(plugin)
    message, hint = str(caught.value).split("\n")
    assert message.startswith(f"the plugin 'zeta' of stranger 1.0 cannot be used: {cause}")
    assert hint == "Mend it with `pip install --upgrade stranger`, or remove it with `pip uninstall stranger`."
    found = plugins.check(plugin)
    assert found is not None
    assert found.startswith(cause)
    assert "\n" not in found
    assert plugins.check(plugins.method("plain")) is None


def test_control_c_during_an_import_is_no_fault_of_the_plugin(install: Install) -> None:
    install("stranger", "[rllab.agents]\nzeta = stranger:Method\n", code="raise KeyboardInterrupt")
    with pytest.raises(KeyboardInterrupt):
        plugins.load("rllab.agents", "zeta")


def test_a_missing_module_that_belongs_to_an_extra_names_the_extra(install: Install) -> None:
    requires = "Provides-Extra: big\nRequires-Dist: nowhere-to-be-found>=2 ; extra == 'big'\n"
    code = "import nowhere_to_be_found.deep"
    install("stranger", "[rllab.agents]\nzeta = stranger:Method\n", code=code, requires=requires)
    with pytest.raises(PluginError, match=r"pip install 'stranger\[big\]'"):
        plugins.load("rllab.agents", "zeta")


def test_nobody_is_told_to_uninstall_rllab_itself(install: Install) -> None:
    install("rllab", "[rllab.agents]\nzeta = nowhere_to_be_found:Method\n", version="0.1")
    with pytest.raises(PluginError) as caught:
        plugins.load("rllab.agents", "zeta")
    assert caught.value.hint == "Mend it with `pip install --upgrade rllab`."


def test_what_a_plugin_prints_while_it_is_imported_stays_off_stdout(
    install: Install, capsys: pytest.CaptureFixture[str]
) -> None:
    install("stranger", "[rllab.agents]\nzeta = stranger:Method\n", code="print('hello')\n" + METHOD)
    plugins.load("rllab.agents", "zeta")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "hello\n"


def test_extras_are_what_the_metadata_says_for_this_machine(install: Install) -> None:
    requires = (
        "Provides-Extra: big\nProvides-Extra: none\nRequires-Dist: always\n"
        'Requires-Dist: large[inner]>=1; python_version >= "3.8" and extra == "big"\n'
        'Requires-Dist: elsewhere; sys_platform == "nowhere" and extra == "big"\n'
    )
    install("stranger", "", requires=requires)
    assert plugins.extras("stranger") == {"big": ["large[inner]"], "none": []}
    assert plugins.extras("not-installed") == {}
