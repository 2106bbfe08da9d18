from typing import Any

import gymnasium
import numpy as np
import pytest
from rllab_agents.table_pictures import World, draw_world

from rllab import experiment, planning
from rllab.agent import Agent
from rllab.parts.drawing import render


def world_of(name: str, **options: Any) -> World:
    env = gymnasium.make(name, **options)
    found = World.of(env.unwrapped, env.observation_space, env.action_space)  # type: ignore[arg-type]
    env.close()
    assert found is not None
    return found


def trained(method: str, environment: str, steps: int = 3, **options: Any) -> Agent:
    values = {"preset": "none", "device": "cpu", **options}
    agent, _ = experiment.build(planning.plan(method, environment, values))
    agent.setup()
    for _ in range(steps):
        agent.step()
    agent.close()
    assert isinstance(agent, Agent)
    return agent


# --- what a world looks like, told by its table -------------------------------------------------------------

UP, DOWN, LEFT, RIGHT = (-1, 0), (1, 0), (0, -1), (0, 1)


@pytest.mark.parametrize("slippery", [False, True])
def test_the_directions_of_frozen_lake_are_seen_through_the_slipping(slippery: bool) -> None:
    world = world_of("FrozenLake-v1", is_slippery=slippery)
    assert world.moves == [LEFT, DOWN, RIGHT, UP]
    assert world.letters[0, 0] == "S"
    assert np.argwhere(world.ends).tolist() == [[1, 1], [1, 3], [2, 3], [3, 0], [3, 3]]  # holes and the goal


def test_the_directions_on_the_cliff_are_not_those_of_the_fall() -> None:
    world = world_of("CliffWalking-v1")
    assert world.shape == (4, 12)
    assert world.moves == [UP, RIGHT, DOWN, LEFT]
    assert np.argwhere(world.ends).tolist() == [[3, 11]]


def test_walls_are_no_ends() -> None:
    agent = trained("value-iteration", "GridWorld-v0", env_kwarg="map=russell-norvig")
    env = agent.task.make_one()
    world = World.of(env.unwrapped, env.observation_space, env.action_space)
    assert world is not None
    assert world.moves == [LEFT, DOWN, RIGHT, UP]
    assert np.argwhere(world.walls).tolist() == [[1, 1]]
    assert world.letters[world.ends].tolist() == ["G", "P"]


def test_a_taxi_is_no_world_of_cells() -> None:
    env = gymnasium.make("Taxi-v4")
    assert World.of(env.unwrapped, env.observation_space, env.action_space) is None  # type: ignore[arg-type]
    env.close()


# --- the pictures -------------------------------------------------------------------------------------------


def colour(picture: np.ndarray) -> set[tuple[int, ...]]:
    return set(map(tuple, picture.reshape(-1, 3).tolist()))


def test_a_cell_is_coloured_by_its_value_and_blank_if_it_was_never_seen() -> None:
    """Three cells in a row: the highest value is yellow, the lowest violet, and between them one is unknown."""
    none = np.zeros((1, 3), bool)
    world = World((1, 3), np.full((1, 3), ""), none, none, [LEFT, RIGHT])
    q = np.array([[0.0, -1.0], [np.nan, np.nan], [1.0, 2.0]])
    seen = colour(np.asarray(render(draw_world(world, q))))
    assert {(68, 1, 84), (253, 231, 37), (255, 255, 255)} <= seen
    everywhere = np.ones((1, 3), bool)
    hidden = colour(np.asarray(render(draw_world(world._replace(walls=everywhere), np.full((3, 2), np.nan)))))
    assert (68, 68, 68) in hidden


@pytest.mark.parametrize(
    ("method", "environment", "options", "name"),
    [
        ("value-iteration", "Corridor-v0", {}, "values"),
        ("q-learning", "FrozenLake-v1", {}, "values"),
        ("sarsa", "Taxi-v4", {}, "values"),
        ("q-learning", "Blackjack-v1", {}, "values"),
        ("bandit", "Bandit-v0", {}, "arms"),
        ("bandit", "Bandit-v0", {"rule": "gradient"}, "arms"),
    ],
)
def test_every_method_with_a_table_shows_it(method: str, environment: str, options: dict[str, Any], name: str) -> None:
    agent = trained(method, environment, **options)
    pictures = agent.pictures()
    assert list(pictures) == [name]
    assert pictures[name].width > 500


def test_the_picture_is_drawn_before_anything_is_learned_too() -> None:
    assert list(trained("q-learning", "FrozenLake-v1", steps=0).pictures()) == ["values"]
    assert list(trained("q-learning", "MountainCar-v0", steps=0, bins="10").pictures()) == ["values"]


def test_states_of_many_numbers_have_no_picture() -> None:
    assert trained("q-learning", "CartPole-v1", bins="10").pictures() == {}
