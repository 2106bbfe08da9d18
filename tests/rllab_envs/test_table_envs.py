import numpy as np
import pytest
from gymnasium.spaces import Discrete
from rllab_envs.corridor import Corridor
from rllab_envs.gridworld import MAPS, GridWorld, read_map
from rllab_envs.tabular import TableEnv, merged

EVERY_TABLE = [
    Corridor(),
    Corridor(5, slip=0.3),
    *[GridWorld(map=name, slip=slip) for name in MAPS for slip in (0.0, 0.2, 1.0)],
]


@pytest.mark.parametrize("env", EVERY_TABLE, ids=str)
def test_the_table_is_one_of_gymnasium(env):
    assert list(env.P) == list(range(env.observation_space.n))
    for actions in env.P.values():
        assert list(actions) == list(range(env.action_space.n))
        for outcomes in actions.values():
            assert abs(sum(outcome[0] for outcome in outcomes) - 1) < 1e-12
            assert len({outcome[1:] for outcome in outcomes}) == len(outcomes)
            for probability, state, reward, terminated in outcomes:
                assert 0 < probability <= 1
                assert state in env.P
                assert (type(reward), type(terminated)) == (float, bool)
                if terminated:  # and stays there, as in toy text
                    assert all(env.P[state][a] == [(1.0, state, 0.0, True)] for a in range(env.action_space.n))


def test_outcomes_that_are_the_same_are_one():
    assert merged([(0.5, 1, 0.0, False), (0.25, 2, 0.0, False), (0.25, 1, 0.0, False), (0.0, 3, 1.0, True)]) == [
        (0.75, 1, 0.0, False),
        (0.25, 2, 0.0, False),
    ]


@pytest.mark.parametrize("env", [Corridor(4, slip=0.3), GridWorld(slip=0.4)], ids=str)
def test_what_happens_is_as_frequent_as_the_table_says(env):
    env.reset(seed=0)
    start = env.starts[0]
    for action in range(env.action_space.n):
        seen: dict[tuple[int, float, bool], int] = {}
        for _ in range(2000):
            env.state = start
            state, reward, terminated, truncated, _ = env.step(action)
            assert (truncated, env.state) == (False, state)
            seen[state, reward, terminated] = seen.get((state, reward, terminated), 0) + 1
        expected = {outcome[1:]: outcome[0] for outcome in env.P[start][action]}
        assert seen.keys() == expected.keys()
        for outcome, probability in expected.items():
            assert abs(seen[outcome] / 2000 - probability) < 0.045  # four standard deviations


def test_a_step_takes_the_last_outcome_where_rounding_leaves_a_gap():
    outcomes = [(0.1, 0, 0.0, False)] * 9 + [(0.1 - 1e-9, 1, 5.0, True)]
    table = {0: {0: outcomes}, 1: {0: [(1.0, 1, 0.0, True)]}}
    env = TinyTable(table, [0], actions=["go"], arrows="→", shape=(1, 2), render_mode=None)

    class AlmostOne:
        def random(self):
            return 1 - 1e-10

    env.np_random = AlmostOne()  # type: ignore[assignment]
    assert env.step(0)[:3] == (1, 5.0, True)


class TinyTable(TableEnv):
    pass


# --- optimal values -------------------------------------------------------------------------------


@pytest.mark.parametrize("gamma", [0.0, 0.5, 0.9, 0.99, 1.0])
def test_the_values_of_a_corridor_are_powers_of_gamma(gamma):
    env = Corridor(length=6)
    expected = [gamma**4, gamma**3, gamma**2, gamma, 1, 0]
    np.testing.assert_allclose(env.optimal_values(gamma), expected, rtol=0, atol=1e-12)
    if 0 < gamma < 1:
        assert env.optimal_policy(gamma)[:5].tolist() == [1] * 5


def test_the_values_of_a_slippery_corridor_solve_its_equations():
    """Three cells, slip 1/4, gamma 1/2: v0 = 1/2 (3/4 v1 + 1/4 v0) and v1 = 3/4 + 1/2 * 1/4 v0."""
    v1 = (3 / 4) / (1 - 1 / 8 * 3 / 7)
    np.testing.assert_allclose(Corridor(3, slip=0.25).optimal_values(0.5), [3 / 7 * v1, v1, 0], atol=1e-12)


def test_random_actions_take_length_times_length_minus_one_steps_through_a_corridor():
    env = Corridor(length=5)
    p, states = np.zeros((5, 5)), range(4)
    for s in states:
        for a in (0, 1):
            p[s, env.P[s][a][0][1]] += 0.5
    steps = np.linalg.solve(np.eye(4) - p[:4, :4], np.ones(4))
    assert abs(steps[0] - 20) < 1e-9


def test_the_values_of_russell_and_norvig_come_out():
    env = GridWorld(map="russell-norvig", slip=0.2)
    printed = [[0.812, 0.868, 0.918, 0], [0.762, 0, 0.660, 0], [0.705, 0.655, 0.611, 0.388]]
    np.testing.assert_allclose(env.optimal_values(1.0).reshape(env.shape), printed, atol=5e-4)
    left, _, right, up = range(4)
    policy = env.optimal_policy(1.0).reshape(env.shape)
    assert policy[0, :3].tolist() == [right] * 3
    assert [policy[1, 0], policy[1, 2]] == [up, up]
    assert policy[2].tolist() == [up, left, left, left]


@pytest.mark.parametrize("env", [Corridor(slip=0.2), GridWorld(slip=0.3), GridWorld("four-rooms")], ids=str)
@pytest.mark.parametrize("gamma", [0.7, 0.97])
def test_optimal_values_are_those_of_the_optimal_policy_solved_exactly(env, gamma):
    policy, n = env.optimal_policy(gamma), len(env.P)
    p, r = np.zeros((n, n)), np.zeros(n)
    for s in range(n):
        for probability, state, reward, terminated in env.P[s][int(policy[s])]:
            r[s] += probability * reward
            p[s, state] += 0 if terminated else probability
    values = env.optimal_values(gamma)
    np.testing.assert_allclose(np.linalg.solve(np.eye(n) - gamma * p, r), values, atol=1e-11)
    assert (env.action_values(values, gamma) <= values[:, None] + 1e-11).all()


def test_the_default_map_asks_for_another_way_when_it_is_slippery():
    assert abs(GridWorld().optimal_values(1.0)[0] - (1 - 7 * 0.04)) < 1e-12
    dry, wet = GridWorld(), GridWorld(slip=0.2)
    down, right = 1, 2
    assert (dry.optimal_policy(0.99)[0], wet.optimal_policy(1.0)[0]) == (right, down)


def test_values_are_refused_where_there_are_none():
    with pytest.raises(ValueError, match=r"gamma is a number from 0 to 1, not 1\.5"):
        Corridor().optimal_values(1.5)
    with pytest.raises(ValueError, match="infinite"):
        GridWorld(step_reward=0.1).optimal_values(1.0)
    assert abs(GridWorld("S#/.G", step_reward=0.1, goal_reward=-5).optimal_values(0.5)[0] - 0.2) < 1e-12
    assert GridWorld(goal_reward=1e6, slip=0.2).optimal_values(0.99)[0] > 5e5


# --- maps -----------------------------------------------------------------------------------------


def test_a_map_is_a_name_or_rows_in_three_forms():
    expected = read_map("S.#/..G")
    for form in ("S.#\n..G", "\n  S.#\n  ..G\n", ["S.#", "..G"], ("S.#", "..G")):
        np.testing.assert_array_equal(read_map(form), expected)
    assert expected.shape == (2, 3)
    for name in MAPS:
        assert GridWorld(name).shape == read_map(MAPS[name]).shape


def test_states_are_cells_row_by_row():
    env = GridWorld("S.#/..G")
    assert env.observation_space == Discrete(6)
    assert [env.cell(state) for state in (0, 2, 5)] == [(0, 0), (0, 2), (1, 2)]
    np.testing.assert_array_equal(env.walls, [[False, False, True], [False, False, False]])
    assert env.letters[env.cell(5)] == "G"


def test_walls_and_edges_stop_and_goals_and_pits_end():
    env = GridWorld("S#P/..G", step_reward=-1, goal_reward=10, pit_reward=-20)
    left, down, right, up = range(4)
    assert env.P[0] == {
        left: [(1.0, 0, -1.0, False)],
        down: [(1.0, 3, -1.0, False)],
        right: [(1.0, 0, -1.0, False)],
        up: [(1.0, 0, -1.0, False)],
    }
    assert env.P[4][right] == [(1.0, 5, 9.0, True)]
    env = GridWorld("S.P/.#G/...", pit_reward=-20, step_reward=-1)
    assert env.P[1][right] == [(1.0, 2, -21.0, True)]


def test_slipping_goes_to_both_sides_alike_and_never_back():
    env = GridWorld("S../.../..G", slip=0.5)
    right = 2
    assert {outcome[1]: outcome[0] for outcome in env.P[4][right]} == {5: 0.5, 1: 0.25, 7: 0.25}


def test_one_of_several_starts_is_drawn_each_as_often():
    env = GridWorld("S.S/SG.")
    env.reset(seed=0)
    drawn = [env.reset()[0] for _ in range(1500)]
    assert set(drawn) == {0, 2, 3}
    assert all(abs(drawn.count(state) / 1500 - 1 / 3) < 0.05 for state in (0, 2, 3))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("S.x/..G", "'x' is no sign of a map"),
        ("", "the map is empty"),
        ("S../.G", "equally long, and these have 3, 2"),
        ("..G", "no start: put S"),
        ("S..", "no goal: put G"),
        ("S#G", "from row 1, column 1 of the map no way leads to a goal"),
        ("SG/##/.#", "from row 3, column 1 of the map no way leads to a goal"),
        ("SPG", "no way leads to a goal"),
    ],
)
def test_a_map_that_does_not_work_is_refused(given, message):
    with pytest.raises(ValueError, match=message):
        GridWorld(given)


def test_a_way_longer_than_the_limit_is_said():
    with pytest.warns(UserWarning, match="it takes 201 steps to a goal.*--max-episode-steps"):
        GridWorld("S" + 200 * "." + "G")


# --- text -----------------------------------------------------------------------------------------


def test_texts_show_where_we_are():
    env = Corridor(4)
    env.reset(seed=0)
    assert env.text() == "@..G"
    env.step(1)
    assert env.text() == ".@.G  right"
    env.step(1), env.step(1)
    assert env.text() == "...X  right"
    grid = GridWorld("S#G/...")
    grid.reset(seed=0)
    assert grid.text() == "@#G\n..."
    grid.step(1)
    assert grid.text() == "S#G\n@..\ndown"


def test_keys_are_actions():
    assert set(Corridor().get_keys_to_action().values()) == {0, 1}
    assert {k: GridWorld().actions[a] for k, a in GridWorld().get_keys_to_action().items()} == {
        "a": "left",
        "s": "down",
        "d": "right",
        "w": "up",
    }
