"""Honest comparison: time split, full catalogue, tuned baselines, paired intervals."""

from peftrec.evaluation.bootstrap import Interval, bootstrap_mean, paired_bootstrap
from peftrec.evaluation.protocol import Recommender, Task
from peftrec.evaluation.result import Evaluation
from peftrec.evaluation.run import evaluate

__all__ = ["Evaluation", "Interval", "Recommender", "Task", "bootstrap_mean", "evaluate", "paired_bootstrap"]
