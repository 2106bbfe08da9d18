"""SARSA: on-policy control by temporal differences, with a table of values.

Rummery & Niranjan, "On-Line Q-Learning Using Connectionist Systems", CUED/F-INFENG/TR 166, Cambridge (1994);
Sutton & Barto, "Reinforcement Learning: An Introduction", 2nd edition (2018), sections 6.4 and 6.6.

    choose A in S, epsilon-greedily by Q
    repeat
        take A, observe R and S'; choose A' in S', epsilon-greedily by Q
        Q(S, A) <- Q(S, A) + alpha * [R + gamma * Q(S', A') - Q(S, A)]           (no Q(S', A') where S' is terminal)
        S, A <- S', A'

With `--expected` the mean over A' takes the place of Q(S', A'): sum_a pi(a | S') Q(S', a) (van Seijen et al., 2009).
A' is the action that is taken next, random ones among them: Q learns the values of the policy that explores.
"""

from __future__ import annotations

import numpy as np

from rllab.vectorenv import Transition
from rllab_agents.tables import TableAgent, TableConfig


class SarsaConfig(TableConfig):
    """Hyperparameters of SARSA (Rummery & Niranjan, 1994)."""

    expected: bool = False
    """Learn from the mean over the next actions instead of the one that was drawn (expected SARSA)."""


class Sarsa(TableAgent):
    """SARSA with a table, of discrete observations or a Box cut into cells."""

    Config = SarsaConfig
    config: SarsaConfig

    def setup(self) -> None:
        """Choose the first actions."""
        super().setup()
        self.actions = self.explore(self.states)

    def update(self) -> tuple[Transition, list[float]]:
        """Take the chosen action in every environment, choose the next, and move the value of the first."""
        q, visits, gamma, alpha = self.table.q, self.table.n, self.config.gamma, self.alpha
        states, actions = self.states, self.actions
        moved, next_states = self.take(actions)
        next_actions = self.explore(next_states)

        errors = []
        rows = states, actions, moved.rewards.tolist(), next_states, next_actions, moved.terminated.tolist()
        for s, a, r, s_next, a_next, terminated in zip(*rows, strict=True):
            target = r if terminated else r + gamma * self.value(q[s_next], a_next)
            errors.append(float(target - q[s, a]))
            q[s, a] += alpha * errors[-1]
            visits[s, a] += 1
        ended = moved.terminated | moved.truncated
        # a new episode begins elsewhere; what was chosen in the last state of the old one is never taken
        self.actions = np.where(ended, self.explore(self.states), next_actions) if ended.any() else next_actions
        return moved, errors

    def value(self, q: np.ndarray, action: int) -> float:
        """Return the value of a state with action values `q` (actions,), of whose policy `action` is a sample."""
        if not self.config.expected:
            return float(q[action])
        return self.epsilon * float(q.mean()) + (1 - self.epsilon) * float(q.max())
