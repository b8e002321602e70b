// Stacks of small multilayer perceptrons: predictions, gradients, products with the Hessian, whole inner loops, and
// gradients through them. Stacks of LSTMs, further below.
//
//   h_0 = x,   z_l = h_{l-1} W_l + b_l,   h_l = activation(z_l),   prediction = z_L,   loss = mean (prediction - y)^2
//
// The kernel computes one network at a time and keeps its parameters and activations in cache. So a network's result
// cannot depend on its neighbours in the stack. Each number is one chain of fused multiply-adds, whose order does not
// depend on the width of the processor's vectors (the dot product always adds BLOCK partial sums). So AVX2 and
// AVX-512 give the same bits.
//
// The source is compiled once for each kind of processor; `__init__.py` selects the compiled kernel at run time.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <utility>
#include <vector>
#ifdef __AVX512F__
#include <immintrin.h>
#endif

namespace {

#ifndef BYTES  // size of a vector; a test sets a smaller one
#if defined(__AVX512F__)
#define BYTES 64
#elif defined(__AVX2__)
#define BYTES 32
#else
#define BYTES 16
#endif
#endif

// Widths are padded to multiples of BLOCK. Padding holds zeros as long as all numbers are finite. BLOCK is two of the
// widest vectors of floats, so that one pass of `product` fills whole tiles. It fixes the order of sums, hence all
// bits.
constexpr int64_t BLOCK = 32;

#define INLINED __attribute__((always_inline))
#define INLINE inline INLINED
// For functions that are called seldom: inlined, each call would be another copy of much code.
#define NOINLINE __attribute__((noinline))

template <class T> struct Simd {
  typedef T V __attribute__((vector_size(BYTES), aligned(sizeof(T)), may_alias));
  static constexpr int64_t lanes = BYTES / sizeof(T);
};
template <class T> using V = typename Simd<T>::V;

template <class T> INLINE V<T> load(const T* p) { return *reinterpret_cast<const V<T>*>(p); }
template <class T> INLINE void store(T* p, V<T> v) { *reinterpret_cast<V<T>*>(p) = v; }
template <class T> INLINE V<T> broadcast(T value) { return value - V<T>{}; }

// The same for a single number, so that templates can take a vector or a number. The type of `like` selects which.
template <class T> INLINE V<T> load(const T* p, V<T> like) { return load(p); }
template <class T> INLINE T load(const T* p, T like) { return *p; }
template <class T> INLINE void store(T* p, T value) { *p = value; }

// Lane i of the result is lane function(i) of u and v together. Clang has no `__builtin_shuffle`, and GCC before 12 no
// `__builtin_shufflevector`.
template <class T, class Function, int64_t... I>
INLINE V<T> shuffle(V<T> u, V<T> v, Function function, std::integer_sequence<int64_t, I...>) {
#ifdef __clang__
  return __builtin_shufflevector(u, v, function(I)...);
#else
  return __builtin_shuffle(u, v, decltype(u > v){function(I)...});
#endif
}
template <class T, class Function> INLINE V<T> shuffle(V<T> u, V<T> v, Function function) {
  return shuffle<T>(u, v, function, std::make_integer_sequence<int64_t, Simd<T>::lanes>{});
}

// --- activations ---------------------------------------------------------------------------------------------------
//
// forward     h = f(z)
// backward    dL/dz = f'(z) dL/dh, from g = dL/dh and h
// curvature   the factor c of R{f'(z)} dL/dh = c R{h}, from g and h
//
// All derivatives are written in terms of h, so z is not stored.

// a < b ? a : b, and a > b ? a : b. For the widest vectors compilers emit two instructions for each where one
// suffices.
#if BYTES == 64 && defined(__AVX512F__)
INLINE V<float> minimum(V<float> a, V<float> b) { return V<float>(_mm512_min_ps(__m512(a), __m512(b))); }
INLINE V<float> maximum(V<float> a, V<float> b) { return V<float>(_mm512_max_ps(__m512(a), __m512(b))); }
#else
INLINE V<float> minimum(V<float> a, V<float> b) { return a < b ? a : b; }
INLINE V<float> maximum(V<float> a, V<float> b) { return a > b ? a : b; }
#endif

// tanh z = x P(x^2) / Q(x^2): the rational function of this degree with the least relative error (1e-8) on |x| <=
// 8.3. z is clipped to +-8 first, where tanh is within 3e-7 of +-1.
INLINE V<float> tanh(V<float> z) {
  const V<float> limit = broadcast(8.0f), x = maximum(-limit, minimum(limit, z)), s = x * x;
  V<float> p = s * 1.46482604998e-8f + 2.15086484004e-5f, q = s * 8.29515493484e-7f + 3.37397140404e-4f;
  p = p * s + 3.54918457438e-3f, q = q * s + 2.60800146601e-2f;
  p = p * s + 1.34258854917e-1f, q = q * s + 4.67592104155e-1f;
  p = p * s + 9.99999990872e-1f, q = q * s + 1.0f;
  return x * p / q;
}

// Studies compute in float; double serves tests, which want accuracy and not speed.
INLINE V<double> tanh(V<double> z) {
  for (int64_t i = 0; i < Simd<double>::lanes; ++i) z[i] = std::tanh(z[i]);
  return z;
}

struct Tanh {
  template <class U> static INLINE U forward(U z) { return tanh(z); }
  template <class U> static INLINE U backward(U g, U h) { return g - (g * h) * h; }
  template <class U> static INLINE U curvature(U g, U h) { return -2 * (g * h); }
};

struct Relu {
  template <class U> static INLINE U forward(U z) { return z < 0 ? U{} : z; }
  template <class U> static INLINE U backward(U g, U h) { return h > 0 ? g : U{}; }
  template <class U> static INLINE U curvature(U, U) { return U{}; }
};

// --- products ------------------------------------------------------------------------------------------------------

// The factors of a matrix product a b. Strides: `row` and `step` of a[i, k], `ld` and 1 of b[k, j].
template <class T> struct Factors {
  int64_t depth;
  const T* a;
  int64_t row, step;
  const T* b;
  int64_t ld;
  INLINE Factors at(int64_t i, int64_t j) const { return {depth, a + i * row, row, step, b + j, ld}; }
};

// One tile of a sum of matrix products, R rows by two vectors:
//
//   finish(r, j, start(j) + sum_k a[r, k] b[k, j] + ...)
//
// Terms are added in the order of k, one product after the other. The sums stay in registers throughout.
template <int R, class T, class Start, class Finish, class... More>
INLINE void tile(Start start, Finish finish, Factors<T> factors, More... more) {
  constexpr int64_t L = Simd<T>::lanes;
  V<T> sum[R][2];
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r) sum[r][0] = start(0), sum[r][1] = start(L);
  const auto add = [&](Factors<T> f) INLINED {
    for (int64_t k = 0; k < f.depth; ++k, f.a += f.step, f.b += f.ld) {
      const V<T> b0 = load(f.b), b1 = load(f.b + L);
#pragma GCC unroll 16
      for (int r = 0; r < R; ++r) {
        const V<T> x = broadcast(f.a[r * f.row]);
        sum[r][0] += x * b0, sum[r][1] += x * b1;
      }
    }
  };
  add(factors), (add(more), ...);
  int64_t first = 0;
  // Hide the value of `first` from the compiler. Otherwise it computes the addresses of all rows before the loop
  // above, runs out of registers and spills the sums to memory.
  asm volatile("" : "+r"(first));
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r) finish(first + r, 0, sum[r][0]), finish(first + r, L, sum[r][1]);
}

// Tiles of H rows while that many are left, then tiles of SMALLER heights. Heights are few: each one is a copy of
// `tile`.
template <int H, int... SMALLER, class At> INLINE void tiles(int64_t i, int64_t rows, At at) {
  for (; i + H <= rows; i += H) at(i, std::integral_constant<int, H>{});
  if constexpr (sizeof...(SMALLER) > 0) tiles<SMALLER...>(i, rows, at);
}

// All tiles of a sum of products, `rows` by `columns`. start(j) and finish(i, j, sum) take indices of the whole
// matrix. HEIGHTS are those of tiles, if the usual ones do not suit the rows.
template <int... HEIGHTS, class T, class Start, class Finish, class... More>
INLINE void product(int64_t rows, int64_t columns, Start start, Finish finish, Factors<T> factors, More... more) {
  for (int64_t j = 0; j < columns; j += 2 * Simd<T>::lanes) {
    const auto from = [&](int64_t c) INLINED { return start(j + c); };
    const auto at = [&](int64_t i, auto height) INLINED {
      const auto to = [&](int64_t r, int64_t c, V<T> sum) INLINED { finish(i + r, j + c, sum); };
      tile<height>(from, to, factors.at(i, j), more.at(i, j)...);
    };
    // The sums of the highest tile must fit the registers: 20 of 32 for AVX-512, 10 of 16 for AVX2. Heights do not
    // change bits. Double has few heights, since studies compute in float.
    if constexpr (sizeof...(HEIGHTS) > 0) tiles<HEIGHTS...>(0, rows, at);
    else if constexpr (sizeof(T) > sizeof(float)) tiles<4, 1>(0, rows, at);
    else if constexpr (BYTES == 64) tiles<10, 5, 4, 1>(0, rows, at);
    else tiles<5, 4, 1>(0, rows, at);
  }
}

// weighted(j, sum_k a[k] b[k, j]) and plain(j, sum_k b[k, j]) for `ld` columns of b, a multiple of BLOCK. Terms are
// added in the order of k. Each sum is a chain in which every addition waits for the one before it, so many columns
// are summed side by side.
template <class T, class Weighted, class Plain>
INLINE void column_sums(
    int64_t depth, const T* a, const T* b, int64_t ld, Weighted weighted, Plain plain, int64_t step = 1) {
  const auto sums = [&](int64_t j, auto vectors) INLINED {
    constexpr int64_t L = Simd<T>::lanes, N = vectors;
    V<T> sum[N] = {}, unweighted[N] = {};
    const T* row = b + j;
    for (int64_t k = 0; k < depth; ++k, row += ld)
#pragma GCC unroll 16
      for (int64_t c = 0; c < N; ++c)
        sum[c] += broadcast(a[k * step]) * load(row + c * L), unweighted[c] += load(row + c * L);
#pragma GCC unroll 16
    for (int64_t c = 0; c < N; ++c) weighted(j + c * L, sum[c]), plain(j + c * L, unweighted[c]);
  };
  constexpr std::integral_constant<int64_t, BLOCK / Simd<T>::lanes> one{};
  constexpr std::integral_constant<int64_t, 2 * one> two{};
  int64_t j = 0;
  for (; j + 2 * BLOCK <= ld; j += 2 * BLOCK) sums(j, two);
  if (j < ld) sums(j, one);
}

// sum_k a[k] for a count that is a multiple of BLOCK: BLOCK partial sums, which are then added in order.
template <class T> T total(int64_t count, const T* a) {
  constexpr int64_t L = Simd<T>::lanes, N = BLOCK / L;
  V<T> sum[N] = {};
  for (int64_t k = 0; k < count; k += BLOCK)
#pragma GCC unroll 16
    for (int64_t c = 0; c < N; ++c) sum[c] += load(a + k + c * L);
  T result = 0;
  for (int64_t k = 0; k < BLOCK; ++k) result += sum[k / L][k % L];
  return result;
}

// Vectors u and v together are segments of WIDTH numbers. Add the second half of each segment to its first half,
// which gives as many segments of half the width: one vector.
template <int64_t WIDTH, class T> INLINE V<T> fold(V<T> u, V<T> v) {
  const auto first = [](int64_t i) { return i / (WIDTH / 2) * WIDTH + i % (WIDTH / 2); };
  const auto second = [=](int64_t i) { return first(i) + WIDTH / 2; };
  return shuffle<T>(u, v, first) + shuffle<T>(u, v, second);
}

// sum_k a[p, k] b[k] for COUNT rows from p on, one segment of the result each. Rows past the last of `rows` repeat
// it. Each dot product is BLOCK partial sums, folded in half until one number is left. The order of this tree is the
// same for vectors of every width.
template <int64_t COUNT, class T> INLINE V<T> dots(int64_t p, int64_t rows, int64_t depth, const T* a, const T* b) {
  constexpr int64_t L = Simd<T>::lanes, N = BLOCK / L;
  if constexpr (COUNT > 1) {
    const V<T> first = dots<COUNT / 2>(p, rows, depth, a, b);
    const V<T> second = dots<COUNT / 2>(p + COUNT / 2, rows, depth, a, b);
    return fold<2 * L / COUNT, T>(first, second);
  } else {
    a += std::min(p, rows - 1) * depth;
    V<T> sum[N] = {};
    for (int64_t k = 0; k < depth; k += BLOCK)
#pragma GCC unroll 16
      for (int64_t c = 0; c < N; ++c) sum[c] += load(a + k + c * L) * load(b + k + c * L);
#pragma GCC unroll 8
    for (int64_t half = N / 2; half > 0; half /= 2)
#pragma GCC unroll 8
      for (int64_t c = 0; c < half; ++c) sum[c] += sum[c + half];
    return sum[0];
  }
}

// to[j, i] = from[i, j] for a square block with as many rows as a vector has lanes. Only shuffles that processors do
// fast are used: log2(S) rounds interleave pairs of rows within segments of 16 bytes, and the remaining rounds
// separate the even from the odd segments.
template <class T> INLINE void transpose_square(const T* from, int64_t from_ld, T* to, int64_t to_ld) {
  constexpr int64_t L = Simd<T>::lanes, S = 16 / sizeof(T);
  const auto zip = [](int64_t i) { return i / S * S + i % S / 2 + i % 2 * L; };
  const auto zip_rest = [=](int64_t i) { return zip(i) + S / 2; };
  const auto even = [](int64_t i) { return i / S * 2 * S + i % S; };
  const auto odd = [=](int64_t i) { return even(i) + S; };
  V<T> row[L], next[L];
#pragma GCC unroll 16
  for (int64_t i = 0; i < L; ++i, from += from_ld) row[i] = load(from);
#pragma GCC unroll 8
  for (int64_t done = 1; done < L; done *= 2) {
#pragma GCC unroll 16
    for (int64_t n = 0; n < L / 2; ++n)
      if (done < S) {
        const int64_t i = n / (S / 2) * S + n % (S / 2);
        next[2 * n] = shuffle<T>(row[i], row[i + S / 2], zip);
        next[2 * n + 1] = shuffle<T>(row[i], row[i + S / 2], zip_rest);
      } else {
        const int64_t i = n / S * 2 * S + n % S;
        next[n] = shuffle<T>(row[i], row[i + S], even);
        next[n + L / 2] = shuffle<T>(row[i], row[i + S], odd);
      }
#pragma GCC unroll 16
    for (int64_t i = 0; i < L; ++i) row[i] = next[i];
  }
#pragma GCC unroll 16
  for (int64_t i = 0; i < L; ++i, to += to_ld) store(to, row[i]);
}

// --- one network ---------------------------------------------------------------------------------------------------

int64_t padded(int64_t width) { return (width + BLOCK - 1) / BLOCK * BLOCK; }

// Memory that a thread keeps between calls, since allocating it for every call would slow small calls. Users that need
// memory at the same time have different numbers.
template <class T, int USER = 0> T* workspace(int64_t count) {
  static thread_local struct Buffer {
    T* memory = nullptr;
    int64_t count = 0;
    ~Buffer() { std::free(memory); }
  } buffer;
  if (buffer.count < count) {
    std::free(buffer.memory);
    buffer.memory = static_cast<T*>(std::aligned_alloc(64, (count * sizeof(T) + 63) / 64 * 64));
    buffer.count = buffer.memory ? count : 0;
  }
  return buffer.memory;
}

// A hidden layer. R{.} = d/dr (.) at r = 0 of the network with parameters theta + r v: the derivative of a quantity
// along v (Pearlmutter 1994, doi:10.1162/neco.1994.6.1.147).
template <class T> struct Layer {
  int64_t in, out, ld;        // input features, output features, and the latter with padding
  T *weight, *bias;           // (in, ld), (ld)
  T *h, *delta, *curvature;   // (points, ld): f(z), dL/dz, and the factor c of R{f'(z)} dL/dh = c R{h}
  T *h_change, *delta_change; // (points, ld): R{h}, R{dL/dz}
};

// Maps of a layer's gradient G, whose last row is that of the biases: G -> A G B.
//
// G = H^T D, where H = [h_{l-1}, 1] and D = dL/dz_l have a row for each point. Points are fewer than features, so the
// factors are mapped and never G. With P = H A^T, Q = D B and, for a matrix V like G, E = P V and F = Q V^T:
//
//   A G B = P^T Q,   H (A^T V B^T) = E B^T,   D (A^T V B^T)^T = F A
//   d/dA <V, A G B> = F^T H,   d/dB <V, A G B> = D^T E
template <class T> struct Map {
  int64_t in, out;                 // features of the layer
  int64_t bias, ld, out_ld;        // the column of the 1 in H; columns of H and of D with padding
  T *a, *a_columns, *along_a;      // A, A^T and the derivative with respect to A, (ld, ld)
  T *b, *b_columns, *along_b;      // the same of B, (out_ld, out_ld)
  T *h, *p, *d, *q;                // H and P, (points, ld); D and Q, (points, out_ld)
  T *e, *f;                        // E, (points, out_ld); F, (points, ld)

  // The parts of a product of H, P or F with a matrix: of the features, and of the bias.
  INLINE Factors<T> features(const T* left, const T* weights, int64_t columns) const {
    return {in, left, ld, 1, weights, columns};
  }
  INLINE Factors<T> ones(const T* left, const T* biases, int64_t columns) const {
    return {1, left + bias, ld, 1, biases, columns};
  }
  // Call visit(address in A or B, address in a flat vector, length) for each piece of it. Return the end in the vector.
  template <class U, class Visit> U* for_each_row_of_a(T* matrix, U* flat, Visit visit) const {
    for (int64_t i = 0; i <= in; ++i, flat += in + 1) {
      T* const row = matrix + (i < in ? i : bias) * ld;
      visit(row, flat, in), visit(row + bias, flat + in, 1);
    }
    return flat;
  }
  template <class U, class Visit> U* for_each_row_of_b(T* matrix, U* flat, Visit visit) const {
    for (int64_t i = 0; i < out; ++i, flat += out) visit(matrix + i * out_ld, flat, out);
    return flat;
  }
};

// What to do with the gradient g = dL/dp of a parameter at p, or of a vector of parameters from p on. Vectors like
// theta have the same layout, so each is given by its constant distance from theta, and g goes straight from the
// registers to where it is needed: no gradient is stored and read again.
template <class T> struct Put {  // store it in a vector
  int64_t offset;
  template <class G> INLINE void operator()(T* p, G g) const { store(p + offset, g); }
};
template <class T> struct Add {  // add it to a vector
  int64_t offset;
  template <class G> INLINE void operator()(T* p, G g) const { store(p + offset, load(p + offset, g) + g); }
};
template <class T> struct Step {  // take a step of descent, into a vector
  int64_t offset;
  T alpha;
  template <class G> INLINE void operator()(T* p, G g) const { store(p + offset, load(p, g) - alpha * g); }
};
template <class T> struct PulledStep {  // the same on the loss + pull / 2 |theta - anchor|^2
  int64_t offset, anchor;
  T alpha, pull;
  template <class G> INLINE void operator()(T* p, G g) const {
    const G at = load(p, g);
    store(p + offset, at - alpha * (g + pull * (at - load(p + anchor, g))));
  }
};
// Clip to [-most, most]. Both comparisons are false for NaN, so NaN stays NaN and a diverged run is seen as such.
template <class G, class T> INLINE G clip(G g, T most) {
  const G limit = most - G{};
  return g > limit ? limit : g < -limit ? -limit : g;
}
// Take a step of descent with a step size for each parameter and a clipped gradient; store the gradient unclipped.
template <class T> struct SizedStep {
  int64_t offset, sizes, gradient;
  T most;
  template <class G> INLINE void operator()(T* p, G g) const {
    store(p + gradient, g), store(p + offset, load(p, g) - load(p + sizes, g) * clip(g, most));
  }
};
template <class T> struct Drop {  // only the tape is wanted
  template <class G> INLINE void operator()(T*, G) const {}
};

// The shape of a network, and the memory that a call needs.
struct Shape {
  int64_t inputs, outputs, depth;
  const int64_t* widths;  // of the hidden layers
  int64_t points;         // the most of any pass
  int64_t tapes, slots;   // passes on tape at a time; vectors like theta, beside those of theta and of a sum
  int64_t scratch;        // further numbers that a function needs
  bool mapped;            // whether maps transform gradients
};

// The points of a run's tasks as rows: all support sets, then all query sets, or the one query set that all tasks
// share.
struct Sets {
  int64_t tasks, shots, queries;
  bool shared;
  int64_t support(int64_t task) const { return task * shots; }
  int64_t query(int64_t task) const { return tasks * shots + (shared ? 0 : task * queries); }
  int64_t points() const { return tasks * shots + (shared ? 1 : tasks) * queries; }
};

// The output layer of a network with one output, which adapts to a task while the features h of its points stay
// fixed.
template <class T> struct Head {
  using U = V<T>;
  static constexpr int64_t L = Simd<T>::lanes;

  Sets sets;
  int64_t task, ld;
  const T* h;       // (points, ld)
  const T* weight;  // before adaptation, (ld)
  T bias;

  // The results: the gradient of the query loss after adaptation with respect to the features,
  //   dL/dh = sum_d a_d b_d' at the support set,   dL/dh = r v' at the query set,
  // and with respect to the head before adaptation, summed over tasks. Both parts of dL/dh have low rank, so the
  // factors are kept and never the matrices.
  T *a, *b, *r, *v;  // (depth, shots), (depth, ld), (queries), (ld)
  T *along_weight, *along_bias;
  T* spare;  // memory for the adaptation

  // h w + bias - y at the support or the query set; h w + bias if y is null.
  template <bool QUERY> void errors(const T* w, T bias, const T* y, T* result) const {
    const int64_t points = QUERY ? sets.queries : sets.shots;
    for (int64_t p = 0; p < points; p += L) {
      const U z = dots<L>(p, points, ld, rows<QUERY>(), w) + broadcast(bias);
      for (int64_t n = p; n < std::min(p + L, points); ++n) result[n] = y ? z[n - p] - y[n] : z[n - p];
    }
  }

  // start + factor h' numbers, over the support or the query set.
  template <bool QUERY> void transposed(const T* numbers, const T* start, T factor, T* result) const {
    column_sums(
        QUERY ? sets.queries : sets.shots, numbers, rows<QUERY>(), ld,
        [=](int64_t j, U sum) INLINED { store(result + j, load(start + j) + factor * sum); },
        [](int64_t, U) INLINED {});
  }

  // Turn the errors in r into dL/df at the query points, where L is the mean of their squares.
  void to_gradient() {
    for (int64_t p = 0; p < sets.queries; ++p) r[p] *= T(2) / T(sets.queries);
  }

  void add(const T* of_weight, T of_bias) {
    for (int64_t j = 0; j < ld; j += L) store(along_weight + j, load(along_weight + j) + load(of_weight + j));
    *along_bias += of_bias;
  }

  template <bool QUERY> const T* rows() const { return h + (QUERY ? sets.query(task) : sets.support(task)) * ld; }
};

template <class T> T sum_of(int64_t count, const T* numbers) {
  T sum = 0;
  for (int64_t n = 0; n < count; ++n) sum += numbers[n];
  return sum;
}

// Replace the lower triangle of a positive definite matrix by its Cholesky factor. Multiply-adds of single numbers are
// written out: which of them a compiler fuses depends on the vector width.
template <class T> void factorize(int64_t n, T* a) {
  for (int64_t i = 0; i < n; ++i)
    for (int64_t j = 0; j <= i; ++j) {
      T sum = a[i * n + j];
      for (int64_t k = 0; k < j; ++k) sum = std::fma(-a[i * n + k], a[j * n + k], sum);
      a[i * n + j] = i == j ? std::sqrt(sum) : sum / a[j * n + j];
    }
}

// Replace b by the solution of a x = b, given the Cholesky factor of a.
template <class T> void solve(int64_t n, const T* root, T* b) {
  for (int64_t i = 0; i < n; ++i) {
    T sum = b[i];
    for (int64_t k = 0; k < i; ++k) sum = std::fma(-root[i * n + k], b[k], sum);
    b[i] = sum / root[i * n + i];
  }
  for (int64_t i = n - 1; i >= 0; --i) {
    T sum = b[i];
    for (int64_t k = i + 1; k < n; ++k) sum = std::fma(-root[k * n + i], b[k], sum);
    b[i] = sum / root[i * n + i];
  }
}

// One network and the memory of its passes.
//
// A slot is a padded vector like theta: slot 0 holds theta, slot 1 a sum of gradients. If the network is dense (no
// width needs padding), the caller's flat vectors have the same layout as slots and are used in place of slots 0 and
// 1. A tape holds what a forward and a backward pass leave behind: h, delta and curvature of each layer.
template <class T, class Activation> class Network {
  using U = V<T>;
  static constexpr int64_t L = Simd<T>::lanes;

 public:
  explicit Network(const Shape& shape) : inputs(shape.inputs), outputs(shape.outputs), hidden(shape.depth) {
    if (shape.mapped) maps.resize(shape.depth + 1);
    arrange(shape, nullptr);
    memory = workspace<T>(size);
    if (!memory) return;
    // Only padding is read before it is written. A dense network has none, except after the last bias of each slot.
    if (!dense) std::memset(memory, 0, size * sizeof(T));
    arrange(shape, memory);
    for (int64_t n = 0; n < 2 + shape.slots; ++n)
      std::fill(slot(n + 1) - padded(outputs), slot(n + 1), T(0));
    for (Map<T>& map : maps)
      std::fill_n(map.a, map.ld * map.ld, T(0)), std::fill_n(map.b, map.out_ld * map.out_ld, T(0));
  }

  explicit operator bool() const { return memory; }

  int64_t parameters;  // with padding

  T* slot(int64_t n) const { return memory + n * parameters; }

  // Read the parameters from a flat vector: W_1, b_1, W_2, b_2, ...
  void read(const T* theta) {
    if (dense) {
      bind(const_cast<T*>(theta));  // never written to: a step of descent writes to another vector
    } else {
      // A diverged network leaves NaN in the padding, since 0 * inf is NaN. Clear it for the next network.
      std::memset(slot(0), 0, parameters * sizeof(T));
      read(theta, slot(0));
      bind(slot(0));
    }
  }

  // Copy a flat vector into a slot.
  void read(const T* from, T* slot) {
    for_each_piece(slot, [&](T* at, int64_t n) { std::memcpy(at, from, n * sizeof(T)), from += n; });
  }

  // Copy a slot to a flat vector, unless `destination` made them the same.
  void write(const T* slot, T* to) {
    if (slot == to) return;
    for_each_piece(
        const_cast<T*>(slot), [&](const T* at, int64_t n) { std::memcpy(to, at, n * sizeof(T)), to += n; });
  }

  // Where to compute a result like theta: in the caller's vector, or in a slot from which `write` copies it.
  T* destination(T* result, int64_t n) const { return dense ? result : slot(n); }

  // The caller's vector in the layout of slots: itself, or a slot that holds it once it was copied.
  const T* anchor(const T* vector, int64_t n, bool copy) {
    if (dense) return vector;
    if (copy) read(vector, slot(n));
    return slot(n);
  }

  // Take the parameters at `at` as those of the network; return the end of them.
  T* bind(T* at) {
    T* const begin = at;
    const auto take = [&](int64_t count) { return std::exchange(at, at + count); };
    for (Layer<T>& layer : hidden)
      layer.weight = take((&layer == &hidden[0] ? inputs : padded(layer.in)) * layer.ld), layer.bias = take(layer.ld);
    weight = take(outputs * hidden.back().ld), bias = take(padded(outputs));
    first_bias = hidden[0].bias, theta = begin;
    return at;
  }

  // Add a shift to the biases of the first layer in later passes. The parameters themselves do not change.
  void shift(const T* by) {
    if (!by) return;
    const Layer<T> first = hidden[0];
    std::memset(shifted, 0, first.ld * sizeof(T));
    for (int64_t j = 0; j < first.out; ++j) shifted[j] = first.bias[j] + by[j];
    first_bias = shifted;
  }

  // The end of the scratch memory.
  T* scratch_end() const { return memory + size; }

  // The current parameters.
  const T* current() const { return theta; }

  // Call visit(begin, length, l) for the part of a slot that holds layer l.
  template <class Visit> void for_each_layer(T* slot, Visit visit) {
    T* at = slot;
    for (size_t l = 0; l <= hidden.size(); ++l) {
      const bool output = l == hidden.size();
      const int64_t rows = l == 0 ? inputs : padded(hidden[l - 1].out);
      const int64_t n = output ? outputs * hidden.back().ld + padded(outputs) : (rows + 1) * hidden[l].ld;
      visit(std::exchange(at, at + n), n, int64_t(l));
    }
  }

  // Record later passes on another tape.
  void use_tape(int64_t tape) {
    T* at = tapes + tape * tape_size;
    const auto take = [&](int64_t count) { return std::exchange(at, at + count); };
    for (Layer<T>& layer : hidden) {
      const int64_t count = max_points * layer.ld;
      layer.h = take(count), layer.delta = take(count), layer.curvature = take(count);
    }
    residual = take(outputs * padded(max_points));
    for (Map<T>& map : maps) {
      map.h = take(max_points * map.ld), map.p = take(max_points * map.ld);
      map.d = take(max_points * map.out_ld), map.q = take(max_points * map.out_ld);
    }
  }

  // Predictions, (points, outputs).
  void predict(int64_t points, const T* x, T* prediction) {
    forward(points, x);
    for (int64_t o = 0; o < outputs; ++o)
      output(points, o, [&](int64_t p, int64_t n, U z) INLINED {
        if (outputs == 1) std::memcpy(prediction + p, &z, n * sizeof(T));
        else for (int64_t k = 0; k < n; ++k) prediction[(p + k) * outputs + o] = z[k];
      });
  }

  // h of all hidden layers, one after the other, (points, width) each.
  void features(int64_t points, const T* x, T* to) {
    if (dense) for (Layer<T>& layer : hidden) layer.h = std::exchange(to, to + points * layer.ld);
    forward(points, x);
    if (!dense) for (const Layer<T>& layer : hidden)
      for (int64_t p = 0; p < points; ++p, to += layer.out)
        std::memcpy(to, layer.h + p * layer.ld, layer.out * sizeof(T));
  }

  // Return weight * loss. Store the gradient of that in `sum` if `begin`, else add it to `sum`.
  T add_gradient(int64_t points, const T* x, const T* y, T* sum, bool begin, T weight = 1) {
    return begin ? backpropagate<true, false>(points, x, y, weight, Put<T>{sum - theta})
                 : backpropagate<true, false>(points, x, y, weight, Add<T>{sum - theta});
  }

  // theta <- theta - alpha grad L(theta), written to `to`, which holds the network's parameters from then on.
  void descend(int64_t points, const T* x, const T* y, T alpha, T* to) {
    backpropagate<true, false>(points, x, y, 1, Step<T>{to - theta, alpha});
    bind(to);
  }

  // The same with a pull back to a vector.
  void descend(int64_t points, const T* x, const T* y, T alpha, T* to, const T* anchor, T pull) {
    backpropagate<true, false>(points, x, y, 1, PulledStep<T>{to - theta, anchor - theta, alpha, pull});
    bind(to);
  }

  // The same with a step size for each parameter. Keeps the gradient, and on the tape what `hessian_product` needs.
  void descend(int64_t points, const T* x, const T* y, const T* sizes, T* gradient, T* to, T most) {
    backpropagate<true, true>(points, x, y, 1, SizedStep<T>{to - theta, sizes - theta, gradient - theta, most});
    bind(to);
  }

  // Read the maps from a flat vector: A_1, B_1, A_2, ...
  void use_maps(const T* from) {
    if (from == std::exchange(maps_from, from)) return;
    const auto copy = [](T* at, const T* flat, int64_t n) { std::copy_n(flat, n, at); };
    for (Map<T>& map : maps) {
      from = map.for_each_row_of_b(map.b, map.for_each_row_of_a(map.a, from, copy), copy);
      transpose_all(map.ld, map.a, map.a_columns), transpose_all(map.out_ld, map.b, map.b_columns);
    }
  }

  void clear_along_maps() {
    for (Map<T>& map : maps)
      std::fill_n(map.along_a, map.ld * map.ld, T(0)), std::fill_n(map.along_b, map.out_ld * map.out_ld, T(0));
  }

  // Copy the derivatives with respect to the maps to a flat vector.
  void write_along_maps(T* to) {
    const auto copy = [](const T* at, T* flat, int64_t n) { std::copy_n(at, n, flat); };
    for (Map<T>& map : maps)
      to = map.for_each_row_of_b(map.along_b, map.for_each_row_of_a(map.along_a, to, copy), copy);
  }

  // Take a step of descent along A G B of each layer. Keeps on the tape what `pull_through_maps` needs.
  void descend_mapped(int64_t points, const T* x, const T* y, T alpha, T* to) {
    record(points, x, y);
    for (size_t l = 0; l < maps.size(); ++l) map_factors(points, x, l);
    const Step<T> put{to - theta, alpha};
    for (size_t l = 0; l < hidden.size(); ++l) {
      const Layer<T> layer = hidden[l];
      const Map<T> map = maps[l];
      const auto descend_rows = [&](int64_t rows, const T* p, T* parameters) {
        product(
            rows, layer.ld, zero, [&](int64_t i, int64_t j, U g) INLINED { put(parameters + i * layer.ld + j, g); },
            Factors<T>{points, p, 1, map.ld, map.q, map.out_ld});
      };
      descend_rows(layer.in, map.p, layer.weight), descend_rows(1, map.p + map.bias, layer.bias);
    }
    const Map<T> map = maps.back();
    const int64_t ld = hidden.back().ld;
    product(
        outputs, ld, zero, [&](int64_t o, int64_t j, U g) INLINED { put(weight + o * ld + j, g); },
        Factors<T>{points, map.q, 1, map.out_ld, map.p, map.ld});
    for (int64_t o = 0; o < outputs; ++o) {
      T sum = 0;
      for (int64_t p = 0; p < points; ++p) sum = std::fma(map.p[p * map.ld + map.bias], map.q[p * map.out_ld + o], sum);
      put(bias + o, sum);
    }
    bind(to);
  }

  // v <- v - alpha H A^T v B^T, where H is the Hessian of the loss of the pass on the tape and v is like theta, unless
  // H is left out; add the derivatives of -alpha <v, A G B> with respect to A and B.
  void pull_through_maps(int64_t points, const T* x, T alpha, T* v, bool second_order) {
    for (size_t l = 0; l < maps.size(); ++l) {
      const Map<T> map = maps[l];
      if (l < hidden.size()) map_direction(points, hidden[l], map, v - theta);
      else map_output_direction(points, map, v - theta);
      const auto add = [=](int64_t rows, int64_t columns, const T* left, int64_t ld, const T* right, T* to) {
        product(
            rows, columns, zero,
            [&](int64_t i, int64_t j, U g) INLINED {
              T* const at = to + i * columns + j;
              store(at, load(at) - alpha * g);
            },
            Factors<T>{points, left, 1, ld, right, columns});
      };
      add(map.in, map.ld, map.f, map.ld, map.h, map.along_a);
      add(1, map.ld, map.f + map.bias, map.ld, map.h, map.along_a + map.bias * map.ld);
      add(map.out, map.out_ld, map.d, map.out_ld, map.e, map.along_b);
    }
    if (second_order) add_hessian_product(points, x, AlongMaps{*this}, -alpha, v);
  }

  // Store in `result` the gradient of the query loss, summed over tasks, where only the head adapts. `adapt(head)`
  // adapts it to a task and sets the results of `Head`. x are the points of all tasks.
  template <class Adapt> void gradient_through_head(Sets sets, const T* x, int64_t depth, Adapt adapt, T* result) {
    const Put<T> put{result - theta};
    const Layer<T> last = hidden.back();
    T* at = scratch;
    const auto take = [&](int64_t count) { return std::exchange(at, at + count); };
    T *const a = take(sets.tasks * depth * sets.shots), *const b = take(sets.tasks * depth * last.ld);
    T *const r = take(sets.tasks * sets.queries), *const v = take(sets.tasks * last.ld);
    T *const along_weight = take(last.ld), along_bias = 0;
    std::fill(along_weight, along_weight + last.ld, T(0));

    forward(sets.points(), x);
    for (int64_t t = 0; t < sets.tasks; ++t) {
      Head<T> head{sets, t, last.ld, last.h, weight, *bias};
      head.a = a + t * depth * sets.shots, head.b = b + t * depth * last.ld;
      head.r = r + t * sets.queries, head.v = v + t * last.ld;
      head.along_weight = along_weight, head.along_bias = &along_bias, head.spare = at;
      adapt(head);
    }

    const auto back = [&](int64_t points, int64_t row, Factors<T> dh) {
      product(
          points, last.ld, zero,
          [&](int64_t p, int64_t j, U g) INLINED {
            const int64_t index = (row + p) * last.ld + j;
            store(last.delta + index, Activation::backward(g, load(last.h + index)));
          },
          dh);
    };
    for (int64_t t = 0; t < sets.tasks; ++t)
      back(sets.shots, sets.support(t),
           Factors<T>{depth, a + t * depth * sets.shots, 1, sets.shots, b + t * depth * last.ld, last.ld});
    for (int64_t t = 0; t < (sets.shared ? 1 : sets.tasks); ++t)
      back(sets.queries, sets.query(t),
           Factors<T>{sets.shared ? sets.tasks : 1, r + t * sets.queries, 1, sets.queries, v + t * last.ld, last.ld});
    for (int64_t j = 0; j < last.ld; j += L) put(weight + j, load(along_weight + j));
    put(bias, along_bias);
    backpropagate_hidden<true, false>(sets.points(), x, put);
  }

  // Record on the tape what `hessian_product` and `gradient_along_shift` need.
  void record(int64_t points, const T* x, const T* y) {
    backpropagate<false, true>(points, x, y, 1, Drop<T>{});
  }

  // dL / d shift, (width).
  void gradient_along_shift(int64_t points, const T* x, T* result) { first_sums(points, x, hidden[0].delta, result); }

  // Add factor * H v to `result`, where H is the Hessian of the loss of the pass on the tape and v is like theta.
  // The R-operator, applied to each line of the forward and the backward pass:
  //
  //   R{h_0} = 0,   R{z_l} = R{h_{l-1}} W_l + h_{l-1} V_l + v_l,   R{h_l} = f'(z_l) R{z_l}
  //   R{g_{l-1}} = R{delta_l} W_l^T + delta_l V_l^T,   R{delta_l} = f'(z_l) R{g_l} + c_l R{h_l}
  //   R{dL/dW_l} = R{h_{l-1}}^T delta_l + h_{l-1}^T R{delta_l},   R{dL/db_l} = sum_points R{delta_l}
  void hessian_product(int64_t points, const T* x, const T* v, T factor, T* result) {
    add_hessian_product(points, x, AlongParameters{*this, points, x, v - theta}, factor, result);
  }

  // The same where v, (width), changes only the shift. Also stores the part of H v along the shift.
  void hessian_product_of_shift(int64_t points, const T* x, const T* v, T factor, T* sum, T* along_shift) {
    const Layer<T> first = hidden[0];
    std::memset(columns, 0, first.ld * sizeof(T));
    std::memcpy(columns, v, first.out * sizeof(T));
    add_hessian_product(points, x, AlongShift{columns}, factor, sum);
    first_sums(points, x, first.delta_change, along_shift);
  }

  // Store in `sum` the gradient of sum(cotangent * h of the last hidden layer), but not that of the output layer, which
  // has no part in it. `features` computed h of all layers.
  void pull_back(int64_t points, const T* x, const T* features, const T* cotangent, T* sum) {
    for (Layer<T>& layer : hidden) {
      if (dense) {
        layer.h = const_cast<T*>(features), features += points * layer.ld;
      } else {
        for (int64_t p = 0; p < points; ++p, features += layer.out)
          std::memcpy(layer.h + p * layer.ld, features, layer.out * sizeof(T));
      }
    }
    const Layer<T> last = hidden.back();
    for (int64_t p = 0; p < points; ++p, cotangent += last.out) {
      const T* row = cotangent;
      if (!dense) std::memcpy(last.delta + p * last.ld, row, last.out * sizeof(T)), row = last.delta + p * last.ld;
      for (int64_t j = 0; j < last.ld; j += L) {
        const int64_t at = p * last.ld + j;
        store(last.delta + at, Activation::backward(load(row + j), load(last.h + at)));
      }
    }
    backpropagate_hidden<true, false>(points, x, Put<T>{sum - theta});
  }

 private:
  // Lay out all arrays from `begin` on, and count their numbers. A first call with null only counts.
  void arrange(const Shape& shape, T* begin) {
    int64_t in = inputs, widest = 0;
    dense = outputs <= 1;
    tape_size = 0, max_points = shape.points;
    const int64_t* width = shape.widths;
    for (Layer<T>& layer : hidden) {
      layer.in = in, layer.out = *width++, layer.ld = padded(layer.out);
      dense = dense && layer.out == layer.ld, in = layer.out, widest = std::max(widest, layer.ld);
      tape_size += 3 * max_points * layer.ld;
    }
    tape_size += outputs * padded(max_points);
    for (size_t l = 0; l < maps.size(); ++l) {
      Map<T>& map = maps[l];
      map.in = l == 0 ? inputs : hidden[l - 1].out, map.out = l == hidden.size() ? outputs : hidden[l].out;
      map.bias = padded(map.in), map.ld = map.bias + BLOCK, map.out_ld = padded(map.out);
      tape_size += 2 * max_points * (map.ld + map.out_ld);
    }
    parameters = bind(begin) - begin;
    T* at = begin + (2 + shape.slots) * parameters;
    const auto take = [&](int64_t count) { return std::exchange(at, at + count); };
    columns = take(widest * BLOCK), direction_columns = take(widest * BLOCK), shifted = take(hidden[0].ld);
    for (Layer<T>& layer : hidden) {
      const int64_t count = max_points * layer.ld;
      layer.h_change = take(count), layer.delta_change = take(count);
    }
    residual_change = take(outputs * padded(max_points));
    for (Map<T>& map : maps) {
      const int64_t count = map.ld * map.ld, out_count = map.out_ld * map.out_ld;
      map.a = take(count), map.a_columns = take(count), map.along_a = take(count);
      map.b = take(out_count), map.b_columns = take(out_count), map.along_b = take(out_count);
      map.e = take(max_points * map.out_ld), map.f = take(max_points * map.ld);
    }
    if (shape.mapped) output_rows = take(outputs * maps.back().ld), output_change = take(outputs * padded(max_points));
    tapes = take(shape.tapes * tape_size);
    scratch = take(shape.scratch);
    size = at - begin;
    use_tape(0);
  }

  // Call visit(address in the slot, length) for each contiguous piece of a flat vector, in its order.
  template <class Visit> void for_each_piece(T* slot, Visit visit) {
    T* const previous = theta;
    bind(slot);
    for (const Layer<T>& layer : hidden) {
      const int64_t rows = layer.out == layer.ld ? 1 : layer.in;  // without padding, all rows are one piece
      for (int64_t i = 0; i < rows; ++i) visit(layer.weight + i * layer.ld, layer.in / rows * layer.out);
      visit(layer.bias, layer.out);
    }
    const Layer<T> last = hidden.back();
    if (outputs == 1) visit(weight, last.out);
    else for (int64_t i = 0; i < last.out; ++i)
      for (int64_t o = 0; o < outputs; ++o) visit(weight + o * last.ld + i, 1);  // a slot stores W_L transposed
    visit(bias, outputs);
    bind(previous);
  }

  NOINLINE void forward(int64_t points, const T* x) {
    const Layer<T> first = hidden[0];
    const T* const biases = first_bias;
    product(
        points, first.ld, [&](int64_t j) INLINED { return load(biases + j); },
        [&](int64_t p, int64_t j, U z) INLINED { store(first.h + p * first.ld + j, Activation::forward(z)); },
        Factors<T>{inputs, x, inputs, 1, first.weight, first.ld});
    for (size_t l = 1; l < hidden.size(); ++l) {
      const Layer<T> below = hidden[l - 1], layer = hidden[l];
      product(
          points, layer.ld, [&](int64_t j) INLINED { return load(layer.bias + j); },
          [&](int64_t p, int64_t j, U z) INLINED { store(layer.h + p * layer.ld + j, Activation::forward(z)); },
          Factors<T>{layer.in, below.h, below.ld, 1, layer.weight, layer.ld});
    }
  }

  // put(p, n, z): output o at points p .. p + n - 1, as many as a vector holds.
  template <class Sink> INLINE void output(int64_t points, int64_t o, Sink put) {
    const Layer<T> last = hidden.back();
    for (int64_t p = 0; p < points; p += L)
      put(p, std::min(L, points - p), dots<L>(p, points, last.ld, last.h, weight + o * last.ld) + broadcast(bias[o]));
  }

  // Return factor * loss. Leave delta of each layer on the tape, and curvature if KEEP. If WEIGHTS, call put(p, g)
  // with the gradient g of each parameter p.
  template <bool WEIGHTS, bool KEEP, class Sink>
  NOINLINE T backpropagate(int64_t points, const T* x, const T* y, T factor, Sink put) {
    T *const residual = this->residual, *const weight = this->weight, *const bias = this->bias;
    const int64_t ld = padded(points);  // stride between the residuals of two outputs
    const T scale = factor * T(2) / T(points * outputs);
    forward(points, x);
    T loss = 0;
    for (int64_t o = 0; o < outputs; ++o)
      output(points, o, [&](int64_t p, int64_t n, U z) INLINED {
        std::memcpy(residual + o * ld + p, &z, n * sizeof(T));
      });
    const Layer<T> last = hidden.back();
    for (int64_t o = 0; o < outputs; ++o) {
      T* const r = residual + o * ld;
      for (int64_t p = 0; p < points; ++p) {  // dL/d prediction = 2 (prediction - y) / (points outputs)
        const T difference = r[p] - y[p * outputs + o];
        loss = std::fma(difference, difference, loss), r[p] = difference * scale;
      }
    }
    // delta of a layer comes before the gradient of the weights above it: `Step` overwrites those weights if theta is
    // updated in place, and delta needs them as they were.
    for (int64_t i = 0; i < last.ld; i += BLOCK)
      layer_delta<KEEP>(points, last, i, Factors<T>{outputs, residual, 1, ld, weight + i, last.ld});
    if constexpr (WEIGHTS)
      for (int64_t o = 0; o < outputs; ++o) {
        column_sums(
            points, residual + o * ld, last.h, last.ld,
            [&](int64_t j, U g) INLINED { put(weight + o * last.ld + j, g); }, [](int64_t, U) INLINED {});
        T sum = 0;
        for (int64_t p = 0; p < points; ++p) sum += residual[o * ld + p];
        put(bias + o, sum);
      }
    backpropagate_hidden<WEIGHTS, KEEP>(points, x, put);
    return factor * loss / T(points * outputs);
  }

  // Go from delta of the last hidden layer down to that of the first; call put with the gradients of their
  // parameters.
  template <bool WEIGHTS, bool KEEP, class Sink>
  NOINLINE void backpropagate_hidden(int64_t points, const T* x, Sink put) {
    for (size_t l = hidden.size() - 1; l > 0; --l) {
      const Layer<T> below = hidden[l - 1], layer = hidden[l];
      for (int64_t i = 0; i < below.ld; i += BLOCK) {
        transpose(layer, i, layer.weight, columns);
        layer_delta<KEEP>(points, below, i, Factors<T>{layer.out, layer.delta, layer.ld, 1, columns, BLOCK});
      }
      if constexpr (WEIGHTS) {
        product(
            layer.in, layer.ld, zero,
            [&](int64_t i, int64_t j, U g) INLINED { put(layer.weight + i * layer.ld + j, g); },
            Factors<T>{points, below.h, 1, below.ld, layer.delta, layer.ld});
        column_sums(
            points, x, layer.delta, layer.ld, [](int64_t, U) INLINED {},
            [&](int64_t j, U g) INLINED { put(layer.bias + j, g); });
      }
    }
    if constexpr (WEIGHTS) first_gradients(points, x, hidden.front().delta, put);
  }

  // delta of BLOCK features of a layer, from feature i on, and curvature if KEEP. `above` is the product that gives
  // dL/dh.
  template <bool KEEP> NOINLINE void layer_delta(int64_t points, Layer<T> layer, int64_t i, Factors<T> above) {
    product(
        points, BLOCK, zero,
        [&](int64_t p, int64_t c, U g) INLINED {
          const int64_t at = p * layer.ld + i + c;
          const U h = load(layer.h + at);
          store(layer.delta + at, Activation::backward(g, h));
          if constexpr (KEEP) store(layer.curvature + at, Activation::curvature(g, h));
        },
        above);
  }

  // The gradients of the first layer's parameters, from its dL/dz.
  template <class Sink> INLINE void first_gradients(int64_t points, const T* x, const T* delta, Sink put) {
    const Layer<T> first = hidden.front();
    column_sums(
        points, x, delta, first.ld, [&](int64_t j, U g) INLINED { put(first.weight + j, g); },
        [&](int64_t j, U g) INLINED { put(first.bias + j, g); }, inputs);
    for (int64_t i = 1; i < inputs; ++i)
      column_sums(
          points, x + i, delta, first.ld,
          [&](int64_t j, U g) INLINED { put(first.weight + i * first.ld + j, g); }, [](int64_t, U) INLINED {}, inputs);
  }

  // The sum over points of dL/dz of the first layer, (width).
  void first_sums(int64_t points, const T* x, const T* delta, T* result) {
    column_sums(
        points, x, delta, hidden[0].ld, [](int64_t, U) INLINED {},
        [&](int64_t j, U g) INLINED { store(columns + j, g); });
    std::memcpy(result, columns, hidden[0].out * sizeof(T));
  }

  // A direction [V_l, v_l] enters a product with the Hessian only by h_{l-1} V_l + v_l and delta_l V_l^T. Each kind of
  // direction gives products that compute these. It calls `use` with the start and the factors of the first, or with
  // the factors of the second, for BLOCK features of h_{l-1} from i on. The last l is the output layer.
  struct AlongParameters {
    Network& network;
    int64_t points;
    const T* x;
    int64_t distance;  // of the direction, a vector like theta, from theta

    template <class Use> INLINE void forward(size_t l, Use use) const {
      const Layer<T> layer = network.hidden[l];
      const T *const weight = layer.weight + distance, *const bias = layer.bias + distance;
      const auto start = [=](int64_t j) INLINED { return load(bias + j); };
      if (l == 0) return use(start, Factors<T>{layer.in, x, layer.in, 1, weight, layer.ld});
      const Layer<T> below = network.hidden[l - 1];
      use(start, Factors<T>{layer.in, below.h, below.ld, 1, weight, layer.ld});
    }
    INLINE U output(int64_t p, int64_t o, U z) const {
      const Layer<T> last = network.hidden.back();
      const T *const weight = network.weight + distance, *const bias = network.bias + distance;
      return z + (dots<L>(p, points, last.ld, last.h, weight + o * last.ld) + broadcast(bias[o]));
    }
    template <class Use> INLINE void backward(size_t l, int64_t i, Use use) const {
      if (l == network.hidden.size()) {
        const int64_t ld = padded(points), columns = network.hidden.back().ld;
        return use(Factors<T>{network.outputs, network.residual, 1, ld, network.weight + distance + i, columns});
      }
      const Layer<T> layer = network.hidden[l];
      network.transpose(layer, i, layer.weight + distance, network.direction_columns);
      use(Factors<T>{layer.out, layer.delta, layer.ld, 1, network.direction_columns, BLOCK});
    }
  };

  struct AlongShift {
    const T* v;  // changes only the shift: it is added to the biases of the first layer

    template <class Use> INLINE void forward(size_t l, Use use) const {
      const T* const bias = l == 0 ? v : nullptr;
      use([=](int64_t j) INLINED { return bias ? load(bias + j) : U{}; }, Factors<T>{});
    }
    INLINE U output(int64_t, int64_t, U z) const { return z; }
    template <class Use> INLINE void backward(size_t, int64_t, Use use) const { use(); }
  };

  struct AlongMaps {  // A^T v B^T, of which `pull_through_maps` has computed E and F
    Network& network;

    template <class Use> INLINE void forward(size_t l, Use use) const {
      const Map<T> map = network.maps[l];
      use(zero, Factors<T>{map.out, map.e, map.out_ld, 1, map.b_columns, map.out_ld});
    }
    INLINE U output(int64_t p, int64_t o, U z) const {
      return z + load(network.output_change + o * padded(network.max_points) + p);
    }
    template <class Use> INLINE void backward(size_t l, int64_t i, Use use) const {
      const Map<T> map = network.maps[l];
      use(map.features(map.f, map.a + i, map.ld), map.ones(map.f, map.a + map.bias * map.ld + i, map.ld));
    }
  };

  // Implements `hessian_product`.
  template <class Direction>
  void add_hessian_product(int64_t points, const T* x, const Direction along, T factor, T* result) {
    const int64_t offset = result - theta, ld = padded(points);
    const auto put = [=](auto* at, auto g) INLINED { store(at + offset, load(at + offset, g) + factor * g); };
    const Layer<T> first = hidden.front(), last = hidden.back();
    const auto store_change = [](const Layer<T>& layer) INLINED {
      return [=](int64_t p, int64_t j, U z) INLINED {
        const int64_t at = p * layer.ld + j;
        store(layer.h_change + at, Activation::backward(z, load(layer.h + at)));
      };
    };

    along.forward(0, [&](auto start, auto of_direction) INLINED {
      product(points, first.ld, start, store_change(first), of_direction);
    });
    for (size_t l = 1; l < hidden.size(); ++l) {
      const Layer<T> below = hidden[l - 1], layer = hidden[l];
      const Factors<T> of_h{layer.in, below.h_change, below.ld, 1, layer.weight, layer.ld};
      along.forward(l, [&](auto start, auto of_direction) INLINED {
        product(points, layer.ld, start, store_change(layer), of_h, of_direction);
      });
    }

    const T scale = T(2) / T(points * outputs);
    for (int64_t o = 0; o < outputs; ++o) {
      T *const r = residual_change + o * ld, sum = 0;
      for (int64_t p = 0; p < points; p += L) {
        U z = along.output(p, o, dots<L>(p, points, last.ld, last.h_change, weight + o * last.ld));
        z *= broadcast(scale);
        std::memcpy(r + p, &z, std::min(L, points - p) * sizeof(T));
      }
      for (int64_t p = 0; p < points; ++p) sum += r[p];
      product(
          1, last.ld, zero, [&](int64_t, int64_t j, U g) INLINED { put(weight + o * last.ld + j, g); },
          Factors<T>{points, residual + o * ld, 0, 1, last.h_change, last.ld},
          Factors<T>{points, r, 0, 1, last.h, last.ld});
      put(bias + o, sum);
    }
    for (int64_t i = 0; i < last.ld; i += BLOCK) {
      const Factors<T> of_delta{outputs, residual_change, 1, ld, weight + i, last.ld};
      along.backward(hidden.size(), i, [&](auto... of_direction) INLINED {
        layer_delta_change(points, last, i, of_delta, of_direction...);
      });
    }

    for (size_t l = hidden.size() - 1; l > 0; --l) {
      const Layer<T> below = hidden[l - 1], layer = hidden[l];
      product(
          layer.in, layer.ld, zero,
          [&](int64_t i, int64_t j, U g) INLINED { put(layer.weight + i * layer.ld + j, g); },
          Factors<T>{points, below.h_change, 1, below.ld, layer.delta, layer.ld},
          Factors<T>{points, below.h, 1, below.ld, layer.delta_change, layer.ld});
      column_sums(
          points, x, layer.delta_change, layer.ld, [](int64_t, U) INLINED {},
          [&](int64_t j, U g) INLINED { put(layer.bias + j, g); });
      for (int64_t i = 0; i < below.ld; i += BLOCK) {
        transpose(layer, i, layer.weight, columns);
        const Factors<T> of_delta{layer.out, layer.delta_change, layer.ld, 1, columns, BLOCK};
        along.backward(l, i, [&](auto... of_direction) INLINED {
          layer_delta_change(points, below, i, of_delta, of_direction...);
        });
      }
    }
    first_gradients(points, x, first.delta_change, put);
  }

  // R{delta} of BLOCK features of a layer, from feature i on.
  template <class... Above>
  NOINLINE void layer_delta_change(int64_t points, Layer<T> layer, int64_t i, Above... above) {
    product(
        points, BLOCK, zero,
        [&](int64_t p, int64_t c, U g) INLINED {
          const int64_t at = p * layer.ld + i + c;
          store(layer.delta_change + at, Activation::backward(g, load(layer.h + at)) +
                                             load(layer.curvature + at) * load(layer.h_change + at));
        },
        above...);
  }

  // Copy H and D of layer l from the tape, and compute P and Q.
  NOINLINE void map_factors(int64_t points, const T* x, size_t l) {
    const Map<T> map = maps[l];
    for (int64_t p = 0; p < points; ++p) {
      T *const h = map.h + p * map.ld, *const d = map.d + p * map.out_ld;
      std::fill_n(h, map.ld, T(0)), std::fill_n(d, map.out_ld, T(0));
      std::copy_n(l == 0 ? x + p * inputs : hidden[l - 1].h + p * hidden[l - 1].ld, map.in, h), h[map.bias] = 1;
      if (l < hidden.size()) std::copy_n(hidden[l].delta + p * hidden[l].ld, map.out, d);
      else for (int64_t o = 0; o < outputs; ++o) d[o] = residual[o * padded(points) + p];
    }
    product(
        points, map.ld, zero, [&](int64_t p, int64_t j, U sum) INLINED { store(map.p + p * map.ld + j, sum); },
        map.features(map.h, map.a_columns, map.ld), map.ones(map.h, map.a_columns + map.bias * map.ld, map.ld));
    product(
        points, map.out_ld, zero, [&](int64_t p, int64_t j, U sum) INLINED { store(map.q + p * map.out_ld + j, sum); },
        Factors<T>{map.out, map.d, map.out_ld, 1, map.b, map.out_ld});
  }

  // Compute E and F of a hidden layer for the vector at a distance from theta.
  NOINLINE void map_direction(int64_t points, Layer<T> layer, Map<T> map, int64_t distance) {
    const T *const weight = layer.weight + distance, *const bias = layer.bias + distance;
    product(
        points, layer.ld, zero, [&](int64_t p, int64_t j, U sum) INLINED { store(map.e + p * map.out_ld + j, sum); },
        map.features(map.p, weight, layer.ld), map.ones(map.p, bias, layer.ld));
    const auto column = [&](int64_t i, const T* row) {
      for (int64_t p = 0; p < points; p += L) {
        const U sum = dots<L>(p, points, layer.ld, map.q, row);
        for (int64_t n = p; n < std::min(p + L, points); ++n) map.f[n * map.ld + i] = sum[n - p];
      }
    };
    if (layer.in < BLOCK) for (int64_t i = 0; i < layer.in; ++i) column(i, weight + i * layer.ld);
    else for (int64_t i = 0; i < layer.in; i += BLOCK) {
      transpose(layer, i, weight, direction_columns);
      product(
          points, BLOCK, zero, [&](int64_t p, int64_t j, U sum) INLINED { store(map.f + p * map.ld + i + j, sum); },
          Factors<T>{layer.out, map.q, map.out_ld, 1, direction_columns, BLOCK});
    }
    column(map.bias, bias);
  }

  // The same of the output layer, whose weights are stored transposed.
  NOINLINE void map_output_direction(int64_t points, Map<T> map, int64_t distance) {
    for (int64_t o = 0; o < outputs; ++o) {
      T* const row = output_rows + o * map.ld;
      std::fill_n(row, map.ld, T(0)), std::copy_n(weight + distance + o * map.bias, map.in, row);
      row[map.bias] = bias[distance + o];
      for (int64_t p = 0; p < points; p += L) {
        const U sum = dots<L>(p, points, map.ld, map.p, row);
        for (int64_t n = p; n < std::min(p + L, points); ++n) map.e[n * map.out_ld + o] = sum[n - p];
      }
    }
    product(
        points, map.ld, zero, [&](int64_t p, int64_t j, U sum) INLINED { store(map.f + p * map.ld + j, sum); },
        Factors<T>{outputs, map.q, map.out_ld, 1, output_rows, map.ld});
    for (int64_t o = 0; o < outputs; ++o)
      for (int64_t p = 0; p < points; ++p) {
        T sum = 0;
        for (int64_t k = 0; k < outputs; ++k) sum = std::fma(map.e[p * map.out_ld + k], map.b[o * map.out_ld + k], sum);
        output_change[o * padded(max_points) + p] = sum;
      }
  }

  // The transpose of a square matrix of n rows, a multiple of BLOCK.
  static void transpose_all(int64_t n, const T* from, T* to) {
    for (int64_t i = 0; i < n; i += L)
      for (int64_t j = 0; j < n; j += L) transpose_square(from + i * n + j, n, to + j * n + i, n);
  }

  // BLOCK rows of weights, from `row` on, as columns: (out, BLOCK). `product` reads its second factor along rows.
  void transpose(const Layer<T>& layer, int64_t row, const T* from, T* to) {
    for (int64_t i = 0; i < BLOCK; i += L)
      for (int64_t j = 0; j < layer.out; j += L)
        transpose_square(from + (row + i) * layer.ld + j, layer.ld, to + j * BLOCK + i, BLOCK);
  }

  static constexpr auto zero = [](int64_t) INLINED { return U{}; };

  int64_t inputs, outputs, size, tape_size, max_points;
  bool dense;  // one output or none, and no hidden layer is padded
  std::vector<Layer<T>> hidden;
  T *memory, *theta, *weight, *bias, *first_bias;
  T *tapes, *residual, *residual_change, *columns, *direction_columns, *shifted, *scratch;
  std::vector<Map<T>> maps;  // of each layer, the output layer included
  const T* maps_from = nullptr;
  T *output_rows, *output_change;
};

// --- stacks --------------------------------------------------------------------------------------------------------

// An array over a stack: the address of the first network's part, and the strides of the stack's two axes.
// A stride of 0 broadcasts.
template <class T> struct Stack {
  const T* at;
  int64_t outer, inner;
  const T* operator()(int64_t i, int64_t j) const { return at ? at + i * outer + j * inner : nullptr; }
};

// The same with one part for each step, and the stride between steps.
template <class T> struct Steps : Stack<T> {
  int64_t step;
  const T* operator()(int64_t i, int64_t j, int64_t k) const { return Stack<T>::operator()(i, j) + k * step; }
};

template <class T> struct Processes;

// A call. `Job` in calls.py declares the same fields in the same order. Results are contiguous: (outer, inner, ...)
// or, summed over the inner axis, (outer, ...).
template <class T> struct Job {
  int64_t activation, inputs, outputs, depth;
  const int64_t* widths;
  int64_t parameters, outer, inner, steps, points, queries;
  int64_t length;  // of the step sizes: 1, the number of layers or the number of parameters; of a context; of the maps
  const T* limit;  // each number of a gradient is clipped to +-limit, if length > 1; null for no limit
  const T* pull;  // of a step back to where the descent began; null for none
  const T* weights;  // of the query losses after the steps of an inner loop: of each before the last, and of the last
  int64_t first_order;  // whether a gradient through steps leaves out their Hessians
  int64_t number;       // of steps of heads and contexts; of `measured`
  const Processes<T>* processes;  // Gaussian processes on the features
  const int64_t* measured;  // the numbers of steps after which to predict, ascending; `number` is how many they are
  Stack<T> theta, v;
  Steps<T> x, y, sizes;
  Stack<T> query, labels, shift, hidden, maps;
  Steps<T> task_query, task_labels;  // query sets of tasks; x and y are then support sets, and tasks stand for steps
  T *result, *second;
};

template <class T, class Body> int for_each(const Job<T>& job, const Shape& shape, Body body);

template <class T, class Body> int for_each(const Job<T>& job, int64_t tapes, int64_t slots, Body body) {
  const int64_t points = std::max(job.points, job.queries);
  const bool mapped = job.maps.at;
  return for_each(job, Shape{job.inputs, job.outputs, job.depth, job.widths, points, tapes, slots, 0, mapped}, body);
}

template <class T, class Body> int for_each(const Job<T>& job, const Shape& shape, Body body) {
  const auto visit = [&](auto network) {
    if (!network) return 1;
    for (int64_t i = 0; i < job.outer; ++i)
      for (int64_t j = 0; j < job.inner; ++j) network.read(job.theta(i, j)), body(network, i, j, i * job.inner + j);
    return 0;
  };
  return job.activation ? visit(Network<T, Relu>(shape)) : visit(Network<T, Tanh>(shape));
}

template <class T, class Body> int for_each(const Job<T>& job, Body body) {
  return for_each(job, 1, job.length > 1 ? 2 : job.pull ? 1 : 0, body);
}

// Write the step size of each parameter into a slot.
template <class T, class Network> void expand_sizes(const Job<T>& job, Network& network, const T* sizes, T* slot) {
  if (job.length == job.parameters) return network.read(sizes, slot);
  network.for_each_layer(slot, [&](T* begin, int64_t n, int64_t layer) {
    std::fill(begin, begin + n, sizes[job.length == 1 ? 0 : layer]);
  });
}

template <class T> T limit_of(const Job<T>& job) { return job.limit ? *job.limit : std::numeric_limits<T>::infinity(); }

// Take step k of an inner loop; `to` holds the network's parameters from then on.
template <class T, class Network>
void step(const Job<T>& job, Network& network, int64_t i, int64_t j, int64_t k, T* to) {
  const T *const x = job.x(i, j, k), *const y = job.y(i, j, k), *const sizes = job.sizes(i, j, k);
  if (job.maps.at) return network.use_maps(job.maps(i, j)), network.descend_mapped(job.points, x, y, *sizes, to);
  if (job.pull) {
    const T* const anchor = network.anchor(job.theta(i, j), 2, k == 0);
    return network.descend(job.points, x, y, *sizes, to, anchor, *job.pull);
  }
  if (job.length == 1) return network.descend(job.points, x, y, *sizes, to);
  if (k == 0 || job.sizes.step) expand_sizes(job, network, sizes, network.slot(2));
  network.descend(job.points, x, y, network.slot(2), network.slot(3), to, limit_of(job));
}

template <class T> int predict(const Job<T>& job) {
  return for_each(job, [&](auto& network, int64_t i, int64_t j, int64_t n) {
    network.shift(job.shift(i, j));
    network.predict(job.queries, job.query(i, j), job.result + n * job.queries * job.outputs);
  });
}

template <class T> int loss_and_gradient(const Job<T>& job) {
  return for_each(job, [&](auto& network, int64_t i, int64_t j, int64_t n) {
    T *const result = job.result + n * job.parameters, *const gradient = network.destination(result, 1);
    job.second[n] = network.add_gradient(job.queries, job.query(i, j), job.labels(i, j), gradient, true);
    network.write(gradient, result);
  });
}

template <class T> int hessian_product(const Job<T>& job) {
  return for_each(job, 1, 1, [&](auto& network, int64_t i, int64_t j, int64_t n) {
    T *const v = network.slot(2), *const product = network.slot(1);
    network.read(job.v(i, j), v);
    std::fill(product, product + network.parameters, T(0));
    network.record(job.queries, job.query(i, j), job.labels(i, j));
    network.hessian_product(job.queries, job.query(i, j), v, T(1), product);
    network.write(product, job.result + n * job.parameters);
  });
}

// The gradients at the parameters after the steps, summed over the inner axis, (outer, parameters). For shifted
// networks, also the gradient along each shift, (outer, inner, width).
template <class T> int summed_gradient(const Job<T>& job) {
  return for_each(job, [&](auto& network, int64_t i, int64_t j, int64_t n) {
    T *const result = job.result + i * job.parameters, *const sum = network.destination(result, 1);
    network.shift(job.shift(i, j));
    for (int64_t k = 0; k < job.steps; ++k) step(job, network, i, j, k, network.slot(0));
    network.add_gradient(job.queries, job.query(i, j), job.labels(i, j), sum, j == 0);
    if (job.second) network.gradient_along_shift(job.queries, job.query(i, j), job.second + n * job.widths[0]);
    if (j == job.inner - 1) network.write(sum, result);
  });
}

template <class T> int gradient_along_shift(const Job<T>& job) {
  return for_each(job, [&](auto& network, int64_t i, int64_t j, int64_t n) {
    network.shift(job.shift(i, j));
    network.record(job.queries, job.query(i, j), job.labels(i, j));
    network.gradient_along_shift(job.queries, job.query(i, j), job.result + n * job.widths[0]);
  });
}

template <class T> int features(const Job<T>& job) {
  int64_t width = 0;
  for (int64_t l = 0; l < job.depth; ++l) width += job.widths[l];
  return for_each(job, [&](auto& network, int64_t i, int64_t j, int64_t n) {
    network.features(job.queries, job.query(i, j), job.result + n * job.queries * width);
  });
}

// The gradient of sum(v * features), where v is (points, width).
template <class T> int pulled_back(const Job<T>& job) {
  return for_each(job, 1, 0, [&](auto& network, int64_t i, int64_t j, int64_t n) {
    T *const result = job.result + n * job.parameters, *const gradient = network.destination(result, 1);
    network.pull_back(job.queries, job.query(i, j), job.hidden(i, j), job.v(i, j), gradient);
    network.write(gradient, result);
  });
}

template <class T> int descend(const Job<T>& job) {
  return for_each(job, [&](auto& network, int64_t i, int64_t j, int64_t n) {
    T *const result = job.result + n * job.parameters, *const theta = network.destination(result, 0);
    for (int64_t k = 0; k < job.steps; ++k) step(job, network, i, j, k, theta);
    network.write(job.steps ? theta : network.current(), result);
  });
}

// Predictions after the measured numbers of steps, (measured, outer, inner, queries, outputs).
template <class T> int predict_along(const Job<T>& job) {
  const int64_t length = job.queries * job.outputs;
  return for_each(job, [&](auto& network, int64_t i, int64_t j, int64_t n) {
    // Before the first step, the tasks of a run predict the same at the same points.
    const bool same = j > 0 && job.theta(i, j) == job.theta(i, j - 1) && job.query(i, j) == job.query(i, j - 1);
    for (int64_t k = 0, found = 0; found < job.number; ++k) {
      if (k > 0) step(job, network, i, j, k - 1, network.slot(0));
      if (k < job.measured[found]) continue;
      T* const prediction = job.result + (found++ * job.outer * job.inner + n) * length;
      if (k == 0 && same) std::copy_n(prediction - length, length, prediction);
      else network.predict(job.queries, job.query(i, j), prediction);
    }
  });
}

// Descend from phi(0) by step(k) to the query loss, and take its gradient v back through each step by back(k). Slot 1
// takes the sum of v over the inner axis, which becomes the result.
template <class T, class Network, class Slots, class Forth, class Back>
void there_and_back(
    const Job<T>& job, Network& network, int64_t i, int64_t j, Slots phi, T* v, Forth step, Back back) {
  const int64_t steps = job.steps;
  const T *const query = job.query(i, j), *const labels = job.labels(i, j), earlier = job.weights[0];
  T* const sum = network.slot(1);
  network.read(job.theta(i, j), phi(0));
  network.bind(phi(0));
  for (int64_t k = 0; k < steps; ++k) network.use_tape(k), step(k);
  network.use_tape(steps);
  network.add_gradient(job.queries, query, labels, v, true, job.weights[1]);
  for (int64_t k = steps - 1; k >= 0; --k) {
    network.use_tape(k);
    network.bind(phi(k));
    back(k);
    if (earlier == 0 || k == 0) continue;
    network.use_tape(steps);
    network.add_gradient(job.queries, query, labels, v, false, earlier);
  }
  if (j == 0) std::fill(sum, sum + network.parameters, T(0));
  for (int64_t p = 0; p < network.parameters; p += Simd<T>::lanes) store(sum + p, load(sum + p) + load(v + p));
  if (j == job.inner - 1) network.write(sum, job.result + i * job.parameters);
}

// Where maps transform the gradients, with one step size. `second` takes the gradient with respect to the maps, (outer,
// length of the maps).
template <class T> int gradient_through_maps(const Job<T>& job) {
  return for_each(job, job.steps + 1, job.steps + 2, [&](auto& network, int64_t i, int64_t j, int64_t) {
    const auto phi = [&](int64_t k) { return network.slot(3 + k); };
    const T alpha = *job.sizes(i, j, 0);
    if (j == 0) network.clear_along_maps();
    network.use_maps(job.maps(i, j));
    there_and_back(
        job, network, i, j, phi, network.slot(2),
        [&](int64_t k) { network.descend_mapped(job.points, job.x(i, j, k), job.y(i, j, k), alpha, phi(k + 1)); },
        [&](int64_t k) {
          network.pull_through_maps(job.points, job.x(i, j, k), alpha, network.slot(2), !job.first_order);
        });
    if (j == job.inner - 1) network.write_along_maps(job.second + i * job.length);
  });
}

// The gradient of the weighted sum of the query losses after each step, summed over the inner axis: with respect to
// theta, (outer, parameters), and on request to the step sizes, (outer, steps or 1, length).
//
//   v_U = w_U grad L(phi_U; query),   v_k = v_{k+1} - H(phi_k; x_k, y_k) (alpha_k * v_{k+1}) + w_k grad L(phi_k; query)
//   dL / d alpha_k = -grad L(phi_k; x_k, y_k) * v_{k+1}
//
// With a clipped gradient, dL / d alpha_k takes the clipped values, and H multiplies zeros where clipping was active:
// there the step does not depend on the gradient.
//
// The inner loop's parameters and tapes of all steps are kept, since going back needs them in reverse order.
template <class T> int gradient_through(const Job<T>& job) {
  if (job.maps.at) return gradient_through_maps(job);
  const int64_t steps = job.steps, kinds = job.sizes.step ? steps : 1;
  const T limit = limit_of(job);
  return for_each(job, steps + 1, 2 * steps + 2 * kinds + 3, [&](auto& network, int64_t i, int64_t j, int64_t) {
    int64_t next = 2;
    const auto take = [&](int64_t count) {
      const int64_t first = std::exchange(next, next + count);
      return [&network, first](int64_t n) { return network.slot(first + n); };
    };
    const auto phi = take(steps + 1), gradient = take(steps), sizes = take(kinds), along = take(kinds);
    T *const v = take(1)(0), *const direction = take(1)(0);
    const auto kind_of = [&](int64_t k) { return kinds == 1 ? 0 : k; };

    if (j == 0 || job.sizes.inner)
      for (int64_t k = 0; k < kinds; ++k) expand_sizes(job, network, job.sizes(i, j, k), sizes(k));
    if (j == 0)
      for (int64_t k = 0; k < kinds; ++k) std::fill(along(k), along(k) + network.parameters, T(0));
    there_and_back(
        job, network, i, j, phi, v,
        [&](int64_t k) {
          T* const alpha = sizes(kind_of(k));
          network.descend(job.points, job.x(i, j, k), job.y(i, j, k), alpha, gradient(k), phi(k + 1), limit);
        },
        [&](int64_t k) {
          T *const alpha = sizes(kind_of(k)), *const g = gradient(k), *const a = along(kind_of(k));
          for (int64_t p = 0; p < network.parameters; p += Simd<T>::lanes) {
            const V<T> g_p = load(g + p), clipped = clip(g_p, limit);
            store(direction + p, clipped == g_p ? load(alpha + p) * load(v + p) : V<T>{});
            if (job.second) store(a + p, load(a + p) - clipped * load(v + p));
          }
          if (!job.first_order) network.hessian_product(job.points, job.x(i, j, k), direction, T(-1), v);
        });

    for (int64_t k = 0; j == job.inner - 1 && job.second && k < kinds; ++k) {
      T* const to = job.second + (i * kinds + k) * job.length;
      if (job.length == job.parameters) network.write(along(k), to);
      else {
        std::fill(to, to + job.length, T(0));
        network.for_each_layer(along(k), [&](const T* from, int64_t n, int64_t layer) {
          to[job.length == 1 ? 0 : layer] += total(n, from);
        });
      }
    }
  });
}

// The gradient of the query loss, summed over tasks, of networks whose heads adapt, (outer, inner, parameters).
// `adapt` takes a head, its support and query labels, and the index of the network in the stack. For depth and spare
// see `Head`.
template <class T, class Adapt> int through_heads(const Job<T>& job, int64_t depth, int64_t spare, Adapt adapt) {
  const Sets sets{job.steps, job.points, job.queries, job.task_query.step == 0};
  const int64_t ld = padded(job.widths[job.depth - 1]), rows = sets.points() * job.inputs;
  const int64_t scratch = sets.tasks * (depth * (sets.shots + ld) + sets.queries + ld) + ld + spare + rows;
  const Shape shape{job.inputs, job.outputs, job.depth, job.widths, sets.points(), 1, 0, scratch, false};
  return for_each(job, shape, [&](auto& network, int64_t i, int64_t j, int64_t n) {
    T* const x = network.scratch_end() - rows;
    for (int64_t t = 0; t < sets.tasks; ++t) {
      std::copy_n(job.x(i, j, t), sets.shots * job.inputs, x + sets.support(t) * job.inputs);
      std::copy_n(job.task_query(i, j, t), sets.queries * job.inputs, x + sets.query(t) * job.inputs);
    }
    T *const result = job.result + n * job.parameters, *const gradient = network.destination(result, 1);
    network.gradient_through_head(
        sets, x, depth,
        [&](Head<T>& head) { adapt(head, job.y(i, j, head.task), job.task_labels(i, j, head.task), n); }, gradient);
    network.write(gradient, result);
  });
}

// The head takes `number` steps of one size. Equations: anil.py.
template <class T> int gradient_through_head(const Job<T>& job) {
  const int64_t steps = job.number, ld = padded(job.widths[job.depth - 1]);
  return through_heads(job, 2 * steps, 2 * ld, [&](Head<T>& head, const T* y, const T* labels, int64_t n) {
    const int64_t shots = head.sets.shots;
    const T step = 2 * *job.sizes(n / job.inner, n % job.inner, 0) / T(shots);
    T *const u = head.spare, *const zeros = u + ld, bias = head.bias;
    std::fill(zeros, zeros + ld, T(0));
    const auto w = [&](int64_t k) { return k < steps ? head.b + 2 * k * ld : head.v; };
    const auto error = [&](int64_t k) { return head.a + (2 * k + 1) * shots; };  // q of step k precedes it
    std::copy_n(head.weight, ld, w(0));
    for (int64_t k = 0; k < steps; ++k) {
      head.template errors<false>(w(k), bias, y, error(k));
      head.template transposed<false>(error(k), w(k), -step, w(k + 1));
      bias -= step * sum_of(shots, error(k));
    }
    head.template errors<true>(head.v, bias, labels, head.r);
    head.to_gradient();
    head.template transposed<true>(head.r, zeros, 1, u);
    T c = sum_of(head.sets.queries, head.r);
    for (int64_t k = steps - 1; k >= 0; --k) {
      T* const q = error(k) - shots;
      std::copy_n(u, ld, w(k) + ld);
      head.template errors<false>(u, c, nullptr, q);
      for (int64_t p = 0; p < shots; ++p) q[p] *= -step, error(k)[p] *= -step;
      head.template transposed<false>(q, u, 1, u);
      c += sum_of(shots, q);
    }
    head.add(u, c);
  });
}

// Ridge regression of the residuals of the head, with the penalty lambda = *sizes. Equations: ridge.py. `second`
// takes the gradients with respect to log lambda, (outer, inner).
template <class T> int gradient_through_ridge(const Job<T>& job) {
  const int64_t shots = job.points, ld = padded(job.widths[job.depth - 1]), networks = job.outer * job.inner;
  std::fill(job.second, job.second + networks, T(0));
  return through_heads(job, 2, shots * shots + 2 * ld, [&](Head<T>& head, const T* y, const T* labels, int64_t n) {
    const T lambda = *job.sizes(n / job.inner, n % job.inner, 0);
    T *const K = head.spare, *const k = head.a, *const z = k + shots;
    T *const along = head.b, *const updated = along + ld, *const a = K + shots * shots, *const zeros = a + ld;
    std::fill(zeros, zeros + ld, T(0));
    for (int64_t p = 0; p < shots; ++p) {
      head.template errors<false>(head.template rows<false>() + p * ld, 0, nullptr, K + p * shots);
      K[p * shots + p] += lambda;
    }
    factorize(shots, K);
    head.template errors<false>(head.weight, head.bias, y, k);
    for (int64_t p = 0; p < shots; ++p) k[p] = -k[p];
    solve(shots, K, k);
    head.template transposed<false>(k, head.weight, 1, updated);
    std::copy_n(updated, ld, head.v);
    head.template errors<true>(updated, head.bias, labels, head.r);
    head.to_gradient();
    head.template transposed<true>(head.r, zeros, 1, a);
    head.template errors<false>(a, 0, nullptr, z);
    solve(shots, K, z);
    head.template transposed<false>(z, a, -1, along);
    T along_log = 0;
    for (int64_t p = 0; p < shots; ++p) along_log = std::fma(z[p], k[p], along_log);
    job.second[n] = std::fma(-lambda, along_log, job.second[n]);
    head.add(along, sum_of(head.sets.queries, head.r) - sum_of(shots, z));
    for (int64_t p = 0; p < shots; ++p) z[p] = -z[p];
  });
}

// A context of `length` numbers takes `number` steps of one size. Its product with the weights v shifts the first
// layer. Equations: cavia.py. `second` takes the gradients with respect to v, (outer, inner, length, width).
template <class T> int gradient_through_context(const Job<T>& job) {
  const int64_t steps = job.number, length = job.length, width = job.widths[0], shots = job.points;
  std::vector<T> contexts((steps + 1) * length), gradients((steps + 1) * width), u(length), shift(width), at(width);
  return for_each(job, steps + 1, 0, [&](auto& network, int64_t i, int64_t j, int64_t n) {
    const T* const weight = job.v(i, j);
    const T alpha = *job.sizes(i, j, 0);
    T *const result = job.result + n * job.parameters, *const sum = network.destination(result, 1);
    T* const along = job.second + n * length * width;
    std::fill_n(along, length * width, T(0));
    const auto combined = [&](const T* context) {  // c W
      std::fill(shift.begin(), shift.end(), T(0));
      for (int64_t c = 0; c < length; ++c)
        for (int64_t h = 0; h < width; ++h) shift[h] = std::fma(context[c], weight[c * width + h], shift[h]);
      return shift.data();
    };
    const auto add_product = [&](T factor, const T* g, const T* from, T* to) {  // from + factor W g
      for (int64_t c = 0; c < length; ++c) {
        T sum = 0;
        for (int64_t h = 0; h < width; ++h) sum = std::fma(weight[c * width + h], g[h], sum);
        to[c] = std::fma(factor, sum, from[c]);
      }
    };
    const auto add_outer = [&](T factor, const T* context, const T* g) {
      for (int64_t c = 0; c < length; ++c) {
        const T scaled = factor * context[c];
        for (int64_t h = 0; h < width; ++h) along[c * width + h] = std::fma(scaled, g[h], along[c * width + h]);
      }
    };
    for (int64_t t = 0; t < job.steps; ++t) {
      const T *const x = job.x(i, j, t), *const y = job.y(i, j, t), *const task_query = job.task_query(i, j, t);
      const auto context = [&](int64_t k) { return contexts.data() + k * length; };
      const auto gradient = [&](int64_t k) { return gradients.data() + k * width; };
      std::fill_n(context(0), length, T(0));
      for (int64_t k = 0; k < steps; ++k) {
        network.use_tape(k), network.shift(combined(context(k)));
        network.record(shots, x, y), network.gradient_along_shift(shots, x, gradient(k));
        add_product(-alpha, gradient(k), context(k), context(k + 1));
      }
      network.use_tape(steps), network.shift(combined(context(steps)));
      network.add_gradient(job.queries, task_query, job.task_labels(i, j, t), sum, t == 0);
      network.gradient_along_shift(job.queries, task_query, gradient(steps));
      add_outer(1, context(steps), gradient(steps));
      std::fill(u.begin(), u.end(), T(0)), add_product(1, gradient(steps), u.data(), u.data());
      for (int64_t k = steps - 1; k >= 0; --k) {
        network.use_tape(k);
        network.hessian_product_of_shift(shots, x, combined(u.data()), -alpha, sum, at.data());
        add_outer(-alpha, context(k), at.data()), add_outer(-alpha, u.data(), gradient(k));
        add_product(-alpha, at.data(), u.data(), u.data());
      }
    }
    network.write(sum, result);
  });
}

// --- Gaussian processes --------------------------------------------------------------------------------------------

// The gradients of the marginal likelihood of labels under Gaussian processes on the features of networks.
// deep_kernel.py has the equations; processes.py declares the same fields in the same order. The kernel is a sum over
// components of
//
//   w exp(-|s * (h - h')|^2 / 2) cos(m . (h - h'))
//
// But for the passes of the network, all is in double: a covariance with little noise is nearly singular in float.
template <class T> struct Processes {
  int64_t tasks, points, width, components;
  const T* y;                                  // (runs, tasks, points)
  const double *mean, *noise;                  // (runs)
  const double *weight, *scale, *frequency;    // w (runs, components), s and m (runs, components, width); m may be null
  double *along_mean, *along_noise;            // all gradients are summed over tasks, and those of log w and log s
  double *along_weight, *along_scale, *along_frequency;
};

template <class T> class Process {
  using U = V<double>;
  static constexpr int64_t L = Simd<double>::lanes;

 public:
  explicit Process(const Processes<T>& job)
      : job(job), n(job.points), width(job.width), ld(padded(width)), right(in_vectors(n)),
        columns(right + in_vectors(n + 1)) {
    arrange(nullptr);
    memory = workspace<double, 1>(size);  // beside that of the network
    if (memory) std::fill_n(memory, size, 0.0), arrange(memory);
  }

  explicit operator bool() const { return memory; }

  // Store the gradient of the mean likelihood of a task's points along their features, (points, width); add the others.
  void add_gradients(int64_t run, int64_t task, const T* features, T* along_features) {
    const int64_t first = (run * job.tasks + task) * n;
    for (int64_t p = 0; p < n; ++p) std::copy_n(features + p * width, width, h + p * ld);
    std::fill_n(system, n * columns, 0.0), std::fill_n(along_h, n * ld, 0.0);

    for (int64_t q = 0; q < job.components; ++q) evaluate(run * job.components + q, part(q));
    for (int64_t p = 0; p < n; ++p) {
      double* const row = system + p * columns;
      row[p] += job.noise[run], row[right + p] = 1, row[right + n] = job.y[first + p] - job.mean[run];
    }
    solve();
    for (int64_t p = 0; p < n; ++p) a[p] = system[p * columns + right + n];
    const double share = 0.5 / double(n);
    for (int64_t i = 0; i < n; ++i) {
      const double* const inverse = system + i * columns + right;
      for (int64_t j = 0; j < n; ++j) along[i * n + j] = std::fma(-a[i], a[j], inverse[j]) * share;
      job.along_noise[run] += along[i * n + i];
    }
    job.along_mean[run] -= sum_of(n, a) / double(n);
    for (int64_t q = 0; q < job.components; ++q) pull_back(run * job.components + q, part(q));
    for (int64_t p = 0; p < n; ++p) std::copy_n(along_h + p * ld, width, along_features + p * width);
  }

 private:
  struct Part {  // what is kept of a component for the way back
    double *z, *even, *odd;  // s * h, (n, ld); the component, and the same with a sine in place of the cosine, (n, n)
  };
  Part part(int64_t q) const {
    double* const at = parts + q * (n * ld + 2 * n * n);
    return {at, at + n * ld, at + n * ld + n * n};
  }

  void arrange(double* begin) {
    double* at = begin;
    const auto take = [&](int64_t count) { return std::exchange(at, at + count); };
    h = take(n * ld), along_h = take(n * ld), along_z = take(n * ld), frequency = take(ld);
    a = take(n), pivots = take(n), angle = take(n), sums = take(n), along = take(n * n), system = take(n * columns);
    parts = take(job.components * (n * ld + 2 * n * n));
    size = at - begin;
  }

  static int64_t in_vectors(int64_t count) { return (count + L - 1) / L * L; }

  // use(p, left_p . right) for the first rows of `left`, (n, ld).
  template <class Use> void for_each_dot(int64_t rows, const double* left, const double* right, Use use) const {
    for (int64_t p = 0; p < rows; p += L) {
      const U sums = dots<L>(p, rows, ld, left, right);
      for (int64_t i = p; i < std::min(p + L, rows); ++i) use(i, sums[i - p]);
    }
  }

  // Add a component to the covariance.
  void evaluate(int64_t component, Part part) {
    const double* const scale = job.scale + component * width;
    for (int64_t p = 0; p < n; ++p)
      for (int64_t j = 0; j < width; ++j) part.z[p * ld + j] = h[p * ld + j] * scale[j];
    if (job.frequency) {
      std::copy_n(job.frequency + component * width, width, frequency);
      for_each_dot(n, h, frequency, [&](int64_t p, double sum) { angle[p] = sum; });
    }
    double* const gram = along;  // free until the way back
    for (int64_t i = 0; i < n; ++i)
      for_each_dot(i + 1, part.z, part.z + i * ld, [&](int64_t j, double sum) { gram[i * n + j] = sum; });
    for (int64_t i = 0; i < n; ++i)
      for (int64_t j = 0; j <= i; ++j) {
        const double squares = gram[i * n + i] + gram[j * n + j], turn = angle[i] - angle[j];
        const double envelope = job.weight[component] * std::exp(std::fma(-0.5, squares, gram[i * n + j]));
        const double even = job.frequency ? envelope * std::cos(turn) : envelope;
        const double odd = job.frequency ? envelope * std::sin(turn) : 0.0;
        part.even[i * n + j] = part.even[j * n + i] = even;
        part.odd[i * n + j] = odd, part.odd[j * n + i] = -odd;
        system[j * columns + i] += even;
      }
  }

  // Turn the rows of `system`, [K, I, y - c], into [R, K^-1, a], where K = R'R.
  void solve() {
    // Subtract rows from others on, each times its factor, and multiply by a number, from column `begin` on.
    const auto eliminate = [&](int64_t row, int64_t begin, int64_t first, int64_t last, auto factor) {
      for (int64_t j = begin / L * L; j < columns; j += L) {
        U sum = load(system + row * columns + j);
        for (int64_t k = first; k < last; ++k) sum -= broadcast(factor(k)) * load(system + k * columns + j);
        store(system + row * columns + j, sum);
      }
    };
    const auto scale = [&](int64_t row, int64_t begin) {
      for (int64_t j = begin / L * L; j < columns; j += L) {
        double* const at = system + row * columns + j;
        store(at, load(at) * broadcast(pivots[row]));
      }
    };
    for (int64_t i = 0; i < n; ++i) {
      eliminate(i, i, 0, i, [&](int64_t k) { return system[k * columns + i]; });
      pivots[i] = 1 / std::sqrt(system[i * columns + i]);
      scale(i, i);
    }
    for (int64_t i = n - 1; i >= 0; --i) {
      eliminate(i, right, i + 1, n, [&](int64_t k) { return system[i * columns + k]; });
      scale(i, right);
    }
  }

  // Take dL/dK of a component to the features and to its values.
  void pull_back(int64_t component, Part part) {
    const double* const scale = job.scale + component * width;
    double *const weighted = part.even, *const along_scale = job.along_scale + component * width;
    for (int64_t k = 0; k < n * n; ++k) weighted[k] *= along[k];
    for (int64_t p = 0; p < n; ++p) sums[p] = sum_of(n, weighted + p * n), job.along_weight[component] += sums[p];
    product(
        n, ld, [](int64_t) INLINED { return U{}; },
        [&](int64_t p, int64_t j, U sum) INLINED {
          const U z = load(part.z + p * ld + j);
          store(along_z + p * ld + j, 2.0 * (sum - broadcast(sums[p]) * z));
        },
        Factors<double>{n, weighted, n, 1, part.z, ld});
    for (int64_t p = 0; p < n; ++p)
      for (int64_t j = 0, at = p * ld; j < width; ++j, ++at) {
        along_h[at] = std::fma(along_z[at], scale[j], along_h[at]);
        along_scale[j] = std::fma(along_z[at], part.z[at], along_scale[j]);
      }
    if (!job.frequency) return;
    const double* const m = job.frequency + component * width;
    double* const along_frequency = job.along_frequency + component * width;
    for (int64_t p = 0; p < n; ++p) {
      double along_angle = 0;
      for (int64_t k = 0; k < n; ++k) along_angle = std::fma(along[p * n + k], -2 * part.odd[p * n + k], along_angle);
      for (int64_t j = 0, at = p * ld; j < width; ++j, ++at) {
        along_h[at] = std::fma(along_angle, m[j], along_h[at]);
        along_frequency[j] = std::fma(along_angle, h[at], along_frequency[j]);
      }
    }
  }

  const Processes<T>& job;
  const int64_t n, width, ld;  // the last with padding
  const int64_t right, columns;  // of `system`: where K ends, and how many there are
  int64_t size;
  double *memory, *h, *along_h, *along_z, *frequency, *a, *pivots, *angle, *sums, *along, *system, *parts;
};

// With respect to the parameters, (outer, inner, parameters), of networks without outputs. The points of all tasks pass
// through the network together. The other results begin at 0.
template <class T> int gradient_of_processes(const Job<T>& job) {
  const Processes<T>& given = *job.processes;
  const int64_t points = job.queries, width = given.width;
  Process<T> process(given);
  if (!process) return 1;
  int64_t layers = 0;
  for (int64_t l = 0; l < job.depth; ++l) layers += job.widths[l];
  const int64_t scratch = points * (layers + width);
  const Shape shape{job.inputs, job.outputs, job.depth, job.widths, points, 1, 0, scratch, false};
  return for_each(job, shape, [&](auto& network, int64_t i, int64_t j, int64_t n) {
    const T* const x = job.query(i, j);
    T *const hidden = network.scratch_end() - scratch, *const along = hidden + points * layers;
    const T* const features = along - points * width;  // of the last layer
    network.features(points, x, hidden);
    for (int64_t t = 0, at = 0; t < given.tasks; ++t, at += given.points * width)
      process.add_gradients(n, t, features + at, along + at);
    T *const result = job.result + n * job.parameters, *const gradient = network.destination(result, 1);
    network.pull_back(points, x, hidden, along, gradient);
    network.write(gradient, result);
  });
}

// --- an LSTM -------------------------------------------------------------------------------------------------------
//
// (i, f, g, o) = z,   c = sigma(f) c_before + sigma(i) tanh(g),   s = sigma(o) tanh(c)
//
// Equations: recurrent.py. lstm.py declares the fields of `Reading` and of `Last` in the same order.

template <class U> INLINE U sigma(U z) { return (tanh(z / 2) + 1) / 2; }

// The units of a cell that are in one vector: what is kept of them for the way back.
template <class T> struct Cell {
  V<T> i, f, g, o, c;

  static INLINE Cell open(V<T> i, V<T> f, V<T> g, V<T> o, V<T> before) {
    Cell cell{sigma(i), sigma(f), tanh(g), sigma(o), {}};
    cell.c = cell.f * before + cell.i * cell.g;
    return cell;
  }
  INLINE V<T> hidden() const { return o * tanh(c); }

  // From dL/ds and dL/dc, visit(k, dL/dz_k); return dL/dc_before.
  template <class Visit> INLINE V<T> back(V<T> before, V<T> along_s, V<T> along_c, Visit visit) const {
    const V<T> t = tanh(c), along = along_c + along_s * o * (1 - t * t);
    visit(0, along * g * i * (1 - i)), visit(1, along * before * f * (1 - f));
    visit(2, along * i * (1 - g * g)), visit(3, along_s * t * o * (1 - o));
    return along * f;
  }
};

// A stack of LSTMs, each of which reads some sequences of points.
template <class T> struct Reading {
  int64_t stack, sequences, shots, units;
  const T *gates, *weight;               // (stack, sequence, shots, 4 units), (stack, unit, 4 units)
  const bool* known;                     // (stack, sequence, shots), or null if all points are read
  T *tape, *hidden, *cell;               // see below; (stack, sequence, unit)
  const T *along_hidden, *along_cell;    // likewise
  T *along_gates, *along_weight;         // like gates and weight

  int64_t ld() const { return padded(units); }
  int64_t rows() const { return shots * sequences; }

  // Parts of the tape of one LSTM: s and c, (shots, sequence, ld), and the open gates, (shots, sequence, 4 ld).
  T* states(int64_t n) const { return tape + n * rows() * 6 * ld(); }
  T* memories(int64_t n) const { return states(n) + rows() * ld(); }
  T* opened(int64_t n) const { return states(n) + 2 * rows() * ld(); }

  bool reads(int64_t n, int64_t q, int64_t k) const { return !known || known[(n * sequences + q) * shots + k]; }
  int64_t place(int64_t n, int64_t q, int64_t k) const { return ((n * sequences + q) * shots + k) * 4 * units; }

  // Copy the gates of a cell, or a row of weights, with or without padding.
  void pad(const T* from, T* to) const {
    for (int64_t k = 0; k < 4; ++k) std::copy_n(from + k * units, units, to + k * ld());
  }
  void unpad(const T* from, T* to) const {
    for (int64_t k = 0; k < 4; ++k) std::copy_n(from + k * ld(), units, to + k * units);
  }
  void pad_weights(int64_t n, T* to) const {
    for (int64_t j = 0; j < units; ++j) pad(weight + (n * units + j) * 4 * units, to + j * 4 * ld());
  }
};

template <class T> int lstm_read(const Reading<T>& job) {
  constexpr int64_t L = Simd<T>::lanes;
  const int64_t ld = job.ld(), m = job.sequences;
  T* const weight = workspace<T, 2>((ld + 2 * m) * 4 * ld);
  if (!weight) return 1;
  T *const z = weight + ld * 4 * ld, *const zeros = z + m * 4 * ld;
  std::fill_n(weight, (ld + 2 * m) * 4 * ld, T(0));
  for (int64_t n = 0; n < job.stack; ++n) {
    job.pad_weights(n, weight);
    std::fill_n(z, m * 4 * ld, T(0));  // a diverged neighbour leaves nan in the padding
    const T *s_before = zeros, *c_before = zeros;
    for (int64_t k = 0; k < job.shots; ++k) {
      T *const s = job.states(n) + k * m * ld, *const c = job.memories(n) + k * m * ld;
      T* const opened = job.opened(n) + k * m * 4 * ld;
      for (int64_t q = 0; q < m; ++q) job.pad(job.gates + job.place(n, q, k), z + q * 4 * ld);
      product<3, 1>(  // the rows are those of a meta-batch, so few
          m, 4 * ld, [](int64_t) INLINED { return V<T>{}; },
          [&](int64_t q, int64_t j, V<T> sum) INLINED {
            T* const at = z + q * 4 * ld + j;
            store(at, load(at) + sum);
          },
          Factors<T>{ld, s_before, ld, 1, weight, 4 * ld});
      for (int64_t q = 0; q < m; ++q) {
        const bool read = job.reads(n, q, k);
        const T* const gate = z + q * 4 * ld;
        T* const kept = opened + q * 4 * ld;
        for (int64_t j = 0, at = q * ld; j < ld; j += L, at += L) {
          const V<T> before = load(c_before + at);
          const Cell<T> cell = Cell<T>::open(
              load(gate + j), load(gate + ld + j), load(gate + 2 * ld + j), load(gate + 3 * ld + j), before);
          store(kept + j, cell.i), store(kept + ld + j, cell.f);
          store(kept + 2 * ld + j, cell.g), store(kept + 3 * ld + j, cell.o);
          store(c + at, read ? cell.c : before), store(s + at, read ? cell.hidden() : load(s_before + at));
        }
      }
      s_before = s, c_before = c;
    }
    for (int64_t q = 0; q < m; ++q) {
      std::copy_n(s_before + q * ld, job.units, job.hidden + (n * m + q) * job.units);
      std::copy_n(c_before + q * ld, job.units, job.cell + (n * m + q) * job.units);
    }
  }
  return 0;
}

template <class T> int lstm_read_back(const Reading<T>& job) {
  constexpr int64_t L = Simd<T>::lanes;
  const int64_t ld = job.ld(), m = job.sequences, rows = job.rows();
  const int64_t size = (3 * ld + rows + m) * 4 * ld;
  T* const weight = workspace<T, 2>(size);
  if (!weight) return 1;
  T *const transposed = weight + ld * 4 * ld, *const along_weight = transposed + ld * 4 * ld;
  T *const along_z = along_weight + ld * 4 * ld, *const along_s = along_z + rows * 4 * ld;
  T *const along_c = along_s + m * ld, *const zeros = along_c + m * ld;
  std::fill_n(weight, size, T(0));
  for (int64_t n = 0; n < job.stack; ++n) {
    job.pad_weights(n, weight);
    for (int64_t j = 0; j < ld; j += L)
      for (int64_t k = 0; k < 4 * ld; k += L)
        transpose_square(weight + j * 4 * ld + k, 4 * ld, transposed + k * ld + j, ld);
    std::fill_n(along_s, 2 * m * ld, T(0));
    for (int64_t q = 0; q < m; ++q) {
      std::copy_n(job.along_hidden + (n * m + q) * job.units, job.units, along_s + q * ld);
      std::copy_n(job.along_cell + (n * m + q) * job.units, job.units, along_c + q * ld);
    }
    for (int64_t k = job.shots - 1; k >= 0; --k) {
      const T *const c = job.memories(n) + k * m * ld, *const c_before = k ? c - m * ld : zeros;
      const T* const opened = job.opened(n) + k * m * 4 * ld;
      T* const along = along_z + k * m * 4 * ld;
      for (int64_t q = 0; q < m; ++q) {
        const bool read = job.reads(n, q, k);
        const T* const kept = opened + q * 4 * ld;
        T* const to = along + q * 4 * ld;
        for (int64_t j = 0, at = q * ld; j < ld; j += L, at += L) {
          const Cell<T> cell{
              load(kept + j), load(kept + ld + j), load(kept + 2 * ld + j), load(kept + 3 * ld + j), load(c + at)};
          const V<T> held = load(along_c + at);
          const V<T> of_before = cell.back(
              load(c_before + at), load(along_s + at), held,
              [&](int64_t gate, V<T> v) INLINED { store(to + gate * ld + j, read ? v : V<T>{}); });
          store(along_c + at, read ? of_before : held);
        }
        job.unpad(to, job.along_gates + job.place(n, q, k));
      }
      product<3, 1>(
          m, ld, [](int64_t) INLINED { return V<T>{}; },
          [&](int64_t q, int64_t j, V<T> sum) INLINED {
            // A point that was not read left s as it was.
            T* const at = along_s + q * ld + j;
            store(at, job.reads(n, q, k) ? sum : load(at));
          },
          Factors<T>{4 * ld, along, 4 * ld, 1, transposed, ld});
    }
    product(
        job.units, 4 * ld, [](int64_t) INLINED { return V<T>{}; },
        [&](int64_t i, int64_t j, V<T> sum) INLINED { store(along_weight + i * 4 * ld + j, sum); },
        Factors<T>{rows - m, job.states(n), 1, ld, along_z + m * 4 * ld, 4 * ld});
    for (int64_t j = 0; j < job.units; ++j)
      job.unpad(along_weight + j * 4 * ld, job.along_weight + (n * job.units + j) * 4 * job.units);
  }
  return 0;
}

// One more cell for each point of a sequence, with z = gates + base.
template <class T> struct Last {
  int64_t sequences, points, units;
  const T *gates, *base, *cell_before;  // (sequence, point, 4 units), (sequence, 4 units), (sequence, unit)
  T *opened, *cell, *hidden;            // like gates; (sequence, point, unit)
  const T* along_hidden;                // likewise
  T *along_gates, *along_base, *along_cell_before;  // like gates, base and cell_before
};

// Some of the numbers of a row: all lanes of a vector, or fewer at its end.
template <class T> INLINE V<T> load_some(const T* p, int64_t count) {
  if (count >= Simd<T>::lanes) return load(p);
  V<T> part{};
  std::memcpy(&part, p, count * sizeof(T));
  return part;
}
template <class T> INLINE void store_some(T* p, V<T> v, int64_t count) {
  if (count >= Simd<T>::lanes) store(p, v);
  else std::memcpy(p, &v, count * sizeof(T));
}

template <class T> int lstm_last(const Last<T>& job) {
  const int64_t u = job.units;
  for (int64_t sequence = 0, n = 0; sequence < job.sequences; ++sequence)
    for (int64_t p = 0; p < job.points; ++p, ++n)
      for (int64_t j = 0; j < u; j += Simd<T>::lanes) {
        const int64_t count = u - j;
        const T *const gates = job.gates + n * 4 * u + j, *const base = job.base + sequence * 4 * u + j;
        const auto z = [&](int64_t k) INLINED {
          return load_some(gates + k * u, count) + load_some(base + k * u, count);
        };
        const V<T> before = load_some(job.cell_before + sequence * u + j, count);
        const Cell<T> cell = Cell<T>::open(z(0), z(1), z(2), z(3), before);
        T* const opened = job.opened + n * 4 * u + j;
        store_some(opened, cell.i, count), store_some(opened + u, cell.f, count);
        store_some(opened + 2 * u, cell.g, count), store_some(opened + 3 * u, cell.o, count);
        store_some(job.cell + n * u + j, cell.c, count), store_some(job.hidden + n * u + j, cell.hidden(), count);
      }
  return 0;
}

template <class T> int lstm_last_back(const Last<T>& job) {
  const int64_t u = job.units;
  std::fill_n(job.along_base, job.sequences * 4 * u, T(0));
  std::fill_n(job.along_cell_before, job.sequences * u, T(0));
  for (int64_t sequence = 0, n = 0; sequence < job.sequences; ++sequence)
    for (int64_t p = 0; p < job.points; ++p, ++n)
      for (int64_t j = 0; j < u; j += Simd<T>::lanes) {
        const int64_t count = u - j;
        const T* const opened = job.opened + n * 4 * u + j;
        T* const base = job.along_base + sequence * 4 * u + j;
        T* const cell_before = job.along_cell_before + sequence * u + j;
        const Cell<T> cell{load_some(opened, count), load_some(opened + u, count), load_some(opened + 2 * u, count),
                           load_some(opened + 3 * u, count), load_some(job.cell + n * u + j, count)};
        const V<T> before = load_some(job.cell_before + sequence * u + j, count);
        const V<T> along = cell.back(
            before, load_some(job.along_hidden + n * u + j, count), V<T>{}, [&](int64_t gate, V<T> v) INLINED {
              store_some(job.along_gates + (n * 4 + gate) * u + j, v, count);
              store_some(base + gate * u, load_some(base + gate * u, count) + v, count);
            });
        store_some(cell_before, load_some(cell_before, count) + along, count);
      }
  return 0;
}

// --- the outer update ----------------------------------------------------------------------------------------------

// A step of Adam, element by element: `Adam` in optimizers.py. Moments are two arrays like theta, one after the
// other. `size` is the step size divided by the correction of the first moment, and `scale` is 1 / sqrt(that of the
// second). The caller computes both in double: as floats, 1 - beta2^t would lose digits while t is small.
template <class T>
int adam(int64_t count, const T* __restrict theta, const T* __restrict gradient, const T* __restrict moments,
         T* __restrict new_theta, T* __restrict new_moments, double beta1, double beta2, double size, double scale,
         double epsilon) {
  const T b1 = T(beta1), b2 = T(beta2), r1 = T(1 - beta1), r2 = T(1 - beta2);
  const T step = T(size), s = T(scale), eps = T(epsilon);
  for (int64_t n = 0; n < count; ++n) {
    const T g = gradient[n], m = std::fma(r1, g, b1 * moments[n]), v = std::fma(r2 * g, g, b2 * moments[count + n]);
    new_theta[n] = std::fma(-step, m / std::fma(std::sqrt(v), s, eps), theta[n]);
    new_moments[n] = m, new_moments[count + n] = v;
  }
  return 0;
}

}  // namespace

// Each function returns 0, or 1 if there was not enough memory.
#pragma GCC visibility push(default)
extern "C" {
extern const char source[] = SOURCE;  // the digest of this file, which engine/__init__.py compares
extern const int64_t block = BLOCK;   // in whose multiples lstm.py allocates
#define EXPORT(name, Call)                                                 \
  int name##_float32(const Call<float>* call) { return name(*call); }    \
  int name##_float64(const Call<double>* call) { return name(*call); }
EXPORT(predict, Job)
EXPORT(loss_and_gradient, Job)
EXPORT(summed_gradient, Job)
EXPORT(hessian_product, Job)
EXPORT(gradient_along_shift, Job)
EXPORT(features, Job)
EXPORT(pulled_back, Job)
EXPORT(descend, Job)
EXPORT(predict_along, Job)
EXPORT(gradient_through, Job)
EXPORT(gradient_through_head, Job)
EXPORT(gradient_through_ridge, Job)
EXPORT(gradient_through_context, Job)
EXPORT(gradient_of_processes, Job)
EXPORT(lstm_read, Reading)
EXPORT(lstm_read_back, Reading)
EXPORT(lstm_last, Last)
EXPORT(lstm_last_back, Last)
#define EXPORT_ADAM(name, T)                                                                                     \
  int name(int64_t count, const T* theta, const T* gradient, const T* moments, T* new_theta, T* new_moments,       \
           double beta1, double beta2, double size, double scale, double epsilon) {                            \
    return adam(count, theta, gradient, moments, new_theta, new_moments, beta1, beta2, size, scale, epsilon);        \
  }
EXPORT_ADAM(adam_float32, float)
EXPORT_ADAM(adam_float64, double)
}
#pragma GCC visibility pop
