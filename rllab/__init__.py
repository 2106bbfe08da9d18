"""rllab: a lab bench for deep learning.

Agents, generative models and supervised baselines are plugins that share one trainer, one logger, one device
manager and one command. The names below are imported when they are first used, so that `import rllab` is cheap.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rllab.agent import Agent, AgentConfig
    from rllab.algorithm import Algorithm, Metrics, Objective
    from rllab.callbacks import Callback
    from rllab.config import Config
    from rllab.errors import RllabError
    from rllab.generative import ImageModel, TextModel
    from rllab.logger import Writer
    from rllab.results import Run, load, resume, run

__version__ = "0.1.0"

_HOME = {
    "Agent": "rllab.agent",
    "AgentConfig": "rllab.agent",
    "Algorithm": "rllab.algorithm",
    "Callback": "rllab.callbacks",
    "Config": "rllab.config",
    "ImageModel": "rllab.generative",
    "Metrics": "rllab.algorithm",
    "Objective": "rllab.algorithm",
    "RllabError": "rllab.errors",
    "Run": "rllab.results",
    "TextModel": "rllab.generative",
    "Writer": "rllab.logger",
    "load": "rllab.results",
    "resume": "rllab.results",
    "run": "rllab.results",
}

__all__ = [
    "Agent",
    "AgentConfig",
    "Algorithm",
    "Callback",
    "Config",
    "ImageModel",
    "Metrics",
    "Objective",
    "RllabError",
    "Run",
    "TextModel",
    "Writer",
    "load",
    "resume",
    "run",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'rllab' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
