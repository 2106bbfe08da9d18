import numpy as np
import pytest
from rllab_envs.bandit import BanditEnv


def test_the_arms_belong_to_the_instance_and_the_rewards_to_the_seed():
    training, evaluation, other = BanditEnv(), BanditEnv(), BanditEnv(instance=1)
    first, second = (env.reset(seed=seed) and env.step(3)[1] for seed, env in enumerate((training, evaluation)))
    assert first != second
    np.testing.assert_array_equal(training.means, evaluation.means)
    assert (training.means != other.means).all()
    np.testing.assert_array_equal(BanditEnv(arms=4).means, training.means[:4])
    np.testing.assert_array_equal(BanditEnv(spread=2.5).means, 2.5 * training.means)


def test_the_best_arm_of_the_default_is_not_the_one_that_an_argmax_of_zeros_takes():
    assert BanditEnv().best_arm != 0


def test_the_noise_does_not_repeat_the_numbers_that_made_the_means():
    env = BanditEnv(instance=0)
    env.reset(seed=0)
    noise = [env.step(0)[1] - env.means[0] for _ in range(10)]
    assert abs(np.corrcoef(noise, env.means)[0, 1]) < 0.9
    assert not np.isin(np.round(noise, 9), np.round(env.means, 9)).any()


def test_rewards_are_normal_around_the_mean_of_the_arm():
    env = BanditEnv(noise=0.5)
    env.reset(seed=0)
    rewards = np.array([env.step(2)[1] for _ in range(4000)])
    assert abs(rewards.mean() - env.means[2]) < 4 * 0.5 / 4000**0.5
    assert abs(rewards.std() - 0.5) < 0.03


def test_regret_is_what_an_arm_costs_compared_with_the_best_one():
    env = BanditEnv(noise=0)
    env.reset(seed=0)
    for arm in range(env.arms):
        _, reward, _, _, info = env.step(arm)
        assert reward == info["mean"] == env.means[arm]
        assert info["best_mean"] == env.best_mean == env.means.max()
        assert info["regret"] == env.regret(arm) == env.best_mean - env.means[arm]
    assert env.regret(env.best_arm) == 0 == env.regret(env.heuristic(0))


def test_an_episode_is_one_pull_or_as_many_as_asked_for():
    env = BanditEnv()
    for _ in range(2):
        env.reset()
        assert env.step(0)[2:4] == (True, False)
    env = BanditEnv(pulls=3)
    env.reset(seed=0)
    assert [env.step(0)[2] for _ in range(3)] == [False, False, True]
    env.reset()
    assert env.step(0)[2] is False


def test_means_drift_by_normal_steps_over_episodes_and_begin_again_with_a_seed():
    env = BanditEnv(arms=1000, drift=0.1)
    start = env.means
    for _ in range(25):
        env.reset()
        env.step(0)
    moved = env.means - start
    assert abs(moved.std() - 0.5) < 0.05  # sqrt(25) * 0.1
    twin = BanditEnv(arms=1000, drift=0.1)
    twin.reset(seed=9)
    for _ in range(25):
        twin.step(999)
    np.testing.assert_array_equal(twin.means, env.means)  # the walk is the instance's, whatever seed and arms
    env.reset(seed=0)
    np.testing.assert_array_equal(env.means, start)


def test_means_cannot_be_changed_from_outside():
    env = BanditEnv()
    env.means[:] = 7
    assert env.best_mean < 7


def test_the_text_has_means_and_pulls_and_the_last_reward():
    env = BanditEnv(arms=21, noise=0)
    env.reset(seed=0)
    env.step(1)
    lines = env.text().splitlines()
    assert lines[2].split() == ["1", f"{env.means[1]:+.2f}", "1", "->", f"{env.means[1]:+.2f}"]
    assert [line for line in lines if line.startswith("*")] == [lines[1 + env.best_arm]]
    assert lines[-1] == "  and 1 more"


def test_an_arm_that_there_is_not_is_refused():
    with pytest.raises(ValueError, match="actions 0 to 9, not 10"):
        BanditEnv().step(10)
