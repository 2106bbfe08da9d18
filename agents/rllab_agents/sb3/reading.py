"""What a zip of stable-baselines3 says: weights, and settings in rllab's spelling.

The zip has `policy.pth`, tensors that torch reads without unpickling, and `data`, JSON whose values are plain, or
pickles in base64. Only settings that are needed here are unpickled, and only when asked for.
"""

from __future__ import annotations

import base64
import inspect
import io
import json
import pickle
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import torch
from stable_baselines3.common.noise import OrnsteinUhlenbeckActionNoise, VectorizedActionNoise
from stable_baselines3.her.her_replay_buffer import HerReplayBuffer

from rllab import planning
from rllab.config import flag
from rllab.errors import UsageError, one_line
from rllab.parts.networks import Activation, activate
from rllab.planning import Plan
from rllab_agents.sb3.arguments import DECIDED
from rllab_agents.sb3.base import SB3Agent

_PICKLE = ":serialized:"
_SIGNS = {
    "sb3-dqn": ("dqn.policies", "exploration_fraction"),
    "sb3-ppo": ("common.policies", "n_epochs"),
    "sb3-a2c": ("common.policies", "gae_lambda"),
    "sb3-sac": ("sac.policies", "target_entropy"),
    "sb3-td3": ("td3.policies", "policy_delay"),
}
"""Module of the policy, and a setting, by which an algorithm is known; the first that fits."""
_NEEDED = (
    *("policy_class", "policy_kwargs", "learning_rate", "clip_range", "clip_range_vf", "train_freq"),
    *("action_noise", "replay_buffer_class", "replay_buffer_kwargs", "observation_space", "action_space"),
)
_ACTING = {"policy", "hidden", "activation", "policy_kwarg", "use_sde", "normalize_observations", "final_epsilon"}
"""Options that decide how a model acts; without the others it is the same model."""


@dataclass(frozen=True)
class Saved:
    """A model as the library saved it.

    Attributes:
        path: the file.
        data: its settings, plain or pickled.
        weights: of its policy, by the library's names.
    """

    path: Path
    data: dict[str, Any]
    weights: dict[str, torch.Tensor]

    @property
    def steps(self) -> int:
        """Return the env steps it was trained for."""
        return int(self.data.get("num_timesteps") or 0)

    @property
    def pickled(self) -> list[str]:
        """Return the names of the settings that would be unpickled."""
        return [name for name in _NEEDED if _is_pickle(self.data.get(name))]

    def shape(self, space: str) -> tuple[int, ...]:
        """Return the shape of the "observation" or "action" space, as far as it is told in plain."""
        return tuple(self.data.get(f"{space}_space", {}).get("_shape") or ())

    def value(self, name: str) -> Any:
        """Return a setting, unpickled if need be.

        Raises:
            UsageError: if that fails.
        """
        value = self.data[name]
        if not _is_pickle(value):
            return value
        try:
            return pickle.loads(base64.b64decode(value[_PICKLE]))  # noqa: S301 - asked for by --trust
        except Exception as error:  # a pickle may raise anything
            raise UsageError(f"{name} cannot be unpickled: {one_line(error)}") from error


def open_file(path: Path) -> Saved:
    """Read what can be read of a file without unpickling.

    Raises:
        UsageError: if it is no zip of stable-baselines3.
    """
    try:
        with zipfile.ZipFile(path) as archive, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's, of pickles that are none of its own
            data = json.loads(archive.read("data"))
            weights = torch.load(io.BytesIO(archive.read("policy.pth")), map_location="cpu", weights_only=True)
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror or error}") from None
    except (zipfile.BadZipFile, KeyError, ValueError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise UsageError(
            f"{path} is no model of stable-baselines3: {one_line(error)}", "It takes a zip that its save() wrote."
        ) from None
    if not isinstance(data, dict) or not isinstance(weights, dict):
        raise UsageError(f"{path} is no model of stable-baselines3: its settings or weights are no table")
    return Saved(path, data, weights)


def _is_pickle(value: Any) -> bool:
    return isinstance(value, dict) and _PICKLE in value


def algorithm_of(saved: Saved) -> str:
    """Return the name of the method a model is of.

    Raises:
        UsageError: if it is none of ours.
    """
    module = str(saved.data.get("policy_class", {}).get("__module__", ""))
    for name, (place, sign) in _SIGNS.items():
        if module == f"stable_baselines3.{place}" and sign in saved.data:
            # the library's DDPG is a TD3 without its three tricks
            tricks = saved.data["policy_delay"] > 1 or saved.data["target_noise_clip"] if name == "sb3-td3" else True
            return name if tricks else "sb3-ddpg"
    raise UsageError(
        f"{saved.path} is of an algorithm that is not known here; its policy is of {module or 'no known class'}",
        "--algorithm says what it is, where that is not seen.",
    )


# --- settings -------------------------------------------------------------------------------------


def plan(
    saved: Saved, method: str, target: str, vec_normalize: Path | None, *, runs_dir: str
) -> tuple[Plan, list[str]]:
    """Return the plan of a run with the settings of a model, and what could not be taken over.

    Raises:
        UsageError: if the model does not fit the environment, or cannot be built here.
    """
    library: Any = planning.load_method(method).algorithm
    options, notes = options_of(saved, library)
    if vec_normalize is not None:
        options["normalize_observations"] = bool(_normalizer(vec_normalize).norm_obs)
    given = {"preset": "none", "seed": max(0, int(saved.data.get("seed") or 0)), "device": "cpu", "runs_dir": runs_dir}
    taken, lost = _valid(options, max(saved.steps, int(saved.data.get("_total_timesteps") or 0), 1), library)
    return planning.plan(method, target, given | taken, source="import"), notes + lost


def _valid(options: dict[str, Any], steps: int, library: type[SB3Agent]) -> tuple[dict[str, Any], list[str]]:
    """Return options that are valid with a budget of so many steps or more, and why some were dropped."""
    enough = max(steps, 1_000_000)  # for anything that happens once in a while
    acting = {name: value for name, value in options.items() if name in _ACTING}
    lost: list[str] = []
    for taken in (options | {"timesteps": steps}, options | {"timesteps": enough}):
        try:
            library.Config.parse(taken)
        except UsageError as error:
            lost = [f"its training settings are not kept: {one_line(error)}"]
        else:
            return taken, []
    return acting | {"timesteps": enough}, lost


def options_of(saved: Saved, library: type[SB3Agent]) -> tuple[dict[str, Any], list[str]]:
    """Return the settings of a model as options, and what could not be taken over."""
    options: dict[str, Any] = {"num_envs": max(1, int(saved.data.get("n_envs") or 1))}
    notes: list[str] = []
    fields = library.Config.model_fields
    for name in inspect.signature(library.library).parameters:
        option = library.spelling.get(name, name)
        stored = "policy_class" if name == "policy" else name
        if name in DECIDED or option not in fields or stored not in saved.data:
            continue
        try:
            options |= _translated(name, option, saved.value(stored), saved, library)
        except UsageError as error:
            if option in _ACTING:
                raise
            notes.append(f"{flag(option)} is the default: {error.message}")
    if issubclass(library, SB3Agent) and "use_rms_prop" in fields:
        options |= _optimizer(options)
    return options, notes


def _translated(name: str, option: str, value: Any, saved: Saved, library: type[SB3Agent]) -> dict[str, Any]:
    """Return one setting of the library as options."""
    match name:
        case "policy":
            return {option: _alias(value, library)}
        case "policy_kwargs":
            return _networks(dict(value), library)
        case "learning_rate":
            return _falling(option, "schedule", value)
        case "clip_range":
            return _falling(option, "clip_schedule", value)
        case "clip_range_vf":
            return {option: 0.0 if value is None else _falling(option, "", value)[option]}
        case "target_kl":
            return {option: value or 0.0}
        case "train_freq":
            number, unit = (value, "step") if isinstance(value, int) else tuple(value)
            unit = str(getattr(unit, "value", unit))
            return {
                option: number * int(saved.data.get("n_envs") or 1) if unit == "step" else number,
                "train_unit": unit,
            }
        case "action_noise":
            return _noise(value)
        case "replay_buffer_class":
            is_known = value is None or value.__module__ == "stable_baselines3.common.buffers"
            return {option: "auto" if is_known else "her" if value is HerReplayBuffer else _named(value)}
        case "rollout_buffer_class":
            return {}
        case "replay_buffer_kwargs":  # the library adds two of its own
            return {option: {key: item for key, item in value.items() if key not in {"n_steps", "gamma"}}}
        case "ent_coef" if isinstance(value, str):
            return {"alpha": None, "initial_alpha": float(value.partition("_")[2] or 1)}
        case "target_entropy":
            return {option: None if value == "auto" else value}
        case "max_grad_norm":
            return {option: 0.0 if value == float("inf") else value}
    return {option: value}


def _alias(policy: Any, library: type[SB3Agent]) -> str:
    found = [name for name, known in library.library.policy_aliases.items() if known is policy]
    if not found:
        raise UsageError(f"its policy is {policy!r}, which is none of {library.library.__name__}'s own")
    return found[0]


def _networks(given: dict[str, Any], library: type[SB3Agent]) -> dict[str, Any]:
    """Return policy_kwargs as options: hidden layers, what follows them, and all else."""
    options: dict[str, Any] = {}
    for name in ("use_sde", "device"):  # the library's own addition, and a word about the machine
        given.pop(name, None)
    if library.library.__name__ == "DDPG" and given.get("n_critics") == 1:
        del given["n_critics"]
    arch = given.get("net_arch")
    if isinstance(arch, list) and len(arch) == 1 and isinstance(arch[0], dict):  # of versions before 1.8
        arch = given["net_arch"] = arch[0]
    if isinstance(arch, dict) and len({tuple(layers) for layers in arch.values()}) == 1 and len(arch) == 2:
        arch = next(iter(arch.values()))
    if isinstance(arch, list) and all(isinstance(units, int) for units in arch):
        options["hidden"] = list(arch)
        del given["net_arch"]
    names = {type(activate(name)): name for name in get_args(Activation)}
    if given.get("activation_fn") in names:
        options["activation"] = names[given.pop("activation_fn")]
    options["policy_kwarg"] = {key: _named(item) if isinstance(item, type) else item for key, item in given.items()}
    return options


def _optimizer(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return what A2C has added to its policy's arguments as the options they come from."""
    given = dict(options.get("policy_kwarg", {}))
    if given.pop("optimizer_class", None) != _named(torch.optim.RMSprop):
        return {"use_rms_prop": False}
    return {"rms_prop_eps": given.pop("optimizer_kwargs", {}).get("eps", 1e-5), "policy_kwarg": given}


def _named(kind: Any) -> str:
    return f"{kind.__module__}:{kind.__qualname__}"


def _falling(option: str, schedule: str, value: Any) -> dict[str, Any]:
    """Return a number, or a function of the share of the budget that remains, as options.

    Raises:
        UsageError: if the function is neither constant nor linear to 0.
    """
    if not callable(value):
        return {option: value}
    function: Any = value
    start, middle, end = (float(function(remaining)) for remaining in (1.0, 0.5, 0.0))
    if start == middle == end:
        return {option: start}
    if not schedule or abs(middle - start / 2) > 1e-9 * start or end != 0:
        raise UsageError(f"its schedule ({start:g}, {middle:g} in the middle, {end:g} at the end) is none of ours")
    return {option: start, schedule: "linear"}


def _noise(noise: Any) -> dict[str, Any]:
    if noise is None:
        return {"action_noise": 0.0}
    noise = noise.base_noise if isinstance(noise, VectorizedActionNoise) else noise
    widths = set(noise._sigma.tolist())
    if len(widths) > 1:
        raise UsageError(f"its noise is of several widths: {noise!r}")
    process = "ornstein-uhlenbeck" if isinstance(noise, OrnsteinUhlenbeckActionNoise) else "normal"
    return {"action_noise": widths.pop(), "noise_process": process}


# --- weights --------------------------------------------------------------------------------------


def fill(agent: SB3Agent, saved: Saved, vec_normalize: Path | None) -> list[str]:
    """Load the weights, and the statistics of observations; return what there is to tell.

    Raises:
        UsageError: if they do not fit the networks that the environment needs.
    """
    try:
        agent.policy.load_state_dict(saved.weights)
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1].strip()
        raise UsageError(
            f"the weights of {saved.path} do not fit {agent.task.name}: {reason}", "Was it trained on another --env?"
        ) from error
    if vec_normalize is not None and agent.normalizer is not None:
        rms = _normalizer(vec_normalize).obs_rms
        agent.normalizer.mean.copy_(torch.as_tensor(rms.mean).reshape(-1))
        agent.normalizer.variance.copy_(torch.as_tensor(rms.var).reshape(-1))
        agent.normalizer.number.fill_(float(rms.count))
    return [
        f"{name} spaces differ: {there} in the file, {here} of {agent.task.name}"
        for name, there, here in _spaces(agent, saved)
        if there != here
    ]


def _spaces(agent: SB3Agent, saved: Saved) -> list[tuple[str, Any, Any]]:
    model, found = agent.model, []
    for name, here in (("observation", model.observation_space), ("action", model.action_space)):
        try:
            found.append((name, saved.value(f"{name}_space"), here))
        except (UsageError, KeyError):  # of gym, which came before Gymnasium
            continue
    return found


def _normalizer(path: Path) -> Any:
    try:
        with path.open("rb") as file:
            found = pickle.load(file)  # noqa: S301 - asked for by --trust
        assert found.obs_rms is not None
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from None
    except Exception as error:  # a pickle may raise anything
        raise UsageError(f"{path} is no VecNormalize of stable-baselines3: {one_line(error)}") from error
    return found
