"""What every column of every table means. A test holds this dictionary against the tables."""

from __future__ import annotations

KEYS = {
    "algorithm": "Name of the algorithm, or of a baseline that has no cell.",
    "cell": "Short name of the cell's content; cells.csv spells it out. `-` for a baseline without seeds.",
    "role": "published (the source's own values), grid, equal-budget (published values at another's budget), "
    "baseline; in comparisons: published, selected, equal-budget or yardstick, the kind of pair.",
    "seed": "The replicate.",
    "protocol": "The evaluation setting.",
    "step": "Which step size adaptation uses: own (the algorithm's: inner_step_size, or what it learned, or none where "
    "it takes no gradient steps), common (the study's), tuned (chosen by each run on the validation bank), none (a "
    "baseline).",
    "region": "Part of the query grid: all, seen (inside the support interval), unseen (outside it).",
    "update": "Gradient steps taken on the support set, from 0.",
    "task": "Number of the task in the test bank.",
    "meta_iteration": "Outer updates done.",
    "x": "Where the wave is looked at.",
    "y": "Value of the wave at a support point.",
}

SETTINGS = {
    "meta_iterations": "Outer updates in all.",
    "meta_batch_size": "Tasks of a meta-iteration.",
    "shots": "Support points of each inner step (of each outer step, for joint training).",
    "inner_steps": "Gradient steps on each task in training.",
    "inner_step_size": "Size of those steps, or what learned sizes began with.",
    "meta_step_size": "Size of the outer update.",
    "queries": "Fresh query points of each task in training; empty stands for the grid.",
    "context": "Numbers that adapt or that describe a task (CAVIA, conditional neural process).",
    "meta_optimizer": "Of the outer loop; empty stands for sgd, plain descent.",
    "meta_schedule": "Of the outer step size over training; empty stands for constant.",
    "inner_optimizer": "Of the inner loop; empty stands for sgd.",
    "step_size": "Step size of adaptation; in the leaderboard its median over runs. What learned sizes began with.",
}

COSTS = {
    "tasks_seen": "Tasks that training drew, for each run.",
    "gradient_evaluations": "Gradients of one task's loss over one batch of points, for each run.",
    "point_gradients": "Points whose gradient was computed, for each run: the measure of arithmetic.",
}

STATISTICS = {
    "loss": "Mean squared error on the region's grid points.",
    "mean": "Mean over all seeds and tasks, inf if one of them is; in curves.parquet over tasks.",
    "mean_lower": "Lower end of the mean's interval over seeds and tasks (over tasks alone where seeds is 0).",
    "mean_upper": "Upper end of it.",
    "mean_finite": "Mean over the finite losses alone; `finite` counts them.",
    "finite": "How many losses are finite, of seeds * tasks (of tasks, where seeds is 0).",
    "median": "Median over all seeds and tasks, diverged adaptations counting as inf; in curves.parquet over tasks.",
    "median_lower": "Lower end of the median's interval; at a protocol's last update only.",
    "median_upper": "Upper end of it.",
    "iqm": "Interquartile mean, diverged adaptations counting as inf.",
    "iqm_lower": "Lower end of its interval; at a protocol's last update only.",
    "iqm_upper": "Upper end of it.",
    "p95": "95th percentile, diverged adaptations counting as inf.",
    "diverged_share": "Share of adaptations whose loss is not finite or above the divergence limit.",
    "seeds": "Training seeds behind the row; 0 for a baseline without seeds.",
    "tasks": "Test tasks behind the row.",
    "validation_loss": "Mean loss over the validation bank after the protocol's last update; "
    "in selection and leaderboard the median over seeds of it.",
}

RUNS = {
    "status": "ok, or diverged: the initialization, or its loss before any adaptation, is not finite.",
    "diverged_at": "Meta-iteration after which theta first was not finite.",
    "runs_ok": "Runs that did not diverge in training.",
    "runs_diverged": "Runs that did.",
}

SELECTION = {
    "selected": "Whether validation selects this cell of its algorithm, for this protocol and step.",
    "frequency": "Share of resamples of the seeds that select this cell.",
    "on_edge": "Step sizes of the selected cell that lie on an edge of the grid: a better one may lie outside.",
    "held_out_mean": "Mean test loss of each seed under the cell that the other seeds select: free of the "
    "winner's curse. On the selected cell's row.",
    "chosen": "Whether this run adapts with this step size.",
}

COMPARISONS = {
    "algorithm_a": "First algorithm of the pair.",
    "cell_a": "Its cell.",
    "step_a": "Its kind of step size.",
    "algorithm_b": "Second algorithm of the pair.",
    "cell_b": "Its cell.",
    "step_b": "Its kind of step size.",
    "difference": "Mean of loss a - loss b, paired on seed and task; negative where a is better.",
    "lower": "Lower end of the difference's interval.",
    "upper": "Upper end of it.",
    "probability_of_improvement": "P(loss a < loss b) over pairs, ties one half.",
    "probability_lower": "Lower end of its interval.",
    "probability_upper": "Upper end of it.",
    "p_value": "Exact sign-flip test on the differences of each seed, averaged over tasks.",
    "p_holm": "p_value adjusted by Holm's method within the family declared beforehand: the published FOMAML against "
    "each other algorithm and each against the best baseline, whole grid, every protocol. Empty outside the family.",
    "attainable_p": "The least p_value this number of seeds can give.",
}

PICTURES = {
    "truth": "The showcase wave.",
    "before": "Prediction of the initialization.",
    "after": "Prediction after the protocol's last update.",
}

COLUMNS = KEYS | SETTINGS | COSTS | STATISTICS | RUNS | SELECTION | COMPARISONS | PICTURES
