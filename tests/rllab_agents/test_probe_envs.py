"""Every method learns what the probe environments teach, and every fault that is planted shows in one of them.

A sound method is at most `RIGHT` away from what a probe's `expected_values` say (see `probing.off`); with a fault it
is more than `WRONG` away, twice as much. The faults (see `planting`), and the probe that tells each:

| fault | probe | planted into |
|---|---|---|
| the value of a terminal state is not 0 | Constant | dqn, c51, a2c, ppo, sac, td3, q-learning, sarsa |
| the gradient of the values has the wrong sign | Constant | dqn, qr-dqn, reinforce, ddpg |
| the baseline is added to the return, not taken from it | Constant | a2c, ppo |
| rewards come one step late | Observation | dqn, c51, a2c, ppo, sac, td3, q-learning, sarsa |
| values are learned of the observation after the step | Observation | dqn, qr-dqn, a2c, ppo, ddpg |
| values (B, 1) against targets (B,) | Observation | dqn, a2c, ppo, reinforce, sac, td3, ddpg |
| no discount | Delay | dqn, c51, qr-dqn, a2c, ppo, reinforce, td3, q-learning, sarsa |
| the target network stays as it was | Delay | dqn, c51, qr-dqn, sac, td3, ddpg |
| the row of a reset is learned from | Delay | dqn, qr-dqn, a2c, ppo, ddpg, q-learning, sarsa |
| returns go on over the ends of episodes | Delay | reinforce |
| the value after n steps is discounted once | Delay, of 5 steps | dqn |
| truncation is taken for termination | Truncation | all that learn values |
| what follows a truncation is the next episode | Truncation | dqn, c51, a2c, ppo, ddpg, q-learning, sarsa |
| n-step returns go on over a truncation | Truncation | dqn |
| GAE's trace goes on over a truncation | Truncation, the first rollout | a2c, ppo |
| the gradient of the policy has the wrong sign | Action | a2c, ppo, reinforce, sac, td3, ddpg |
| advantages or targets stand beside another action | Action | dqn, a2c, ppo, reinforce, sac, td3 |
| actions are not scaled to their bounds | Action, continuous | sac, td3, ddpg |
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
from probing import CHEAP, GAMMA, Plant, off, trained, values

RIGHT, WRONG = 0.1, 0.2

PROBES = {"Constant": "", "Observation": "", "Delay": "", "Action": "contextual=true", "Truncation": ""}
VARIANTS: dict[str, dict[str, Any]] = {
    "double, dueling": {"double": True, "dueling": True},
    "3 steps, prioritised": {"n_step": 3, "prioritized": True},
}
ACTION: dict[str, dict[str, Any]] = {"sac": {"alpha": 0.02}}
"""Without any entropy SAC's policy is deterministic before it has found the best action."""


def settings(method: str, probe: str) -> dict[str, Any]:
    """Return the options of a method on a probe."""
    return {"kwargs": PROBES[probe]} | (ACTION.get(method, {}) if probe == "Action" else {})


# --- sound methods ------------------------------------------------------------------------------------


@pytest.mark.parametrize("probe", PROBES)
@pytest.mark.parametrize("method", CHEAP)
def test_a_method_learns_what_a_probe_teaches(method: str, probe: str) -> None:
    assert off(trained(method, probe, **settings(method, probe))) < RIGHT


@pytest.mark.parametrize("probe", ["Delay", "Action", "Truncation"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_dqn_learns_it_with_what_has_been_added(variant: str, probe: str) -> None:
    assert off(trained("dqn", probe, **settings("dqn", probe), **VARIANTS[variant])) < RIGHT


def test_returns_of_n_steps_are_right_where_episodes_are_longer() -> None:
    assert off(trained("dqn", "Delay", kwargs="steps=5", n_step=3)) < RIGHT


@pytest.mark.parametrize("method", ["a2c", "ppo"])
def test_a_gaussian_policy_finds_the_best_action(method: str) -> None:
    assert off(trained(method, "Action", kwargs="continuous=true")) < RIGHT


# --- planted faults -----------------------------------------------------------------------------------

Q = ["dqn", "c51", "qr-dqn"]
ROLLS = ["a2c", "ppo"]
BOXES = ["sac", "td3", "ddpg"]
TABLES = ["q-learning", "sarsa"]
FAULTS: list[tuple[Plant, str, list[str]]] = [
    (planting.termination_is_truncation, "Constant", ["dqn", "c51", *ROLLS, "sac", "td3", *TABLES]),
    (planting.uphill("optimizer"), "Constant", ["dqn", "qr-dqn"]),
    (planting.uphill("value_optimizer"), "Constant", ["reinforce"]),
    (planting.uphill("critic_steps"), "Constant", ["ddpg"]),
    (planting.baseline_is_added, "Constant", ROLLS),
    (planting.rewards_one_step_late, "Observation", ["dqn", "c51", *ROLLS, "sac", "td3", *TABLES]),
    (planting.observations_after, "Observation", ["dqn", "qr-dqn", *ROLLS, "ddpg"]),
    (planting.column_against_row, "Observation", ["dqn", *ROLLS, "reinforce", *BOXES]),
    (planting.no_discount, "Delay", [*Q, *ROLLS, "reinforce", "td3", *TABLES]),
    (planting.targets_stand_still, "Delay", [*Q, *BOXES]),
    (planting.resets_are_steps, "Delay", ["dqn", "qr-dqn", *ROLLS, "ddpg", *TABLES]),
    (planting.sums_go_on, "Delay", ["reinforce"]),
    (planting.truncation_is_termination, "Truncation", [*CHEAP]),
    (planting.next_episode_is_next, "Truncation", ["dqn", "c51", *ROLLS, "ddpg", *TABLES]),
    (planting.advantages_are_costs, "Action", [*ROLLS, "reinforce"]),
    (planting.uphill("actor_steps"), "Action", BOXES),
    (planting.other_actions, "Action", ["dqn", *ROLLS, "reinforce", "sac", "td3"]),
    (planting.bounds_are_forgotten, "Action", BOXES),
]
PLANTED = [
    pytest.param(plant, probe, method, id=f"{getattr(plant, '__name__', 'fault')}-{probe}-{method}")
    for plant, probe, methods in FAULTS
    for method in methods
]


@pytest.mark.parametrize(("plant", "probe", "method"), PLANTED)
def test_a_probe_tells_a_planted_fault(plant: Plant, probe: str, method: str) -> None:
    assert off(trained(method, probe, plant, **settings(method, probe))) > WRONG


def test_a_probe_tells_the_wrong_discount_after_n_steps() -> None:
    assert off(trained("dqn", "Delay", planting.discount_of_one_step, kwargs="steps=5", n_step=3)) > WRONG


def test_a_probe_tells_returns_of_n_steps_that_go_on_over_a_truncation() -> None:
    assert off(trained("dqn", "Truncation", planting.n_steps_cross_truncations, n_step=3)) > WRONG
