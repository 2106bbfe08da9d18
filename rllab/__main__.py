"""`python -m rllab` is the command `rllab`."""

from rllab.cli import main

main()
