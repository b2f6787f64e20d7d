"""Pure decisions: what is wanted and what is there -> what to do next, and why."""

from shoal.planner.fold import fold
from shoal.planner.plan import Plan, plan
from shoal.planner.steps import Wait

__all__ = ["Plan", "Wait", "fold", "plan"]
