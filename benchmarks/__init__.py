"""Speed as ratios: the plain reference path and ours, in one run, with equal results."""
