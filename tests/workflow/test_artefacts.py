"""The jobs that mirror a study into MLflow, by batches."""

from collections import Counter

import small

from metabench.workflow import artefacts


def test_a_batch_of_tracking_is_of_one_algorithm_and_all_batches_are_all_jobs(tmp_path):
    started = small.running(small.content(seeds=200, seed_block=10), tmp_path)
    found = artefacts.batches(started)
    assert Counter(job for batch in found.values() for job in batch) == Counter(
        started.study.train_jobs
    )
    for name, batch in found.items():
        assert {cell.algorithm for cell, _ in batch} == {name.rpartition("_")[0]}
        assert len(batch) <= artefacts.BATCH
    assert list(found)[:2] == ["fomaml_0", "fomaml_1"]
