"""Every method learns what the probe environments teach, and every fault that is planted shows in one of them.

A sound method is at most `RIGHT` away from what a probe's `expected_values` say (see `probing`); with a fault it
is more than `WRONG` away, twice as much. The faults (see `planting`), and the probe that tells each:

| fault | probe | planted into |
|---|---|---|
| the value of a terminal state is not 0 | Constant | dqn, c51, a2c, ppo, td3, q-learning, sarsa |
| the gradient of the values has the wrong sign | Constant | dqn, qr-dqn, reinforce, ddpg |
| the baseline is added to the return, not taken from it | Constant | a2c, ppo |
| rewards come one step late | Observation | dqn, c51, a2c, ppo, td3, q-learning, sarsa |
| values are learned of the observation after the step | Observation | dqn, qr-dqn, a2c, ppo, ddpg |
| values (B, 1) against targets (B,) | Observation | dqn, a2c, ppo, reinforce, sac, td3 |
| no discount | Delay | dqn, c51, qr-dqn, a2c, ppo, reinforce, ddpg, q-learning, sarsa |
| the target network stays as it was | Delay | dqn, c51, qr-dqn, sac, td3 |
| the row of a reset is learned from | Delay | dqn, qr-dqn, a2c, ppo, td3, q-learning, sarsa |
| returns go on over the ends of episodes | Delay | reinforce |
| the value after n steps is discounted once | Delay, of 5 steps | dqn |
| truncation is taken for termination | Truncation | all that learn values |
| what follows a truncation is the next episode | Truncation | dqn, a2c, ppo, td3, q-learning |
| n-step returns go on over a truncation | Truncation | dqn |
| GAE's trace goes on over a truncation | Truncation, the first rollout | a2c, ppo |
| the gradient of the policy has the wrong sign | Action | a2c, ppo, reinforce, sac, ddpg |
| advantages or targets stand beside another action | Action | dqn, c51, a2c, ppo, reinforce, td3 |
| actions are not scaled to their bounds | Action, continuous | sac, td3 |
| SAC's entropy is a cost, or without what tanh adds to it | Delay, continuous | sac |
| SAC's temperature has the wrong sign | Action, continuous | sac |

Two faults change no expectation, and no value that is learned in the end: a baseline of the wrong sign that is used
for the policy alone, and a trace of GAE that goes on (all errors of sound values are 0, those of the next episode,
too). They cost time. The second shows while the critic knows nothing yet.
"""

import math
from typing import Any

import numpy as np
import planting
import pytest
import torch
from probing import CHEAP, GAMMA, Plant, made, off, trained, values

RIGHT, WRONG = 0.1, 0.2

PROBES = ["Constant", "Observation", "Delay", "Action", "Truncation"]
VARIANTS: dict[str, dict[str, Any]] = {
    "double, dueling": {"double": True, "dueling": True},
    "3 steps, prioritised": {"n_step": 3, "prioritized": True},
}
LONGER: dict[str, Any] = {"kwargs": "steps=5", "n_step": 3, "timesteps": 3200}

# --- sound methods ------------------------------------------------------------------------------------


@pytest.mark.parametrize("probe", PROBES)
@pytest.mark.parametrize("method", CHEAP)
def test_a_method_learns_what_a_probe_teaches(method: str, probe: str) -> None:
    assert off(method, probe) < RIGHT


@pytest.mark.parametrize("probe", ["Delay", "Action", "Truncation"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_dqn_learns_it_with_what_has_been_added(variant: str, probe: str) -> None:
    assert off("dqn", probe, **VARIANTS[variant]) < RIGHT


def test_returns_of_n_steps_are_right_where_episodes_are_longer() -> None:
    assert off("dqn", "Delay", **LONGER) < RIGHT


def test_a_gaussian_policy_finds_the_best_action() -> None:
    assert off("ppo", "Action", kwargs="continuous=true") < RIGHT


# --- planted faults -----------------------------------------------------------------------------------

FAULTS: list[tuple[Plant, str, str]] = [
    (planting.termination_is_truncation, "Constant", "dqn c51 a2c ppo td3 q-learning sarsa"),
    (planting.uphill("optimizer"), "Constant", "dqn qr-dqn"),
    (planting.uphill("value_optimizer"), "Constant", "reinforce"),
    (planting.uphill("critic_steps"), "Constant", "ddpg"),
    (planting.baseline_is_added, "Constant", "a2c ppo"),
    (planting.rewards_one_step_late, "Observation", "dqn c51 a2c ppo td3 q-learning sarsa"),
    (planting.observations_after, "Observation", "dqn qr-dqn a2c ppo ddpg"),
    (planting.column_against_row, "Observation", "dqn a2c ppo reinforce sac td3"),
    (planting.no_discount, "Delay", "dqn c51 qr-dqn a2c ppo reinforce ddpg q-learning sarsa"),
    (planting.targets_stand_still, "Delay", "dqn c51 qr-dqn sac td3"),
    (planting.resets_are_steps, "Delay", "dqn qr-dqn a2c ppo td3 q-learning sarsa"),
    (planting.sums_go_on, "Delay", "reinforce"),
    (planting.truncation_is_termination, "Truncation", " ".join(CHEAP)),
    (planting.next_episode_is_next, "Truncation", "dqn a2c ppo td3 q-learning"),
    (planting.advantages_are_costs, "Action", "a2c ppo reinforce"),
    (planting.uphill("actor_steps"), "Action", "sac ddpg"),
    (planting.other_actions, "Action", "dqn c51 a2c ppo reinforce td3"),
    (planting.bounds_are_forgotten, "Action", "sac td3"),
]
SLOW = {method: pytest.mark.slow for method in ("sac", "ddpg")}
"""TD3 has the same faults at less cost."""
PLANTED = [
    pytest.param(plant, probe, method, id=f"{plant.__name__}-{probe}-{method}", marks=SLOW.get(method, ()))
    for plant, probe, methods in FAULTS
    for method in methods.split()
]


@pytest.mark.parametrize(("plant", "probe", "method"), PLANTED)
def test_a_probe_tells_a_planted_fault(plant: Plant, probe: str, method: str) -> None:
    assert off(method, probe, plant) > WRONG


def test_a_probe_tells_the_wrong_discount_after_n_steps() -> None:
    assert off("dqn", "Delay", planting.discount_of_one_step, **LONGER) > WRONG


def test_a_probe_tells_returns_of_n_steps_that_go_on_over_a_truncation() -> None:
    assert off("dqn", "Truncation", planting.n_steps_cross_truncations, n_step=3) > WRONG


def first_returns(method: str, plant: Plant | None, patch: pytest.MonkeyPatch) -> set[tuple[float, float]]:
    """Return what is to be learned from the first rollout of a critic that says 0: pairs of observation and return."""
    agent = made(method, "Truncation")
    with torch.no_grad():
        for parameter in agent.policy.critic.parameters():
            parameter.zero_()
    if plant is not None:
        plant(agent, patch)
    agent.collect()
    _, returns = agent.estimates(torch.zeros(len(agent.rollout)))
    agent.close()
    seen = agent.rollout.observations[:-1].reshape(-1).tolist()
    return {(observation, round(return_, 4)) for observation, return_ in zip(seen, returns.tolist(), strict=True)}


@pytest.mark.parametrize("method", ["a2c", "ppo"])
def test_the_first_rollout_tells_a_trace_that_goes_on_over_a_truncation(
    method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    of_two = round(1 + GAMMA * (1.0 if method == "a2c" else 0.95), 4)  # two rewards of 1, by lambda
    right = {(-1.0, -1.0), (1.0, 1.0), (1.0, of_two)}
    assert first_returns(method, None, monkeypatch) == right
    assert first_returns(method, planting.traces_go_on, monkeypatch) > right


# --- entropy ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("plant", "sound"), [(None, True), (planting.no_tanh_correction, False), (planting.entropy_costs, False)]
)
def test_the_soft_value_has_the_entropy_of_a_uniform_policy_in_it(plant: Plant | None, sound: bool) -> None:
    with trained("sac", "Delay", plant, alpha=0.5) as agent:
        found = values(agent, np.array([[0], [1]], np.float32))
    # no action matters, so the best policy is uniform in [-1, 1]; its entropy counts after a step, not at the end
    error = np.abs(found - [GAMMA * (1 + 0.5 * math.log(2)), 1]).max()
    assert (error < RIGHT) if sound else (error > WRONG)


@pytest.mark.parametrize(("plant", "sound"), [(None, True), (planting.uphill("temperature_steps"), False)])
def test_the_temperature_keeps_the_target_entropy(plant: Plant | None, sound: bool) -> None:
    with trained("sac", "Action", plant, alpha=None, initial_alpha=0.1, lr=0.01) as agent, torch.no_grad():
        mean, log_std = agent.actor(torch.tensor([[-1.0], [1.0]])).chunk(2, 1)  # (2, 1) each
        gaussian = torch.distributions.Normal(mean, log_std.exp())
        u = gaussian.sample((1000,))  # type: ignore[no-untyped-call]
        entropy = gaussian.entropy().mean()  # type: ignore[no-untyped-call]
        entropy += (1 - u.tanh().square()).log().mean()
    error = abs(float(entropy) - agent.target_entropy)
    assert (error < 0.4) if sound else (error > 0.8)
