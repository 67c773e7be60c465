// Peak arithmetic rate from registers alone, by type and vector width.
#include "common.h"

// 12 chains hide latency 4-6 x 2 units and leave four of 16 registers; 24 where there are 32.
#if REGISTERS >= 32
#define EACH(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11) \
  X(12) X(13) X(14) X(15) X(16) X(17) X(18) X(19) X(20) X(21) X(22) X(23)
#define PIN asm volatile("" : "+" REG(a0), "+" REG(a1), "+" REG(a2), "+" REG(a3), "+" REG(a4), \
  "+" REG(a5), "+" REG(a6), "+" REG(a7), "+" REG(a8), "+" REG(a9), "+" REG(a10), "+" REG(a11)); \
  asm volatile("" : "+" REG(a12), "+" REG(a13), "+" REG(a14), "+" REG(a15), "+" REG(a16), \
  "+" REG(a17), "+" REG(a18), "+" REG(a19), "+" REG(a20), "+" REG(a21), "+" REG(a22), "+" REG(a23));
#define CHAINS 24
#else
#define EACH(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11)
#define PIN asm volatile("" : "+" REG(a0), "+" REG(a1), "+" REG(a2), "+" REG(a3), "+" REG(a4), \
  "+" REG(a5), "+" REG(a6), "+" REG(a7), "+" REG(a8), "+" REG(a9), "+" REG(a10), "+" REG(a11));
#define CHAINS 12
#endif

static volatile double sink;

// start: small non-zero values; factor below 1 so that a = a * factor + term stays finite.
template <class T>
static T value(int i) { return T(0.5 + 0.013 * i); }

#define START(i) vec a##i = vec{} + value<scalar>(i);
#define USE(i) total += double(a##i[0]);
#define FMA(i) a##i = a##i * factor + term;

#define FMA_LOOP(name, type, bytes)                                              \
  extern "C" NOINLINE void name(long turns) {                                    \
    typedef type scalar;                                                         \
    typedef vector_of<type, bytes>::of vec;                                    \
    vec factor = vec{} + scalar(0.875), term = vec{} + scalar(0.171875);         \
    asm volatile("" : "+" REG(factor), "+" REG(term));                           \
    EACH(START)                                                                  \
    for (long t = 0; t < turns; t++) { EACH(FMA) PIN }                           \
    double total = 0;                                                            \
    EACH(USE)                                                                    \
    sink = total;                                                                \
  }

FMA_LOOP(fma_float32_128, float, 16)
FMA_LOOP(fma_float64_128, double, 16)
#if WIDEST >= 32
FMA_LOOP(fma_float32_256, float, 32)
FMA_LOOP(fma_float64_256, double, 32)
#endif
#if WIDEST >= 64
FMA_LOOP(fma_float32_512, float, 64)
FMA_LOOP(fma_float64_512, double, 64)
#endif
#if defined(__AVX512FP16__) || defined(__ARM_FEATURE_FP16_VECTOR_ARITHMETIC)
FMA_LOOP(fma_float16_widest, _Float16, WIDEST)
#define HAS_FLOAT16
#endif

// Dot products: the instruction itself, so that no compiler can put another in its place.
#if defined(__AVX512BF16__)
#define DOT_BF16 "vdpbf16ps %2, %1, %0"
#elif defined(__ARM_FEATURE_BF16_VECTOR_ARITHMETIC)
#define DOT_BF16 "bfdot %0.4s, %1.8h, %2.8h"
#endif
#if defined(__AVX512VNNI__)
#define DOT_INT8 "vpdpbusd %2, %1, %0"
#elif defined(__AVXVNNI__)
#define DOT_INT8 "{vex} vpdpbusd %2, %1, %0"
#elif defined(__ARM_FEATURE_DOTPROD)
#define DOT_INT8 "sdot %0.4s, %1.16b, %2.16b"
#endif

#define DOT_BODY(type)                                                           \
  typedef type scalar;                                                           \
  typedef vector_of<type, WIDEST>::of vec;                                     \
  vec factor{}, term{};                                                           \
  fill_random(&factor, sizeof factor, 1);                                        \
  fill_random(&term, sizeof term, 2);                                            \
  factor = (factor & 0x3f3f3f3f) | 0x01010101;                                   \
  term = (term & 0x3f3f3f3f) | 0x01010101;                                       \
  asm volatile("" : "+" REG(factor), "+" REG(term));                             \
  EACH(START)                                                                    \
  for (long t = 0; t < turns; t++) { EACH(DOT) }                                 \
  double total = 0;                                                              \
  EACH(USE)                                                                      \
  sink = total;

#ifdef DOT_BF16
#define DOT(i) asm volatile(DOT_BF16 : "+" REG(a##i) : REG(factor), REG(term));
extern "C" NOINLINE void dot_bfloat16(long turns) { DOT_BODY(int) }
#undef DOT
#endif
#ifdef DOT_INT8
#define DOT(i) asm volatile(DOT_INT8 : "+" REG(a##i) : REG(factor), REG(term));
extern "C" NOINLINE void dot_int8(long turns) { DOT_BODY(int) }
#undef DOT
#endif

struct Loop {
  const char* type;
  int bits;
  void (*run)(long);
  double per_turn;  // operations per turn of the loop: a multiply and an add count as two
};

int main(int count, char** values) {
  Arguments given = arguments(count, values);
  std::vector<Loop> loops = {
      {"float32", 128, fma_float32_128, 2.0 * CHAINS * 4},
      {"float64", 128, fma_float64_128, 2.0 * CHAINS * 2},
#if WIDEST >= 32
      {"float32", 256, fma_float32_256, 2.0 * CHAINS * 8},
      {"float64", 256, fma_float64_256, 2.0 * CHAINS * 4},
#endif
#if WIDEST >= 64
      {"float32", 512, fma_float32_512, 2.0 * CHAINS * 16},
      {"float64", 512, fma_float64_512, 2.0 * CHAINS * 8},
#endif
#ifdef HAS_FLOAT16
      {"float16", 8 * WIDEST, fma_float16_widest, 1.0 * CHAINS * WIDEST},
#endif
#ifdef DOT_BF16
      {"bfloat16", 8 * WIDEST, dot_bfloat16, 1.0 * CHAINS * WIDEST},
#endif
#ifdef DOT_INT8
      {"int8", 8 * WIDEST, dot_int8, 2.0 * CHAINS * WIDEST},
#endif
  };
  std::vector<Point> points;
  for (const Loop& loop : loops)
    for (int threads : {1, given.threads}) {
      long turns = 1000;
      while (timed_team(1, [&](int) { loop.run(turns); }) < 1.5e-3) turns *= 2;
      auto sample = [loop, threads, turns] {
        double s = timed_team(threads, [&](int) { loop.run(turns); });
        return loop.per_turn * double(turns) * threads / s;
      };
      points.push_back({text("\"what\": \"flops\", \"type\": \"%s\", \"bits\": %d, \"threads\": %d",
                             loop.type, loop.bits, threads), sample, {}});
      if (given.threads == 1) break;
    }
  printf("{\"what\": \"registers\", \"values\": [%d], \"vector_bytes\": %d}\n", REGISTERS, WIDEST);
  measure(points, given.budget_s, 7);
}
