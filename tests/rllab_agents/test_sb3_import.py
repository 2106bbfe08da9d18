import json
import pickle
import subprocess
import sys
import warnings
import zipfile
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import stable_baselines3
import torch
from click.testing import CliRunner
from rllab_agents.sb3.importing import import_command
from stable_baselines3.common.noise import NormalActionNoise
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from rllab import planning, results
from rllab.errors import CheckpointError, UsageError
from rllab.seeding import global_state, set_global_state


@pytest.fixture(autouse=True)
def undisturbed():
    threads, before = torch.get_num_threads(), global_state()
    yield
    torch.set_num_threads(threads)
    set_global_state(before)


def save(path: Path, name: str, target: str, *, steps: int = 0, **arguments: Any) -> Any:
    """Return a model of the library that was trained a little, and save it."""
    model = getattr(stable_baselines3, name)("MlpPolicy", target, device="cpu", **arguments)
    model.learn(steps) if steps else None
    model.save(path)
    return model


def run_import(*arguments: Any) -> dict[str, Any]:
    """Run the command; return what it prints as JSON, or raise its error."""
    given = ["sb3", *map(str, arguments), "--json"]
    done = CliRunner().invoke(import_command, given, standalone_mode=False)
    if done.exception is not None:
        raise done.exception
    assert done.return_value == 0
    lines: dict[str, Any] = json.loads(done.stdout)
    return lines


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("RLLAB_OPTION_RUNS_DIR", str(tmp_path / "runs"))
    return tmp_path


MODELS: dict[str, tuple[str, str, dict[str, Any], dict[str, Any]]] = {
    "sb3-dqn": (
        "DQN",
        "CartPole-v1",
        {
            "policy_kwargs": {"net_arch": [6, 5], "activation_fn": torch.nn.Tanh},
            "learning_rate": lambda remaining: remaining * 1e-3,
            "train_freq": (8, "step"),
            "buffer_size": 500,
            "learning_starts": 30,
            "seed": 3,
            "steps": 50,
        },
        {"hidden": [6, 5], "activation": "tanh", "lr": 1e-3, "schedule": "linear", "train_every": 8},
    ),
    "sb3-ppo": (
        "PPO",
        "Pendulum-v1",
        {
            "n_steps": 16,
            "batch_size": 8,
            "n_epochs": 2,
            "clip_range": lambda remaining: remaining * 0.1,
            "use_sde": True,
            "policy_kwargs": {"log_std_init": -2.0, "activation_fn": torch.nn.GELU, "net_arch": {"pi": [4], "vf": [4]}},
            "steps": 16,
        },
        {
            "clip_range": 0.1,
            "clip_schedule": "linear",
            "use_sde": True,
            "hidden": [4],
            "policy_kwarg": {"log_std_init": -2.0, "activation_fn": "torch.nn.modules.activation:GELU"},
        },
    ),
    "sb3-a2c": (
        "A2C",
        "CartPole-v1",
        {"rms_prop_eps": 1e-4, "n_steps": 4, "policy_kwargs": {"net_arch": [5]}, "steps": 8},
        {"use_rms_prop": True, "rms_prop_eps": 1e-4, "rollout_steps": 4, "hidden": [5], "policy_kwarg": {}},
    ),
    "sb3-sac": (
        "SAC",
        "Pendulum-v1",
        {"ent_coef": "auto_0.2", "learning_starts": 5, "policy_kwargs": {"net_arch": [4]}, "steps": 6},
        {"alpha": None, "initial_alpha": 0.2, "target_entropy": -1.0, "hidden": [4], "policy_kwarg": {}},
    ),
    "sb3-td3": (
        "TD3",
        "Pendulum-v1",
        {
            "action_noise": NormalActionNoise(np.zeros(1), np.full(1, 0.3)),
            "learning_starts": 5,
            "policy_kwargs": {"net_arch": {"pi": [4], "qf": [5]}},
            "n_steps": 3,
            "steps": 6,
        },
        {
            "action_noise": 0.3,
            "n_step": 3,
            "replay_buffer_kwarg": {},
            "policy_kwarg": {"net_arch": {"pi": [4], "qf": [5]}},
        },
    ),
    "sb3-ddpg": (
        "DDPG",
        "Pendulum-v1",
        {"policy_kwargs": {"net_arch": [4]}, "learning_starts": 5, "train_freq": (1, "episode"), "steps": 6},
        {"hidden": [4], "policy_kwarg": {}, "train_every": 1, "train_unit": "episode"},
    ),
}


@pytest.mark.parametrize("name", sorted(MODELS))
def test_a_model_becomes_a_run_that_acts_like_it(name, folder):
    kind, target, arguments, expected = MODELS[name]
    model = save(folder / "mine.zip", kind, target, **arguments)
    imported = run_import(folder / "mine.zip", "--trust", "--env", target, "--eval-episodes", 2)
    run = results.load(imported["run"])
    assert not imported["notes"]
    assert run.path == folder / "runs" / target / name / f"imported-mine_seed{arguments.get('seed', 0)}"
    assert (run.info["method"], run.info["status"]) == (name, "finished")
    assert {option: run.info["config"][option] for option in expected} == expected
    assert (run.path / "config.toml").is_file()
    assert run.metrics["eval/return"].value.tolist() == [imported["metrics"]["eval/return"]]

    agent: Any = run.load(device="cpu")
    assert agent.count == model.num_timesteps
    space = gymnasium.make(target).observation_space
    space.seed(0)
    observations = np.clip(np.stack([space.sample() for _ in range(20)]), -3, 3)
    actions, _ = agent.act(observations, deterministic=True)
    assert np.array_equal(actions, model.predict(observations, deterministic=True)[0])
    assert run.evaluate(episodes=2)["eval/episodes"] == 2.0


def test_without_trust_nothing_is_unpickled(folder):
    save(folder / "mine.zip", "DQN", "CartPole-v1", buffer_size=10)
    poisoned(folder / "mine.zip", folder / "trap")
    with pytest.raises(UsageError, match=r"whose format is a pickle: reading policy_class, .* runs whatever") as caught:
        run_import(folder / "mine.zip", "--env", "CartPole-v1")
    assert "Say --trust" in str(caught.value)
    assert caught.value.exit_code == 2
    assert not (folder / "trap").exists()
    assert not (folder / "runs").exists()


class Trap:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def poisoned(path: Path, trap: Path) -> None:
    """Replace a setting, and the weights' file's neighbours, by a pickle that makes a file."""
    import base64

    with zipfile.ZipFile(path) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    data = json.loads(files["data"])
    data["policy_class"][":serialized:"] = base64.b64encode(pickle.dumps(Trap(trap))).decode()
    files |= {"data": json.dumps(data).encode(), "policy.optimizer.pth": pickle.dumps(Trap(trap))}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)


def test_weights_that_are_a_pickle_are_not_read_even_with_trust(folder):
    with zipfile.ZipFile(folder / "bad.zip", "w") as archive:
        archive.writestr("data", "{}")
        archive.writestr("policy.pth", pickle.dumps(Trap(folder / "trap")))
    with pytest.raises(UsageError, match="is no model of stable-baselines3"):
        run_import(folder / "bad.zip", "--trust", "--env", "CartPole-v1")
    assert not (folder / "trap").exists()


def test_files_that_are_none_of_the_librarys_are_told_in_one_line(folder):
    (folder / "text.zip").write_text("nothing")
    with zipfile.ZipFile(folder / "other.zip", "w") as archive:
        archive.writestr("readme", "")
    for name, says in (("text.zip", "not a zip"), ("other.zip", "no item named 'data'"), ("none.zip", "cannot read")):
        with pytest.raises(UsageError, match=says):
            run_import(folder / name, "--trust")


def test_the_environment_is_asked_for_or_seen_from_the_name(folder):
    save(folder / "mine.zip", "DQN", "CartPole-v1", buffer_size=10)
    with pytest.raises(UsageError, match=r"does not say which environment .* shape \(4,\)"):
        run_import(folder / "mine.zip", "--trust")
    (folder / "mine.zip").rename(folder / "dqn-CartPole-v1.zip")
    imported = run_import(folder / "dqn-CartPole-v1.zip", "--trust", "--eval-episodes", 0)
    assert results.load(imported["run"]).info["task"] == "CartPole-v1"
    assert imported["metrics"] == {}


def test_weights_that_do_not_fit_the_environment_are_an_error(folder, monkeypatch):
    monkeypatch.setattr(planning, "methods_for", lambda task, group: [])  # which imports every method
    save(folder / "mine.zip", "DQN", "CartPole-v1", buffer_size=10)
    with pytest.raises(UsageError, match=r"do not fit Acrobot-v1: size mismatch(.|\n)*another --env"):
        run_import(folder / "mine.zip", "--trust", "--env", "Acrobot-v1")
    with pytest.raises(UsageError, match="sb3-dqn cannot be trained on Pendulum-v1"):
        run_import(folder / "mine.zip", "--trust", "--env", "Pendulum-v1")
    assert not list((folder / "runs").glob("*/*/*"))


def test_settings_that_are_none_of_ours_become_notes(folder):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the library only warns of a minibatch that does not divide the rollout
        save(
            folder / "mine.zip",
            "PPO",
            "CartPole-v1",
            n_steps=10,
            batch_size=4,
            learning_rate=lambda remaining: 1 + remaining**2,
            policy_kwargs={"net_arch": [7]},
        )
    imported = run_import(folder / "mine.zip", "--trust", "--env", "CartPole-v1", "--eval-episodes", 1)
    assert any(
        "--lr is the default: its schedule (2, 1.25 in the middle, 1 at the end)" in n for n in imported["notes"]
    )
    assert any("does not divide the rollout" in note for note in imported["notes"])
    assert results.load(imported["run"]).info["config"]["hidden"] == [7]


def test_an_algorithm_of_another_library_is_refused(folder):
    save(folder / "mine.zip", "DQN", "CartPole-v1", buffer_size=10)
    with zipfile.ZipFile(folder / "mine.zip") as archive:
        data, weights = json.loads(archive.read("data")), archive.read("policy.pth")
    data["policy_class"]["__module__"] = "sb3_contrib.qrdqn.policies"
    with zipfile.ZipFile(folder / "other.zip", "w") as archive:
        archive.writestr("data", json.dumps(data))
        archive.writestr("policy.pth", weights)
    with pytest.raises(UsageError, match=r"not known here; its policy is of sb3_contrib\.qrdqn\.policies"):
        run_import(folder / "other.zip", "--trust", "--env", "CartPole-v1")


def test_statistics_of_observations_come_from_the_pickle_beside_it(folder):
    envs = VecNormalize(DummyVecEnv([lambda: gymnasium.make("CartPole-v1")]))
    model = stable_baselines3.PPO("MlpPolicy", envs, n_steps=32, batch_size=32, device="cpu").learn(64)
    model.save(folder / "mine.zip")
    envs.save(str(folder / "statistics.pkl"))
    files = ("--vec-normalize", folder / "statistics.pkl", "--env", "CartPole-v1", "--eval-episodes", 1)
    with pytest.raises(UsageError, match=r"reading statistics\.pkl, policy_class"):
        run_import(folder / "mine.zip", *files)
    agent: Any = results.load(run_import(folder / "mine.zip", "--trust", *files)["run"]).load(device="cpu")
    raw = np.linspace(-0.2, 0.2, 40, dtype=np.float32).reshape(10, 4)
    actions, _ = agent.act(raw, deterministic=True)
    assert np.array_equal(actions, model.predict(envs.normalize_obs(raw), deterministic=True)[0])
    with pytest.raises(UsageError, match="is no VecNormalize"):
        run_import(folder / "mine.zip", "--trust", *files[2:], "--vec-normalize", folder / "mine.zip")


def test_an_imported_run_cannot_be_trained_further(folder):
    from rllab import experiment

    save(folder / "mine.zip", "DQN", "CartPole-v1", buffer_size=10)
    imported = run_import(folder / "mine.zip", "--trust", "--env", "CartPole-v1", "--eval-episodes", 1)
    run = results.load(imported["run"])
    assert experiment.resume(run.folder)[1].state == "finished"
    with pytest.raises(CheckpointError, match="weights only"):
        experiment.resume(run.folder, extend=10**6)


def test_the_commands_help_does_not_import_the_library():
    code = (
        "import sys, rllab.cli\n"
        "try: rllab.cli.main(['import', 'sb3', '--help'])\n"
        "except SystemExit as end: assert not end.code\n"
        "assert not {'stable_baselines3', 'torch'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "--vec-normalize" in done.stdout
