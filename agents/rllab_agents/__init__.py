"""Reinforcement-learning methods, each on one page beside its paper."""
