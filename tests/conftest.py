"""One thread, as in every job: the number of threads changes the bits of a result, here and in what tests start."""

import os

# Before torch is imported anywhere, since it reads them once.
os.environ |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
