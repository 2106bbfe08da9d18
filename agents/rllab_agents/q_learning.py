"""Q-learning: off-policy control by temporal differences, with a table of values.

Watkins, "Learning from Delayed Rewards", PhD thesis, Cambridge (1989); Watkins & Dayan, "Q-learning", Machine
Learning 8 (1992); Sutton & Barto, "Reinforcement Learning: An Introduction", 2nd edition (2018), section 6.5.

    repeat
        take an action A in S, epsilon-greedily by Q; observe R and S'
        Q(S, A) <- Q(S, A) + alpha * [R + gamma * max_a Q(S', a) - Q(S, A)]      (no max where S' is terminal)

The maximum is the value of the greedy policy, whatever policy chose A: Q learns the optimal values while exploring.
"""

from __future__ import annotations

from rllab.vectorenv import Transition
from rllab_agents.tables import TableAgent, TableConfig


class QLearningConfig(TableConfig):
    """Hyperparameters of Q-learning (Watkins, 1989)."""


class QLearning(TableAgent):
    """Q-learning with a table, of discrete observations or a Box cut into cells."""

    Config = QLearningConfig
    config: QLearningConfig

    def update(self) -> tuple[Transition, list[float]]:
        """Take one step in every environment, and move the value of its action towards its target."""
        q, visits, gamma, alpha = self.table.q, self.table.n, self.config.gamma, self.alpha
        states, actions = self.states, self.explore(self.states)
        moved, next_states = self.take(actions)

        errors = []
        rows = states, actions, moved.rewards.tolist(), next_states, moved.terminated.tolist()
        for s, a, r, s_next, terminated in zip(*rows, strict=True):
            target = r if terminated else r + gamma * float(q[s_next].max())
            errors.append(float(target - q[s, a]))
            q[s, a] += alpha * errors[-1]
            visits[s, a] += 1
        return moved, errors
