"""The jobs that mirror a study into MLflow, by batches."""

import small

from metabench.workflow import artefacts


def test_batches_of_tracking_are_all_jobs_in_order_and_none_is_too_large(tmp_path):
    started = small.running(small.content(seeds=200, seed_block=10), tmp_path)
    found = artefacts.batches(started)
    assert [job for batch in found.values() for job in batch] == started.study.train_jobs
    assert list(found) == [f"cells_{n}" for n in range(len(found))]
    assert {len(batch) for batch in list(found.values())[:-1]} == {artefacts.BATCH}
