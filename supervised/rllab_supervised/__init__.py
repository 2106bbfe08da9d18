"""Predictors: from the baseline that always says the same, over the classical methods, to a CNN."""
