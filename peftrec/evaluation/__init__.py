"""Honest comparison: time split, full catalogue, tuned baselines, paired intervals."""

from peftrec.evaluation.bootstrap import mean_interval, paired_bootstrap
from peftrec.evaluation.protocol import Recommender, Task
from peftrec.evaluation.result import Evaluation, SystemResult, evaluate

__all__ = ["Evaluation", "Recommender", "SystemResult", "Task", "evaluate", "mean_interval", "paired_bootstrap"]
