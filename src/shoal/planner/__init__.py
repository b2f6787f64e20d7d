"""Pure decisions: what is wanted and what is there -> what to do next, and why."""

from shoal.planner.fold import fold
from shoal.planner.plan import Plan, Wait, plan

__all__ = ["Plan", "Wait", "fold", "plan"]
