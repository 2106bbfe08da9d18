"""Environments whose answers are known (entry-point group `rllab.envs`).

| name | module | what is known |
|---|---|---|
| `Bandit-v0` | `bandit` | the mean of each arm, so the regret of each pull |
| `Corridor-v0` | `corridor` | the dynamics `P[s][a]`, so the optimal values |
| `GridWorld-v0` | `gridworld` | the same, on any map; on one of them they are printed in a book |
| `Catch-v0` | `catch` | what random actions catch (31.9 %), and that every fruit can be caught |
| `ProbeConstant-v0` ... | `probes` | the values that a sound method learns, and those that faulty ones learn instead |

`rllab run METHOD NAME` finds them by these names; options of their constructors are given as `--env-kwarg KEY=VALUE`.
They are not in Gymnasium's registry. Without rllab one makes them of their classes, with a limit of steps around
those that have one:

    from gymnasium.wrappers import TimeLimit
    from rllab_envs.gridworld import GridWorld

    env = TimeLimit(GridWorld(slip=0.2, render_mode="rgb_array"), GridWorld.max_episode_steps)

or of a spec, which makes native vectors, too, of those that have them:

    from gymnasium.envs.registration import EnvSpec
    from rllab_envs.catch import Catch

    spec = EnvSpec("Catch-v0", Catch, vector_entry_point=Catch.vector_entry_point)
    env, envs = gymnasium.make(spec), gymnasium.make_vec(spec, num_envs=64)
"""
