"""Statistics of losses and scores: point estimates, intervals and ranks.

Intervals are for crossed seeds and tasks:

    x[s, t] = mu + seed_s + task_t + residual_st

x are the losses of one cell: every seed with every task.

Both seeds and tasks are drawn, so an interval must count both: n is the pair (seeds, tasks), never
their product. Losses are float64 arrays ``(seed, task)`` that may contain inf; nan counts as inf,
and nothing is ever dropped. Measured coverage of every interval: docs/statistics.md.
"""
