// planted: not_vectorised
// problem: map_near
// The coefficients are read again for each number, since y might be where they are.
struct Polynomial {
  float a, b, c, d;
};
static Polynomial polynomial = {0.3f, 0.7f, 0.2f, 0.1f};

static void one(const float* x, float* y, long i, Polynomial* p) {
  float v = x[i];
  y[i] = ((v * p->a + p->b) * v + p->c) * v + p->d;
  asm volatile("" ::: "memory");
}

extern "C" void region0(const void* const* in, void* const* out) {
  const float* x = (const float*)in[0];
  float* y = (float*)out[0];
#pragma omp parallel for
  for (long i = 0; i < 128 * 512; i++) one(x, y, i, &polynomial);
}
