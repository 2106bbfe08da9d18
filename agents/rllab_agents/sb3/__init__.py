"""stable-baselines3's algorithms under rllab's contract, beside our own: the same run folder, metrics and resume.

| file | what |
|---|---|
| `dqn.py`, `ppo.py`, `a2c.py`, `sac.py`, `td3.py`, `ddpg.py` | an algorithm each: its options |
| `config.py` | options that several of them have |
| `arguments.py` | their names and values on the library's side |
| `observations.py` | which observations the library takes, and what looks at them |
| `base.py` | an algorithm of the library as an `Agent` |
| `vecenv.py` | our environments as the library takes them |
| `state.py` | what the library holds besides weights, for checkpoints |
| `importing.py`, `reading.py` | `rllab import sb3 FILE.zip` |
"""
