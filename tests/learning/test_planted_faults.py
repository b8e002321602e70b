"""Tests of the tests: a fault planted in a copy of the package must make its named tests fail.

A fault is one replacement in one file of the copy. Every named test must fail an assertion under
it; without it all of them pass, as tests of this project.
"""

import os
import shutil
from typing import NamedTuple
from xml.etree import ElementTree

import forked
import pytest
import small

pytestmark = [pytest.mark.faults, pytest.mark.slow]


class Fault(NamedTuple):
    """A mistake that somebody could make, and the tests that stand guard over it."""

    file: str
    right: str
    wrong: str
    tests: tuple[str, ...]


TASKS, ALGORITHMS, TABLES = (
    "learning/test_tasks.py",
    "learning/test_algorithms.py",
    "analysis/test_tables.py",
)
FAMILIES, OPTIMIZERS = "learning/test_families.py", "learning/test_optimizers.py"
EVALUATION, TRAINING = "learning/test_evaluation.py", "learning/test_training.py"
POSTERIORS, STATISTICS = "learning/test_posteriors.py", "analysis/test_statistics.py"
PROTOCOLS, WIDTHS = "learning/test_protocols.py", "learning/test_widths.py"
PROCESSES = "learning/test_neural_processes.py"
BASELINES = "learning/test_baselines.py"
IMPLICIT = "learning/test_imaml.py"
ROBUST, RECURRENT = "learning/test_dr_maml.py", "learning/test_recurrent.py"
ARRAYS, STATES, MEASURED = (
    "records/test_arrays.py",
    "records/test_states.py",
    "records/test_measured.py",
)

FAULTS = {
    "the phase has the other sign": Fault(
        "learning/tasks/sine.py",
        "(turns + self.phase[..., None, None])",
        "(turns - self.phase[..., None, None])",
        (
            f"{TASKS}::test_the_sine_has_the_flux_scripts_sign_of_phase",
            f"{FAMILIES}::test_minus_takes_the_phase_from_x",
        ),
    ),
    "annealing ends with training": Fault(
        "learning/algorithms/maml_plus_plus.py",
        "max(1 - done / self.annealing, 0.0)",
        "1 - done",
        (
            f"{ALGORITHMS}::test_annealing_takes_the_earlier_losses_to_zero_and_begins_without_second_"
            "derivatives",
        ),
    ),
    "all of training has the hyperparameters of its beginning": Fault(
        "learning/training.py",
        "h.at(i / total)",
        "h.at(0.0)",
        (f"{TRAINING}::test_each_meta_iteration_has_the_hyperparameters_of_its_part_of_training",),
    ),
    "the mean of records is that of the support set's year": Fault(
        "learning/baselines/linear_model.py",
        "    mean, _ = components.at(x)\n    return mean.expand(len(support.x), -1, -1)",
        "    return support.y.mean(1, keepdim=True).expand(-1, x.shape[-2], 1)",
        (
            f"{FAMILIES}::test_the_training_mean_is_that_of_the_first_thirty_years_whatever_the_"
            "support_set",
        ),
    ),
    "a line has the phase of a wave for its slope": Fault(
        "learning/tasks/sine_or_line.py",
        "self.slope[..., None, None] * x",
        "self.phase[..., None, None] * x",
        (f"{FAMILIES}::test_a_task_is_a_wave_or_a_line",),
    ),
    "every quadratic function opens upwards": Fault(
        "learning/tasks/multimodal.py",
        "torch.where(unit < 0.5, -size, size)",
        "size",
        (
            f"{FAMILIES}::test_half_of_the_quadratic_functions_open_downwards_and_their_curvature_is_uniform",
        ),
    ),
    "held-out tasks are those that were trained on": Fault(
        "learning/tasks/recorded.py",
        "return self._drawn(unit, bank)",
        'return self._drawn(unit, "training")',
        (f"{FAMILIES}::test_every_row_is_in_one_part_and_the_banks_draw_from_theirs",),
    ),
    "an image between its pixels is that of the pixel before": Fault(
        "learning/tasks/recorded.py",
        "fraction = position - before",
        "fraction = torch.zeros_like(position)",
        (
            f"{FAMILIES}::test_between_pixels_an_image_is_bilinear_and_beyond_them_it_is_constant",
            f"{FAMILIES}::test_a_year_has_the_monthly_means_of_the_file_and_lines_between_them",
        ),
    ),
    "records do not depend on data files": Fault(
        "records/provenance.py",
        'BESIDE = ("*.cpp", "*.csv", "*.csv.gz")',
        'BESIDE = ("*.cpp",)',
        ("records/test_provenance.py::test_changing_compressed_data_makes_every_record_stale",),
    ),
    "every seed trains on the same few tasks": Fault(
        "learning/tasks/streams.py",
        'uniforms(s, "train-tasks", 0,',
        'uniforms(0, "train-tasks", 0,',
        (
            f"{FAMILIES}::test_a_run_visits_as_many_training_tasks_as_there_are_and_each_seed_has_its_own",
        ),
    ),
    "the noise of a bank is that of its points": Fault(
        "learning/tasks/streams.py",
        'partial(self._uniforms, f"{self.purpose}-noise", shots)',
        "partial(self._uniforms, self.purpose, shots)",
        (f"{FAMILIES}::test_the_noise_of_a_label_has_nothing_to_do_with_its_point",),
    ),
    "Adam forgets that it began with nothing": Fault(
        "learning/optimizers.py",
        "direction.div_(1 - self.beta1 ** (done + 1))",
        "direction",
        (f"{OPTIMIZERS}::test_the_first_step_of_adam_has_its_size_whatever_the_gradient[torch]",),
    ),
    "the kernel's Adam forgets it": Fault(
        "learning/engine/update.py",
        "size / correction1,",
        "size,",
        (f"{OPTIMIZERS}::test_the_first_step_of_adam_has_its_size_whatever_the_gradient[fused]",),
    ),
    "the outer step grows as training goes on": Fault(
        "learning/optimizers.py",
        '"linear": lambda done: 1 - done,',
        '"linear": lambda done: done,',
        (
            f"{OPTIMIZERS}::test_a_schedule_begins_with_the_whole_step_and_ends_with_none[torch-linear-0.75-0.5-0.0]",
        ),
    ),
    "FOMAML averages over tasks": Fault(
        "learning/algorithms/fomaml.py",
        "return network.summed_gradient(copies, *query, after=inner_loop)",
        "return network.summed_gradient(copies, *query, after=inner_loop) / h.meta_batch_size",
        (
            f"{ALGORITHMS}::test_fomaml_sums_over_tasks",
            f"{ALGORITHMS}::test_fomaml_with_inner_step_0_sums_the_query_gradients_at_the_initialization",
        ),
    ),
    "FOMAML's query set is fresh points": Fault(
        "learning/algorithm.py",
        "return tasks.support(h.shots), tasks.query(h.queries)",
        "return tasks.support(h.shots), tasks.query(h.queries or len(tasks.grid))",
        (f"{ALGORITHMS}::test_fomaml_draws_fresh_support_points_and_queries_the_grid",),
    ),
    "FOMAML takes the query gradient at the initialization": Fault(
        "learning/algorithms/fomaml.py",
        "network.summed_gradient(copies, *query, after=inner_loop)",
        "network.summed_gradient(copies, *query)",
        (f"{ALGORITHMS}::test_fomaml_takes_the_query_gradient_at_the_adapted_parameters",),
    ),
    "Reptile moves away from the adapted parameters": Fault(
        "learning/algorithms/reptile.py",
        "return theta - mean_over_tasks(phi)",
        "return mean_over_tasks(phi) - theta",
        (
            f"{ALGORITHMS}::test_reptile_moves_a_tenth_of_the_way_towards_the_adapted_parameters",
            f"{ALGORITHMS}::test_reptiles_direction_is_the_sum_of_its_inner_steps",
        ),
    ),
    "Reptile draws its mini-batches with replacement": Fault(
        "learning/tasks/streams.py",
        "order, y = self.shuffles()[..., : count * shots], self.query().y",
        "order, y = ((self.support(count * shots).x[..., 0] + 5) * 5).long(), self.query().y",
        (f"{ALGORITHMS}::test_reptiles_mini_batches_are_disjoint_and_together_the_grid",),
    ),
    "the Hessian bends the activation the other way": Fault(
        "learning/engine/reference.py",
        "return (gradient * h).mul_(change).mul_(-2)",
        "return (gradient * h).mul_(change).mul_(2)",
        (
            "learning/test_network.py::test_the_hand_written_hessian_product_is_the_slope_of_the_gradient[torch-tanh]",
        ),
    ),
    "the gradient through a descent turns its Hessians round": Fault(
        "learning/engine/reference.py",
        "v = v - self.hessian_product(",
        "v = v + self.hessian_product(",
        (
            f"{ALGORITHMS}::test_the_meta_gradient_is_the_slope_of_the_query_loss_of_what_is_predicted[torch-maml-tanh]",
        ),
    ),
    "the test bank holds the validation tasks": Fault(
        "learning/tasks/streams.py",
        "uniforms(self._key, self.purpose, 0, width * self.tasks)",
        'uniforms(self._key, "validation-bank", 0, width * self.tasks)',
        (f"{TASKS}::test_no_validation_task_is_in_the_test_bank",),
    ),
    "a run sees the random numbers of its neighbour": Fault(
        "learning/tasks/streams.py",
        "draw(seed, b) for b in blocks",
        "draw(self.stream.seeds[0], b) for b in blocks",
        (
            f"{TASKS}::test_the_tasks_of_a_run_do_not_depend_on_its_neighbours",
            "learning/test_training.py::test_a_run_does_not_notice_its_neighbours[torch-fomaml]",
        ),
    ),
    "a stale file passes for a fresh one": Fault(
        "workflow/staleness.py",
        "artifacts.difference(artefact.path, header, expected)",
        "artifacts.difference(artefact.path, header, {})",
        (
            "workflow/test_staleness.py::test_edited_source_makes_stale_what_it_makes_and_all_that_is_made_of_that",
        ),
    ),
    "a retried job requests the memory that it ran out of": Fault(
        "workflow/snakefile.py",
        "return attempt * amount",
        "return amount",
        ("workflow/test_snakefile.py::test_each_attempt_requests_as_much_memory_and_time_again",),
    ),
    "training resumes from a checkpoint of another job": Fault(
        "records/states.py",
        "artifacts.require(path, header, expected)\n        return to_state",
        "return to_state",
        (
            f"{STATES}::"
            "test_a_checkpoint_of_another_job_is_reported_and_not_used[another meta step]",
        ),
    ),
    "a checkpoint is evaluated": Fault(
        "records/states.py",
        "require_finished(path, found, header)\n    return",
        "return",
        (f"{STATES}::test_theta_of_an_unfinished_training_is_refused",),
    ),
    "an evaluation is made of whatever was trained": Fault(
        "records/states.py",
        "artifacts.require(path, recorded, expected)",
        "pass",
        (f"{STATES}::test_theta_of_another_job_is_refused_with_what_differs[tasks]",),
    ),
    "an evaluation stays when its training was repeated with another result": Fault(
        "records/measured.py",
        "artifacts.require(path, header, headers.evaluation(settings, seeds, self.engine, theta))",
        "pass",
        (f"{MEASURED}::test_an_evaluation_of_another_theta_is_refused",),
    ),
    "blocks of seeds are joined along the wrong axis": Fault(
        "records/arrays.py",
        'along = array.axes.index("run")',
        "along = 0",
        (f"{ARRAYS}::test_every_declared_array_is_joined_along_its_runs",),
    ),
    "a multiple of the own step is the own step": Fault(
        "learning/algorithm.py",
        "size = question.multiple * h.inner_step_size",
        "size = h.inner_step_size",
        (f"{PROTOCOLS}::test_a_multiple_of_its_own_step_is_its_own_step_times_that[torch-fomaml]",),
    ),
    "a multiple of learned steps is the learned steps": Fault(
        "learning/algorithms/meta_sgd.py",
        "Sizes(question.multiple * alpha[None])",
        "Sizes(alpha[None])",
        (f"{PROTOCOLS}::test_a_multiple_of_learned_steps_is_each_of_them_times_that[meta_sgd]",),
    ),
    "a map is not transposed on the way back": Fault(
        "learning/maps.py",
        "product(product(_transposed(a), v_l), _transposed(b)) for",
        "product(product(a, v_l), _transposed(b)) for",
        ("learning/test_engine.py::test_both_engines_say_the_same_to_rounding",),
    ),
    "the labels of the test bank are exported": Fault(
        "analysis/banks.py",
        "None if is_test else y",
        "y",
        ("analysis/test_predictions.py::test_test_labels_are_in_no_exported_file",),
    ),
    "learned steps pass for the common step that they began with": Fault(
        "learning/evaluation.py",
        "if adapter.adaptation.plain and torch.equal(entry[0], sizes)",
        "if torch.equal(entry[0], sizes)",
        (
            f"{PROTOCOLS}::test_equal_sizes_are_one_result_only_where_a_step_size_says_everything[meta_sgd]",
        ),
    ),
    "step sizes are tuned on the test bank": Fault(
        "learning/evaluation.py",
        "final_losses(adapter, theta, validation, protocol.updates, step)",
        "final_losses(adapter, theta, test, protocol.updates, step)",
        (
            f"{EVALUATION}::test_a_cell_without_an_inner_step_is_tuned_on_the_validation_bank_and_not_on_the_test_bank",
        ),
    ),
    "the place of an update among the measured ones passes for its number": Fault(
        "analysis/selection.py",
        "return self.measured[self._best]",
        "return 1 + self._best",
        ("analysis/test_selection.py::test_the_number_of_updates_is_that_of_the_measured_update",),
    ),
    "predictions are made one step late": Fault(
        "learning/engine/reference.py",
        "for k, phi in enumerate(path) if k in measured",
        "for k, phi in enumerate(path, 1) if k in measured",
        (
            "learning/test_engine.py::test_predictions_after_some_steps_are_those_of_all_of_them[torch-one-measured2]",
        ),
    ),
    "the worst step size is chosen": Fault(
        "learning/evaluation.py",
        "tuning.nan_to_num(nan=torch.inf).argmin(0)",
        "tuning.nan_to_num(nan=torch.inf).argmax(0)",
        (f"{PROTOCOLS}::test_any_algorithm_that_takes_steps_can_be_tuned[fomaml]",),
    ),
    "the query domain of a protocol is ignored": Fault(
        "learning/settings.py",
        'changes["domain"] = self.domain',
        "pass",
        (
            f"{PROTOCOLS}::test_a_wider_query_domain_moves_the_query_points_and_nothing_else",
            f"{PROTOCOLS}::test_losses_under_a_wider_query_domain_are_those_on_its_grid",
        ),
    ),
    "the noise of a protocol is ignored": Fault(
        "learning/settings.py",
        'changes["noise"] = self.noise',
        "pass",
        (f"{PROTOCOLS}::test_noise_of_a_protocol_is_on_support_labels_alone",),
    ),
    "the optimizer of a protocol is ignored": Fault(
        "learning/evaluation.py",
        "return replace(self, optimizer=protocol.optimizer)",
        "return self",
        (
            f"{PROTOCOLS}::test_the_optimizer_matters_to_all_that_take_gradient_steps_and_to_no_other[fomaml]",
        ),
    ),
    "a head is moved by plain descent whatever the optimizer": Fault(
        "learning/algorithm.py",
        'return _descended(network, start, sizes, question, question.optimizer or "sgd")',
        'return _descended(network, start, sizes, question, "sgd")',
        (f"{PROTOCOLS}::test_adam_at_test_time_takes_the_steps_of_its_formula[torch-anil]",),
    ),
    "the validation curve is measured without its protocol's optimizer": Fault(
        "learning/training.py",
        "adapter = adapter.under(given.protocol)",
        "pass",
        (
            f"{PROTOCOLS}::test_validation_losses_meet_the_tasks_and_the_optimizer_of_their_protocol",
        ),
    ),
    "training tasks are without end whatever the study says": Fault(
        "learning/tasks/streams.py",
        "if count := distribution.training_tasks:",
        "if count := None:",
        (f"{FAMILIES}::test_training_tasks_are_visited_equally_often",),
    ),
    "the outer step stays as large as it began": Fault(
        "learning/training.py",
        "size = h.meta_step_size * schedule(i / total)",
        "size = h.meta_step_size",
        (
            f"{TRAINING}::test_the_outer_update_is_that_of_its_optimizer_at_the_size_of_its_schedule[sgd-linear]",
        ),
    ),
    "one number of x inside the support square is enough": Fault(
        "learning/held_out.py",
        "return inside.all(-1)",
        "return inside.any(-1)",
        (f"{WIDTHS}::test_what_is_seen_is_the_support_square",),
    ),
    "the Gaussian process sees the first number of x": Fault(
        "learning/baselines/processes.py",
        "for n in range(a.shape[-1]):",
        "for n in range(1):",
        (f"{WIDTHS}::test_the_gaussian_process_of_two_inputs_is_that_of_the_textbook",),
    ),
    "the numbers of x are all the same": Fault(
        "learning/tasks/streams.py",
        "return unit.unflatten(-1, (count, features))",
        "return unit[..., :count, None].expand(-1, -1, features)",
        (f"{WIDTHS}::test_points_of_two_inputs_are_uniform_on_the_square_and_independent",),
    ),
    "a wave over a plane runs the other way": Fault(
        "learning/tasks/plane_wave.py",
        "[self.direction.cos(), self.direction.sin()]",
        "[self.direction.sin(), self.direction.cos()]",
        (f"{WIDTHS}::test_a_plane_wave_is_a_sine_along_its_direction",),
    ),
    "verification is blind to half of a loss": Fault(
        "analysis/verification/distances.py",
        "TOLERANCE = 0.005",
        "TOLERANCE = 0.5",
        (
            "analysis/test_verification.py::test_five_percent_in_any_cell_of_the_committed_reference_exceed_rounding",
        ),
    ),
    "a reference keeps too few digits": Fault(
        "analysis/reduction.py",
        "SHORT = 11",
        "SHORT = 8",
        (
            "analysis/test_reduction.py::test_a_shortened_number_has_its_digits_and_is_as_near_as_promised",
        ),
    ),
    "the score is capped after the mean over seeds": Fault(
        "analysis/tables/adaptation.py",
        "of_scores(scores(losses, zero), self.confidence)",
        "of_scores(scores(losses.mean(0, keepdims=True), zero), self.confidence)",
        (f"{TABLES}::test_scores_are_capped_on_each_task_before_they_are_averaged",),
    ),
    "the nodes in the middle are thought to be as near as on average": Fault(
        "learning/baselines/bayes.py",
        "* sharpness * pi / 2 / SPACING",
        "* sharpness / SPACING",
        ("learning/test_bayes.py::test_twice_as_many_nodes_give_the_same",),
    ),
    "the posterior of a label is without its noise": Fault(
        "learning/baselines/bayes.py",
        "clamp_min(0) + tasks.noise**2)",
        "clamp_min(0))",
        (
            "learning/test_bayes.py::"
            "test_it_is_the_mean_of_waves_drawn_at_random_and_weighed_by_their_likelihood",
        ),
    ),
    "a process is told a deviation for a variance": Fault(
        "learning/baselines/processes.py",
        "noise=max(deviation**2, NOISE * self.variance)",
        "noise=max(deviation, NOISE * self.variance)",
        (
            f"{BASELINES}::test_a_process_that_is_told_of_the_noise_is_the_posterior_with_its_variance",
        ),
    ),
    "a difference is drawn of the second less the first": Fault(
        "views/figures/grids.py",
        "apart=sign * found",
        "apart=-sign * found",
        (
            "views/test_figures.py::"
            "test_the_last_row_of_maps_has_differences_hatched_where_they_are_uncertain",
        ),
    ),
    "the score has no cap": Fault(
        "learning/scores.py",
        "return np.fmin(share, 1.0)",
        "return share",
        ("learning/test_scores.py::test_each_loss_is_capped_before_the_mean",),
    ),
    "scores are normalized by other points": Fault(
        "analysis/tables/adaptation.py",
        "statistics.of(losses[region, n], zero[region], limits[region], last)",
        "statistics.of(losses[region, n], zero[0], limits[region], last)",
        (f"{TABLES}::test_scores_are_capped_on_each_task_before_they_are_averaged",),
    ),
    "scores of a cell are normalized by the whole grid": Fault(
        "analysis/measured.py",
        'zero = self.baselines[f"test/{protocol}/zero"][:, None, None]',
        'zero = self.baselines[f"test/{protocol}/zero"][:1, None, None]',
        (f"{TABLES}::test_scores_of_a_pair_are_relative_to_the_zero_predictor_on_the_same_points",),
    ),
    "scores of a baseline are normalized by the whole grid": Fault(
        "analysis/tables/comparisons.py",
        'zero = study.baselines[f"test/{protocol}/zero"][:, None]',
        'zero = study.baselines[f"test/{protocol}/zero"][:1, None]',
        (f"{TABLES}::test_scores_of_a_pair_are_relative_to_the_zero_predictor_on_the_same_points",),
    ),
    "a study has a bank of its own": Fault(
        "study/jobs.py",
        "{name: _each(EvaluatedProtocol, group) for name, group in self.groups.items()}",
        "{name: {key: found.model_copy(update={'bank': len(self.config.study)})\n"
        "            for key, found in _each(EvaluatedProtocol, group).items()}\n"
        "            for name, group in self.groups.items()}",
        ("study/test_jobs.py::test_the_name_of_a_study_is_no_setting_of_its_jobs",),
    ),
    "a window that starts and ends in one block counts it twice": Fault(
        "analysis/statistics/resampling.py",
        "np.flatnonzero(first < last)",
        "np.flatnonzero(first <= last)",
        (f"{STATISTICS}::test_statistics_of_resamples_are_those_of_the_drawn_losses",),
    ),
    "the tail is that of the best": Fault(
        "analysis/statistics/estimates.py",
        "return WindowMean(lambda n: (percent * n / 100, (100 - percent) * n / 100))",
        "return WindowMean(lambda n: (0, (100 - percent) * n / 100))",
        (
            "analysis/test_grids.py::test_the_tail_of_a_hundred_values_is_the_mean_of_the_last_ten",
            "analysis/test_grids.py::test_the_tail_is_the_mean_of_the_worst",
        ),
    ),
    "the worst scores are normalized by the validation tasks": Fault(
        "analysis/tables/tails.py",
        "study.baselines[f\"test/{place['protocol']}/zero\"][0]",
        "study.baselines[f\"test/{place['protocol']}/zero\"][0][::-1]",
        ("analysis/test_grids.py::test_the_tail_is_the_mean_of_the_worst",),
    ),
    "all of the advantage must be lost": Fault(
        "analysis/tables/breaking_points.py",
        "level = 1 - (1 - score[best]) / 2",
        "level = 1 - (1 - score[best]) / 4",
        (
            "analysis/test_grids.py::test_a_breaking_point_is_where_half_of_the_best_advantage_is_lost",
        ),
    ),
    "training shifts with a protocol's tasks": Fault(
        "study/jobs.py",
        "            tasks=cell.tasks,\n"
        "            network=cell.network,\n            validation=validation,",
        "            tasks=self.protocols[given.protocol].distribution(cell.tasks),\n"
        "            network=cell.network,\n            validation=validation,",
        ("study/test_jobs.py::test_the_tasks_of_a_protocol_are_met_and_never_trained_on",),
    ),
    "the posterior takes noise for its variance": Fault(
        "learning/baselines/bayes.py",
        "step, exponent / (2 * tasks.noise**2)",
        "step, exponent / (2 * tasks.noise)",
        (
            "learning/test_bayes.py::test_it_is_the_mean_of_waves_drawn_at_random_and_weighed_by_their_likelihood[4-tasks0]",
        ),
    ),
    "noisy tasks are other tasks": Fault(
        "learning/tasks/streams.py",
        'return f"bank {self.number}"',
        'return f"bank {self.number} {self.distribution.noise}"',
        (f"{TASKS}::test_equal_distributions_have_equal_tasks_and_other_noise_the_same_waves",),
    ),
    "cells are chosen on the test bank": Fault(
        "analysis/measured.py",
        'zero = self.baselines[f"validation/{protocol}/zero"][0]\n'
        "        return np.asarray(scores(record.validation(protocol, step), zero).mean(-1))",
        'zero = self.baselines[f"test/{protocol}/zero"][0]\n'
        "        return np.asarray(scores(record.losses(protocol, step)[0], zero).mean(-1))",
        (f"{TABLES}::test_the_number_of_updates_is_that_of_the_least_validation_score",),
    ),
    "the linear model learns from the tasks that it meets": Fault(
        "learning/baselines/__init__.py",
        "linear_model.chosen(_components(tasks), validation)",
        "linear_model.chosen(_components(protocol.distribution(tasks)), validation)",
        (
            "learning/test_baselines.py::test_baselines_learn_from_training_tasks_and_not_from_those_that_they_meet",
        ),
    ),
    "distributions are measured on labels without noise": Fault(
        "learning/evaluation.py",
        "measures(predicted, chunk.observed)",
        "measures(predicted, chunk.query.y)",
        ("learning/test_predictive.py::test_every_run_and_task_is_measured_on_its_noisy_labels",),
    ),
    "an interval leaves its probability out on either side": Fault(
        "learning/predictive.py",
        "ndtri(0.5 + level / 200)",
        "ndtri(level / 100)",
        ("learning/test_predictive.py::test_the_measures_are_those_of_another_library",),
    ),
    "the fitted process forgets the noise of labels": Fault(
        "learning/baselines/processes.py",
        "left[..., None] + kernel.noise",
        "left[..., None]",
        (
            "learning/test_predictive.py::test_the_variances_of_process_and_linear_model_are_those_of_the_textbook",
        ),
    ),
    "a row of distributions has the measures of the whole grid": Fault(
        "analysis/tables/predictive.py",
        "dict(zip(MEASURES, values, strict=True))",
        "dict(zip(MEASURES, found[0], strict=True))",
        (
            "analysis/test_distributions.py::test_a_row_has_the_means_over_seeds_and_tasks_of_its_region[seen]",
        ),
    ),
    "a gradient goes through what was cut": Fault(
        "learning/engine/reference.py",
        ".where(used == gradient, 0.0)",
        "",
        (
            "learning/test_engine.py::test_the_gradient_through_a_cut_descent_is_that_of_autograd[0.3-torch]",
        ),
    ),
    "the noise of a label is left out of its variance": Fault(
        "learning/algorithms/deep_kernel.py",
        "- explained + parts.noise",
        "- explained",
        (
            f"{POSTERIORS}::test_predicting_one_label_after_another_has_the_likelihood_of_all",
            f"{POSTERIORS}::test_more_points_make_more_certain_but_noise_remains[deep_kernel]",
        ),
    ),
    "the metric of T-net has one factor of its transformation": Fault(
        "learning/algorithms/t_net.py",
        "product(transformation, along_metric + _transposed(along_metric))",
        "product(transformation, along_metric)",
        (
            f"{WIDTHS}::test_meta_gradients_are_those_of_autograd_whatever_the_width_of_x[t_net-1]",
            f"{ALGORITHMS}::test_the_meta_gradient_is_the_slope_of_the_query_loss_of_what_is_predicted[torch-t_net-tanh]",
        ),
    ),
    "T-net steps as if its transformations were orthogonal": Fault(
        "learning/algorithms/t_net.py",
        "product(_transposed(transformation), transformation)",
        "torch.eye(transformation.shape[-1], dtype=weight.dtype).expand_as(transformation)",
        (
            f"{ALGORITHMS}::test_t_net_steps_by_the_square_of_its_transformation_which_a_rotation_does_not_change[False-4]",
            f"{ALGORITHMS}::test_t_net_adapts_its_weights_and_not_its_transformations",
        ),
    ),
    "implicit MAML steps away from the initialization": Fault(
        "learning/step_sizes.py",
        "gradient.add(phi - start,",
        "gradient.sub(phi - start,",
        (
            f"{IMPLICIT}::test_updates_descend_the_regularized_loss[torch-adam]",
            f"{IMPLICIT}::test_on_a_linear_model_it_is_the_formula",
        ),
    ),
    "the Hessian of implicit MAML is not divided by lambda": Fault(
        "learning/algorithms/imaml.py",
        "network.hessian_product(phi, *support, v).div_(h.regularization)",
        "network.hessian_product(phi, *support, v)",
        (
            f"{IMPLICIT}::test_many_steps_of_conjugate_gradients_solve_the_system_of_autograd[tanh-1]",
            f"{IMPLICIT}::test_on_a_linear_model_it_is_the_formula",
        ),
    ),
    "directions of conjugate gradients are those of steepest descent": Fault(
        "learning/algorithms/imaml.py",
        "p.mul_((square / before).masked_fill(ended, 0)).add_(r)",
        "p.copy_(r)",
        (
            f"{IMPLICIT}::test_a_few_steps_find_the_nearest_vector_that_their_products_span[4]",
            f"{IMPLICIT}::test_on_a_linear_model_it_is_the_formula",
        ),
    ),
    "conjugate gradients follow negative curvature": Fault(
        "learning/algorithms/imaml.py",
        "ended | (curvature <= 0) | (square <= least)",
        "ended | (square <= least)",
        (f"{IMPLICIT}::test_a_direction_of_negative_curvature_ends_the_steps_of_its_task_alone",),
    ),
    "deep kernel transfer fits labels and forgets the volume": Fault(
        "learning/kernels.py",
        "(torch.cholesky_inverse(root) - product(a, a.mT))",
        "-product(a, a.mT)",
        (
            f"{POSTERIORS}::"
            "test_deep_kernel_transfer_ascends_the_likelihood_of_the_points_of_a_task[torch-1-tanh-rbf]",
        ),
    ),
    "a Gaussian factor pulls features the other way": Fault(
        "learning/kernels.py",
        "2 * (product(weighted, z) - weighted.sum(-1, keepdim=True) * z)",
        "2 * (weighted.sum(-1, keepdim=True) * z - product(weighted, z))",
        (
            f"{POSTERIORS}::"
            "test_deep_kernel_transfer_ascends_the_likelihood_of_the_points_of_a_task[torch-1-tanh-rbf]",
        ),
    ),
    "the cosine of a mixture is a sine": Fault(
        "learning/kernels.py",
        "return (envelope * phase.cos()).sum(-3)",
        "return (envelope * phase.sin()).sum(-3)",
        (
            f"{POSTERIORS}::"
            "test_a_kernel_has_the_diagonal_that_it_says_and_is_that_of_its_equation[spectral]",
        ),
    ),
    "components of a mixture begin equal and stay equal": Fault(
        "learning/kernels.py",
        'uniforms(seed, "init", 1, COMPONENTS * width))',
        'uniforms(seed, "init", 1, width)).repeat(COMPONENTS)',
        (
            f"{POSTERIORS}::"
            "test_components_of_a_spectral_mixture_begin_different_and_depend_on_the_seed",
        ),
    ),
    "a covariance that is lost has a factor": Fault(
        "learning/linear.py",
        "found.L.where((found.info == 0)[..., None, None], torch.nan)",
        "found.L",
        (
            "learning/test_linear.py::test_a_matrix_without_a_factor_is_nan_and_its_neighbours_are_not",
        ),
    ),
    "covariances are factored in float32": Fault(
        "learning/kernels.py",
        "factor_or_nan(kernel(features, features, values) + noise * unit)",
        "factor_or_nan((kernel(features, features, values) + noise * unit).float()).double()",
        (f"{POSTERIORS}::test_float32_costs_only_the_rounding_of_features[torch]",),
    ),
    "ALPaCA forgets its prior mean": Fault(
        "learning/algorithms/alpaca.py",
        "mean = product(features, parts.weight) + parts.bias",
        "mean = 0 * product(features, parts.weight) + parts.bias",
        (
            f"{POSTERIORS}::test_alpaca_with_a_huge_precision_predicts_its_prior",
            f"{POSTERIORS}::test_alpaca_predicts_the_posterior_of_its_linear_model",
            f"{POSTERIORS}::test_alpaca_with_the_prior_of_a_ridge_head_predicts_like_it",
        ),
    ),
    "ALPaCA learns from the squared error": Fault(
        "learning/algorithms/alpaca.py",
        "surplus = (1 - error.square() / variance) / (2 * count)",
        "surplus = 0 * variance",
        (
            f"{POSTERIORS}::test_alpaca_learns_how_large_errors_are_and_a_ridge_head_cannot",
            f"{POSTERIORS}::"
            "test_alpaca_ascends_the_likelihood_of_the_query_points_given_the_support_set[1-tanh-None]",
        ),
    ),
    "the certainty of features does not reach the prior": Fault(
        "learning/algorithms/alpaca.py",
        "precision=-(turned + turned.mT + 2 * curved)",
        "precision=-(turned + turned.mT)",
        (
            f"{POSTERIORS}::"
            "test_alpaca_ascends_the_likelihood_of_the_query_points_given_the_support_set[1-tanh-None]",
        ),
    ),
    "the features of a grid learn from one task": Fault(
        "learning/algorithms/alpaca.py",
        "along.query.sum(1) if grid",
        "along.query[:, 0] if grid",
        (
            f"{POSTERIORS}::"
            "test_alpaca_ascends_the_likelihood_of_the_query_points_given_the_support_set[1-tanh-None]",
        ),
    ),
    "the query points of all tasks are those of the first": Fault(
        "learning/algorithms/alpaca.py",
        "unflatten(1, (1 if grid else tasks, -1))",
        "unflatten(1, (1 if grid else tasks, -1))[:, :1]",
        (
            f"{POSTERIORS}::"
            "test_alpaca_ascends_the_likelihood_of_the_query_points_given_the_support_set[1-tanh-9]",
        ),
    ),
    "equal losses share their statistics whatever the zero predictor loses": Fault(
        "analysis/tables/adaptation.py",
        "for part in (losses, zero, limit)",
        "for part in (losses, limit)",
        (
            "analysis/test_tables.py::test_statistics_are_shared_only_where_all_that_they_need_is_equal",
        ),
    ),
    "a breaking point's interval has its ends exchanged": Fault(
        "analysis/tables/breaking_points.py",
        '("above", above, (score, upper, lower))',
        '("above", above, (score, lower, upper))',
        (
            "analysis/test_grids.py::"
            "test_a_breaking_point_lies_between_those_of_the_ends_of_the_scores_intervals",
        ),
    ),
    "diverged runs are dropped from the mean": Fault(
        "analysis/tables/adaptation.py",
        "mean = mean_interval(losses, confidence)",
        "kept = finite.all(-1)\n"
        "    mean = mean_interval(losses[kept] if kept.any() else losses, confidence)",
        (f"{TABLES}::test_one_diverged_seed_of_many_makes_the_mean_infinite_and_is_counted",),
    ),
    "a mean that one task makes up has an interval": Fault(
        "analysis/statistics/intervals.py",
        "for axis, size in ((1, seeds), (0, tasks)) if size > 1]",
        "for axis, size in ((1, seeds),) if size > 1]",
        (
            f"{STATISTICS}::test_a_mean_that_one_seed_or_one_task_makes_up_has_no_interval[losses5-False]",
        ),
    ),
    "outliers move their points, too": Fault(
        "learning/tasks/streams.py",
        "return Points(x, self.distribution.observed(x, self.drawn(labelled), noise))",
        "return Points(labelled, self.distribution.observed(x, self.drawn(labelled), noise))",
        (f"{PROTOCOLS}::test_outliers_are_the_first_points_with_labels_of_others_of_their_task",),
    ),
    "points of a gap are cut off, not moved": Fault(
        "learning/tasks/distribution.py",
        "torch.where(x < first, x, x + (last - first))",
        "torch.where(x < first, x, x.clamp(min=last))",
        (
            f"{PROTOCOLS}::test_points_around_a_gap_are_uniform_on_both_islands_and_only_they_are_seen",
        ),
    ),
    "growing noise is larger on average": Fault(
        "learning/tasks/distribution.py",
        "return sqrt(3) * from_center",
        "return 2 * sqrt(3) * from_center",
        (
            f"{PROTOCOLS}::test_each_kind_of_noise_has_the_same_standard_deviation_and_a_shape_of_its_own[growing]",
        ),
    ),
    "heavy tails have a larger standard deviation": Fault(
        "learning/randomness.py",
        "/ np.sqrt(degrees / (degrees - 2))",
        "",
        (
            f"{PROTOCOLS}::test_each_kind_of_noise_has_the_same_standard_deviation_and_a_shape_of_its_own[heavy-tailed]",
        ),
    ),
    "quarters of the grid are those of the first task": Fault(
        "learning/held_out.py",
        "parts = {n: at if at.dim() == 1 else at[tasks] for n, at in self.regions.items()}",
        "parts = {n: at if at.dim() == 1 else at[:1].expand(len(at[tasks]), -1) "
        "for n, at in self.regions.items()}",
        (f"{PROTOCOLS}::test_the_quarters_of_each_task_are_its_own",),
    ),
    "intervals do not know that seeds differ by factors": Fault(
        "analysis/statistics/intervals.py",
        "half = math.hypot(half, 2 * float(ndtri(level)) ** 2 * skewed)",
        "half = math.hypot(half, 0 * skewed)",
        (
            "analysis/test_statistics.py::test_the_interval_of_the_mean_is_the_one_worked_out_by_hand",
        ),
    ),
    "one value that rules a mean takes its interval to the end of the scale": Fault(
        "analysis/statistics/intervals.py",
        "curvature * min(variance, LARGEST_VARIANCE)",
        "curvature * variance",
        (
            "analysis/test_statistics.py::test_an_interval_says_something_of_a_mean_that_one_value_rules",
        ),
    ),
    "every varied support set has the largest size": Fault(
        "learning/tasks/streams.py",
        "beyond = torch.arange(most) >= least +",
        "beyond = torch.arange(most) >= most +",
        (f"{TASKS}::test_the_size_of_a_varied_support_set_is_uniform_between_its_bounds",),
    ),
    "points that are no part of a set count in its mean": Fault(
        "learning/encoder_decoder.py",
        "count = known.sum(2)  # (run, task, 1)",
        "count = known.sum(2).clamp(min=known.shape[2])",
        (
            f"{PROCESSES}::test_points_with_the_label_nan_are_no_part_of_a_training_set[conditional_neural_process]",
            f"{WIDTHS}::test_meta_gradients_are_those_of_autograd_whatever_the_width_of_x[conditional_neural_process-1]",
        ),
    ),
    "a deviation may be 0": Fault(
        "learning/gaussian_head.py",
        "return LEAST_DEVIATION + ",
        "return ",
        (f"{PROCESSES}::test_a_gaussian_head_is_a_mean_and_a_deviation_of_at_least_a_tenth",),
    ),
    "the likelihood forgets that a wide distribution is unlikely": Fault(
        "learning/gaussian_head.py",
        "(log(2 * pi) + variance.log() + distance)",
        "(log(2 * pi) + distance)",
        (
            f"{PROCESSES}::test_the_loss_of_a_gaussian_head_is_the_negative_log_likelihood",
            f"{WIDTHS}::test_meta_gradients_are_those_of_autograd_whatever_the_width_of_x[transformer_neural_process-1]",
        ),
    ),
    "the labels that stand in are on the other side": Fault(
        "learning/gaussian_head.py",
        "return outputs - gradient(",
        "return outputs + gradient(",
        (
            f"{PROCESSES}::test_the_squared_error_to_the_labels_that_stand_in_has_the_gradient_of_the_likelihood",
        ),
    ),
    "a variance rounds by its place in a stack": Fault(
        "learning/gaussian_head.py",
        "softplus = (z + size) / 2 + torch.log1p(decay)",
        "softplus = torch.nn.functional.softplus(z)",
        (
            f"{PROCESSES}::test_a_gaussian_head_gives_a_number_the_same_bits_wherever_it_is_in_a_tensor",
        ),
    ),
    "attention is not scaled": Fault(
        "learning/transformer.py",
        "product(q, k.mT) / sqrt(q.shape[-1])",
        "product(q, k.mT)",
        (
            f"{WIDTHS}::test_meta_gradients_are_those_of_autograd_whatever_the_width_of_x[transformer_neural_process-1]",
            f"{WIDTHS}::test_the_gradient_of_a_sequence_is_that_of_one_prediction_at_a_time[1]",
        ),
    ),
    "a transformer sees points that are no part of a set": Fault(
        "learning/algorithms/transformer_neural_process.py",
        "visible=known.mT",
        "visible=torch.ones_like(known).mT",
        (
            f"{PROCESSES}::test_points_with_the_label_nan_are_no_part_of_a_training_set[transformer_neural_process]",
        ),
    ),
    "each point of a sequence sees its own label": Fault(
        "learning/algorithms/in_context_transformer.py",
        "_earlier(shots, itself=True), _earlier(shots)]",
        "_earlier(shots, itself=True), _earlier(shots, itself=True)]",
        (f"{WIDTHS}::test_the_gradient_of_a_sequence_is_that_of_one_prediction_at_a_time[1]",),
    ),
    "a sequence is a set": Fault(
        "learning/algorithms/in_context_transformer.py",
        ".tril(0 if itself else -1)",
        ".tril(shots if itself else -1)",
        (
            f"{PROCESSES}::test_a_transformer_that_learns_in_context_cares_about_the_order_of_points",
        ),
    ),
    "the tail is that of the best tasks": Fault(
        "learning/algorithms/dr_maml.py",
        ".topk(kept).indices",
        ".topk(kept, largest=False).indices",
        (
            f"{ROBUST}::"
            "test_the_direction_is_the_gradient_of_the_mean_of_the_largest_losses[0.7-2-4]",
            f"{ROBUST}::test_training_on_the_tail_helps_the_worst_tasks_and_not_the_best",
        ),
    ),
    "tasks are screened before they adapt": Fault(
        "learning/algorithms/dr_maml.py",
        "return network.loss(phi, *query)",
        "return network.loss(copies, *query)",
        (
            f"{ROBUST}::"
            "test_the_direction_is_the_gradient_of_the_mean_of_the_largest_losses[0.7-2-4]",
        ),
    ),
    "a share in binary keeps a task too many": Fault(
        "learning/algorithms/dr_maml.py",
        "max(1, round((1 - h.risk_level) * h.meta_batch_size))",
        "int(-(-(1 - h.risk_level) * h.meta_batch_size // 1))",
        (f"{ROBUST}::test_the_tail_is_the_share_that_is_not_left_out_and_never_empty[0.7-10-3]",),
    ),
    "the gates of the LSTM are in another order": Fault(
        "learning/engine/lstm.py",
        "i, f, g, o = opened.unbind(-2)",
        "f, i, g, o = opened.unbind(-2)",
        (f"{RECURRENT}::test_the_lstm_is_that_of_torch[torch-1]",),
    ),
    "the candidate of the LSTM's cell is a gate": Fault(
        "learning/engine/lstm.py",
        "[1.0], [0.5]]",
        "[0.5], [0.5]]",
        (f"{RECURRENT}::test_the_lstm_is_that_of_torch[torch-1]",),
    ),
    "a gate rounds by its place in a stack": Fault(
        "learning/engine/lstm.py",
        "opened = torch.tanh(slopes * z.unflatten(-1, (4, -1))) * slopes + (1 - slopes)",
        "z = z.unflatten(-1, (4, -1))\n"
        "    opened = torch.sigmoid(z).where(slopes < 1, torch.tanh(z))",
        (f"{RECURRENT}::test_gates_have_the_same_bits_wherever_a_number_is_in_a_tensor[torch]",),
    ),
    "the LSTM reads points that are no part of a set": Fault(
        "learning/recurrent.py",
        "_flat(theta, stack, 1), pairs, is_read, self)",
        "_flat(theta, stack, 1), pairs, None, self)",
        (
            f"{RECURRENT}::test_points_that_are_left_out_might_as_well_not_be_there[torch]",
            f"{RECURRENT}::"
            "test_support_sets_of_the_lstm_vary_in_size_and_their_missing_points_are_not_read",
        ),
    ),
    "the way back through the LSTM forgets the states between points": Fault(
        "learning/engine/lstm.py",
        "of_hidden = product(of_gates, transposed)",
        "of_hidden = along.hidden",
        (f"{RECURRENT}::test_the_way_back_of_the_lstm_is_its_slope[torch-False-5]",),
    ),
    "both LSTMs of MMAML read forwards": Fault(
        "learning/algorithms/mmaml.py",
        "[part, part.flip(-2)]",
        "[part, part]",
        (
            f"{RECURRENT}::test_mmaml_descends_in_theta_while_the_modulation_stays[None]",
            f"{WIDTHS}::test_meta_gradients_are_those_of_autograd_whatever_the_width_of_x[mmaml-1]",
        ),
    ),
    "MMAML descends in the modulated parameters": Fault(
        "learning/algorithms/mmaml.py",
        "scale + shift, scale.square()",
        "scale + shift, torch.ones_like(scale) + 0 * scale",
        (
            f"{RECURRENT}::test_mmaml_descends_in_theta_while_the_modulation_stays[None]",
            f"{RECURRENT}::test_mmaml_is_not_maml_once_its_head_says_something",
            f"{WIDTHS}::test_meta_gradients_are_those_of_autograd_whatever_the_width_of_x[mmaml-1]",
        ),
    ),
    "the modulation of MMAML is constant in its steps": Fault(
        "learning/algorithms/mmaml.py",
        "h.inner_step_size * along_sizes.view_as(start)",
        "0 * along_sizes.view_as(start)",
        (f"{WIDTHS}::test_meta_gradients_are_those_of_autograd_whatever_the_width_of_x[mmaml-1]",),
    ),
}

WITNESS = """
from pathlib import Path
import metabench

def test_the_copy_is_under_test():
    root = Path(__file__).resolve().parents[1]
    assert Path(metabench.__file__).resolve().parent == root / "metabench"
"""


@pytest.fixture
def copy(tmp_path):
    """A copy of package, tests, config and reference tables, with a test that it is the copy that
    is tested.
    """
    for name in ("metabench", "tests", "config", "benchmarks", "results/reference/flux/tables"):
        shutil.copytree(
            small.ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__")
        )
    shutil.copy(small.ROOT / "pyproject.toml", tmp_path)
    (tmp_path / "tests" / "test_witness.py").write_text(WITNESS, encoding="utf-8")
    return tmp_path


QUICK = ["-q", "-p", "no:cacheprovider", "-p", "no:hypothesispytest", "--junitxml=outcomes.xml"]


def is_assertion(failure):
    """Whether a test failed since something is not as it says, and not since it could not run."""
    message = failure.attrib["message"]
    return any(word in message for word in ("AssertionError", "DID NOT RAISE")) or (
        "assert" in failure.text
    )


def outcomes(copy, tests):
    """Run tests in a copy; return those that passed and those that failed an assertion, by name
    without parameters.
    """
    selected = [f"tests/{test}" for test in ("test_witness.py", *tests)]
    done = forked.run("pytest", [*QUICK, *selected], copy, os.environ | {"PYTHONPATH": str(copy)})
    output = done.stdout + done.stderr
    assert done.returncode in (0, 1), output  # 1: some failed; more: pytest could not run them
    passed, failed = set(), set()
    for case in ElementTree.parse(copy / "outcomes.xml").iter("testcase"):
        name, failure = case.attrib["name"].split("[")[0], case.find("failure")
        assert case.find("error") is None, name
        assert failure is None or is_assertion(failure), failure.text
        (passed if failure is None else failed).add(name)
    assert "test_the_copy_is_under_test" in passed
    return passed - {"test_the_copy_is_under_test"}, failed


def names(tests):
    return {test.split("::")[1].split("[")[0] for test in tests}


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_makes_its_tests_fail(name, copy):
    fault = FAULTS[name]
    path = copy / "metabench" / fault.file
    source = path.read_text(encoding="utf-8")
    assert source.count(fault.right) == 1, "the line has changed: plant the fault in the new one"
    path.write_text(source.replace(fault.right, fault.wrong), encoding="utf-8")
    assert outcomes(copy, fault.tests) == (set(), names(fault.tests))
