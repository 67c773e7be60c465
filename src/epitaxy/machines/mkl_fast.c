/* Preloaded into a baseline's process: MKL asks whether the processor is Intel's, and may take a
   slower path on others that have the same instructions. This answers yes, so that no kernel is
   praised for beating a handicap. */

int mkl_serv_intel_cpu_true(void) { return 1; }
