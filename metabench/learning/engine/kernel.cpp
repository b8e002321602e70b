// Stacks of small multilayer perceptrons: predictions, gradients, products with the Hessian, whole inner loops, and
// gradients through them.
//
//   h_0 = x,   z_l = h_{l-1} W_l + b_l,   h_l = activation(z_l),   prediction = z_L,   loss = mean (prediction - y)^2
//
// One network after another, each with its parameters and activations in cache, so that neighbours in a stack cannot
// matter. Each number is one chain of fused multiply-adds in an order that the width of the processor's vectors has
// no part in (the one dot product adds BLOCK partial sums, whatever that width): AVX2 and AVX-512 give the same bits.
//
// The same source is compiled once for each kind of processor; `__init__.py` chooses.

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

#ifndef BYTES  // of a vector
#if defined(__AVX512F__)
#define BYTES 64
#elif defined(__AVX2__)
#define BYTES 32
#else
#define BYTES 16
#endif
#endif
constexpr int64_t BLOCK = 32;  // widths are padded to its multiples, with zeros as long as all numbers are finite

#define INLINED __attribute__((always_inline))
#define INLINE inline INLINED
#define APART __attribute__((noinline))  // called seldom, and code of its own each time it is inlined

template <class T> struct Simd {
  typedef T V __attribute__((vector_size(BYTES), aligned(sizeof(T)), may_alias));
  static constexpr int64_t lanes = BYTES / sizeof(T);
};
template <class T> using V = typename Simd<T>::V;

template <class T> INLINE V<T> load(const T* p) { return *reinterpret_cast<const V<T>*>(p); }
template <class T> INLINE void store(T* p, V<T> v) { *reinterpret_cast<V<T>*>(p) = v; }
template <class T> INLINE V<T> all(T value) { return value - V<T>{}; }

// The same for one number, where code is for both; `like` says for which.
template <class T> INLINE V<T> load(const T* p, V<T> like) { return load(p); }
template <class T> INLINE T load(const T* p, T like) { return *p; }
template <class T> INLINE void store(T* p, T value) { *p = value; }

// The integers that a shuffle takes, one for each lane.
template <class T, class Function> INLINE auto lanes(Function function) {
  decltype(V<T>{} > V<T>{}) found{};
#pragma GCC unroll 16
  for (int64_t i = 0; i < Simd<T>::lanes; ++i) found[i] = function(i);
  return found;
}

// --- activations: h = f(z), dL/dz from dL/dh and h, and dL/dh R{f'(z)} / R{h} from dL/dh and h -----------------------

// a < b ? a : b, and a > b ? a : b. For these widest of vectors compilers take two instructions where one does it.
#if BYTES == 64 && defined(__AVX512F__)
INLINE V<float> lesser(V<float> a, V<float> b) { return V<float>(_mm512_min_ps(__m512(a), __m512(b))); }
INLINE V<float> greater(V<float> a, V<float> b) { return V<float>(_mm512_max_ps(__m512(a), __m512(b))); }
#else
INLINE V<float> lesser(V<float> a, V<float> b) { return a < b ? a : b; }
INLINE V<float> greater(V<float> a, V<float> b) { return a > b ? a : b; }
#endif

// x P(x^2) / Q(x^2), the minimax of the relative error (1e-8) up to 8.3. Beyond 8 it is 3e-7 from 1, and stays there.
INLINE V<float> tanh(V<float> z) {
  const V<float> most = all(8.0f), x = greater(-most, lesser(most, z)), s = x * x;
  V<float> p = s * 1.46482604998e-8f + 2.15086484004e-5f, q = s * 8.29515493484e-7f + 3.37397140404e-4f;
  p = p * s + 3.54918457438e-3f, q = q * s + 2.60800146601e-2f;
  p = p * s + 1.34258854917e-1f, q = q * s + 4.67592104155e-1f;
  p = p * s + 9.99999990872e-1f, q = q * s + 1.0f;
  return x * p / q;
}

INLINE V<double> tanh(V<double> z) {
  for (int64_t i = 0; i < Simd<double>::lanes; ++i) z[i] = std::tanh(z[i]);
  return z;
}

struct Tanh {
  template <class U> static INLINE U forward(U z) { return tanh(z); }
  template <class U> static INLINE U backward(U g, U h) { return g - (g * h) * h; }
  template <class U> static INLINE U bend(U g, U h) { return -2 * (g * h); }
};

struct Relu {
  template <class U> static INLINE U forward(U z) { return z < 0 ? U{} : z; }
  template <class U> static INLINE U backward(U g, U h) { return h > 0 ? g : U{}; }
  template <class U> static INLINE U bend(U, U) { return U{}; }
};

// --- products ------------------------------------------------------------------------------------------------------

// A product a b, whose a[i, k] lie `row` and `step` apart, and whose b[k, j] lie `ld` and 1.
template <class T> struct Factors {
  int64_t depth;
  const T* a;
  int64_t row, step;
  const T* b;
  int64_t ld;
  INLINE Factors at(int64_t i, int64_t j) const { return {depth, a + i * row, row, step, b + j, ld}; }
};

// One tile, R rows by two vectors, of a sum of products: out(r, j) = finish(start(j) + sum_k a[r, k] b[k, j] + ...), k in
// order and one product after the other.
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
        const V<T> x = all(f.a[r * f.row]);
        sum[r][0] += x * b0, sum[r][1] += x * b1;
      }
    }
  };
  add(factors), (add(more), ...);
  int64_t first = 0;
  asm volatile("" : "+r"(first));  // else compilers work out the places of all rows before, and have to spill sums
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r) finish(first + r, 0, sum[r][0]), finish(first + r, L, sum[r][1]);
}

// Tiles of H rows each as long as there are so many, then of fewer. Few heights, since each is code of its own.
template <int H, int... LESS, class At> INLINE void tiles(int64_t i, int64_t rows, At at) {
  for (; i + H <= rows; i += H) at(i, std::integral_constant<int, H>{});
  if constexpr (sizeof...(LESS) > 0) tiles<LESS...>(i, rows, at);
}

// All tiles of a sum of products of `rows` by `columns`; start(j) and finish(i, j, sum) see the places in the whole.
template <class T, class Start, class Finish, class... More>
INLINE void product(int64_t rows, int64_t columns, Start start, Finish finish, Factors<T> factors, More... more) {
  for (int64_t j = 0; j < columns; j += 2 * Simd<T>::lanes) {
    const auto from = [&](int64_t c) INLINED { return start(j + c); };
    const auto at = [&](int64_t i, auto height) INLINED {
      const auto to = [&](int64_t r, int64_t c, V<T> sum) INLINED { finish(i + r, j + c, sum); };
      tile<height>(from, to, factors.at(i, j), more.at(i, j)...);
    };
    // The accumulators of the highest must fit the registers. Studies compute in float.
    if constexpr (sizeof(T) > sizeof(float)) tiles<4, 1>(0, rows, at);
    else if constexpr (BYTES == 64) tiles<10, 5, 4, 1>(0, rows, at);
    else tiles<5, 4, 1>(0, rows, at);
  }
}

// For some columns of b, a multiple of BLOCK: sum_k a[k] b[k, j] and sum_k b[k, j], k in order. Sums of many columns are
// made at once, since each waits for itself.
template <class T, class Weighted, class Plain>
INLINE void column_sums(
    int64_t depth, const T* a, const T* b, int64_t ld, Weighted weighted, Plain plain, int64_t step = 1) {
  const auto sums = [&](int64_t j, auto vectors) INLINED {
    constexpr int64_t L = Simd<T>::lanes, N = vectors;
    V<T> sum[N] = {}, unweighted[N] = {};
    const T* row = b + j;
    for (int64_t k = 0; k < depth; ++k, row += ld)
#pragma GCC unroll 16
      for (int64_t c = 0; c < N; ++c) sum[c] += all(a[k * step]) * load(row + c * L), unweighted[c] += load(row + c * L);
#pragma GCC unroll 16
    for (int64_t c = 0; c < N; ++c) weighted(j + c * L, sum[c]), plain(j + c * L, unweighted[c]);
  };
  constexpr std::integral_constant<int64_t, BLOCK / Simd<T>::lanes> one{};
  constexpr std::integral_constant<int64_t, 2 * one> two{};
  int64_t j = 0;
  for (; j + 2 * BLOCK <= ld; j += 2 * BLOCK) sums(j, two);
  if (j < ld) sums(j, one);
}

// sum_k a[k] for a count that is a multiple of BLOCK: BLOCK partial sums, and these in order.
template <class T> T total(int64_t count, const T* a) {
  constexpr int64_t L = Simd<T>::lanes, N = BLOCK / L;
  V<T> sum[N] = {};
  for (int64_t k = 0; k < count; k += BLOCK)
#pragma GCC unroll 16
    for (int64_t c = 0; c < N; ++c) sum[c] += load(a + k + c * L);
  T found = 0;
  for (int64_t k = 0; k < BLOCK; ++k) found += sum[k / L][k % L];
  return found;
}

// [u, v] is 2 lanes / WIDTH segments. Add each one's second half to its first: as many segments of half the width.
template <int64_t WIDTH, class T> INLINE V<T> fold(V<T> u, V<T> v) {
  const auto first = lanes<T>([](int64_t i) { return i / (WIDTH / 2) * WIDTH + i % (WIDTH / 2); });
  return __builtin_shuffle(u, v, first) + __builtin_shuffle(u, v, first + WIDTH / 2);
}

// sum_k a[p, k] b[k] for COUNT rows p of `rows`, a segment of the result each; past the last row it is said again.
// Each is BLOCK partial sums, folded in half again and again.
template <int64_t COUNT, class T> INLINE V<T> dots(int64_t p, int64_t rows, int64_t depth, const T* a, const T* b) {
  constexpr int64_t L = Simd<T>::lanes, N = BLOCK / L;
  if constexpr (COUNT > 1) {
    const V<T> first = dots<COUNT / 2>(p, rows, depth, a, b), second = dots<COUNT / 2>(p + COUNT / 2, rows, depth, a, b);
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

// to[j, i] = from[i, j] for one square of as many rows as a vector has lanes, by shuffles that processors do fast: within
// segments of 16 bytes, whose rows are zipped log2(S) times; then of whole segments, the even ones parted from the odd.
template <class T> INLINE void transpose_square(const T* from, int64_t from_ld, T* to, int64_t to_ld) {
  constexpr int64_t L = Simd<T>::lanes, S = 16 / sizeof(T);
  const auto zip = lanes<T>([](int64_t i) { return i / S * S + i % S / 2 + i % 2 * L; });
  const auto even = lanes<T>([](int64_t i) { return i / S * 2 * S + i % S; });
  V<T> row[L], next[L];
#pragma GCC unroll 16
  for (int64_t i = 0; i < L; ++i, from += from_ld) row[i] = load(from);
#pragma GCC unroll 8
  for (int64_t done = 1; done < L; done *= 2) {
#pragma GCC unroll 16
    for (int64_t n = 0; n < L / 2; ++n)
      if (done < S) {
        const int64_t i = n / (S / 2) * S + n % (S / 2);
        next[2 * n] = __builtin_shuffle(row[i], row[i + S / 2], zip);
        next[2 * n + 1] = __builtin_shuffle(row[i], row[i + S / 2], zip + S / 2);
      } else {
        const int64_t i = n / S * 2 * S + n % S;
        next[n] = __builtin_shuffle(row[i], row[i + S], even);
        next[n + L / 2] = __builtin_shuffle(row[i], row[i + S], even + S);
      }
#pragma GCC unroll 16
    for (int64_t i = 0; i < L; ++i) row[i] = next[i];
  }
#pragma GCC unroll 16
  for (int64_t i = 0; i < L; ++i, to += to_ld) store(to, row[i]);
}

// --- one network ---------------------------------------------------------------------------------------------------

int64_t padded(int64_t width) { return (width + BLOCK - 1) / BLOCK * BLOCK; }

// Memory that a thread keeps from call to call.
template <class T> T* workspace(int64_t count) {
  static thread_local struct Held {
    T* memory = nullptr;
    int64_t count = 0;
    ~Held() { std::free(memory); }
  } held;
  if (held.count < count) {
    std::free(held.memory);
    held.memory = static_cast<T*>(std::aligned_alloc(64, (count * sizeof(T) + 63) / 64 * 64));
    held.count = held.memory ? count : 0;
  }
  return held.memory;
}

// A hidden layer. R{.} = d/dr (.) of theta + r v at r = 0 is how a thing changes as the parameters go along v.
template <class T> struct Layer {
  int64_t in, out, ld;        // features in and out, and those out with padding
  T *weight, *bias;           // (in, ld), (ld)
  T *h, *delta, *bend;        // (points, ld): f(z), dL/dz, and what R{h} is to be multiplied by to give R{f'(z)} dL/dh
  T *h_change, *delta_change; // (points, ld): R{h}, R{dL/dz}
};

// What becomes of dL/dp of each parameter, at p or a vector of them from there on. Other vectors lie at distances.
template <class T> struct Put {  // into a vector
  int64_t there;
  template <class G> INLINE void operator()(T* p, G g) const { store(p + there, g); }
};
template <class T> struct Add {  // to a vector
  int64_t there;
  template <class G> INLINE void operator()(T* p, G g) const { store(p + there, load(p + there, g) + g); }
};
template <class T> struct Step {  // a step of descent
  int64_t there;
  T alpha;
  template <class G> INLINE void operator()(T* p, G g) const { store(p + there, load(p, g) - alpha * g); }
};
template <class G, class T> INLINE G cut(G g, T most) {  // to what lies between -most and most; nan stays nan
  const G limit = most - G{};
  return g > limit ? limit : g < -limit ? -limit : g;
}
template <class T> struct SizedStep {  // the same with a size for each, the gradient cut, and kept as it was
  int64_t there, sizes, gradient;
  T most;
  template <class G> INLINE void operator()(T* p, G g) const {
    store(p + gradient, g), store(p + there, load(p, g) - load(p + sizes, g) * cut(g, most));
  }
};
template <class T> struct Drop {
  template <class G> INLINE void operator()(T*, G) const {}
};

// What a network is, and the memory that a call needs besides.
struct Shape {
  int64_t inputs, outputs, depth;
  const int64_t* widths;  // of the hidden layers
  int64_t points;         // at most
  int64_t tapes, slots;   // passes that are remembered at a time; vectors like theta, beside theta and a sum
  int64_t scratch;        // numbers that a head takes
};

// The points of the tasks of a run, in rows: their support sets one after the other, then their query sets, or the one that
// they share.
struct Sets {
  int64_t tasks, shots, queries;
  bool shared;
  int64_t support(int64_t task) const { return task * shots; }
  int64_t query(int64_t task) const { return tasks * shots + (shared ? 0 : task * queries); }
  int64_t points() const { return tasks * shots + (shared ? 1 : tasks) * queries; }
};

// The output layer of a network (with one output) as it adapts to a task, while the features h of the points stay.
template <class T> struct Head {
  using U = V<T>;
  static constexpr int64_t L = Simd<T>::lanes;

  Sets sets;
  int64_t task, ld;
  const T* h;       // (points, ld)
  const T* weight;  // before adaptation, (ld)
  T bias;

  // What is asked for: the gradient of the query loss after adaptation,
  //   dL/dh = sum_d a_d b_d' at the support set,   dL/dh = r v' at the query set
  // and that of the head before adaptation, added up over tasks.
  T *a, *b, *r, *v;  // (depth, shots), (depth, ld), (queries), (ld)
  T *along_weight, *along_bias;
  T* spare;

  // h w + bias - y at the support or the query set; without y, h w + bias.
  template <bool QUERY> void errors(const T* w, T bias, const T* y, T* result) const {
    const int64_t points = QUERY ? sets.queries : sets.shots;
    for (int64_t p = 0; p < points; p += L) {
      const U z = dots<L>(p, points, ld, rows<QUERY>(), w) + all(bias);
      for (int64_t n = p; n < std::min(p + L, points); ++n) result[n] = y ? z[n - p] - y[n] : z[n - p];
    }
  }

  // start + factor h' numbers, of the support or the query set.
  template <bool QUERY> void transposed(const T* numbers, const T* start, T factor, T* result) const {
    column_sums(
        QUERY ? sets.queries : sets.shots, numbers, rows<QUERY>(), ld,
        [=](int64_t j, U sum) INLINED { store(result + j, load(start + j) + factor * sum); }, [](int64_t, U) INLINED {});
  }

  // dL/df at the query points, where the loss is the mean of squares of the errors that r holds.
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
  T found = 0;
  for (int64_t n = 0; n < count; ++n) found += numbers[n];
  return found;
}

// The Cholesky factor of a positive definite matrix, in its lower triangle; and a solution by it.
template <class T> void factorize(int64_t n, T* a) {
  for (int64_t i = 0; i < n; ++i)
    for (int64_t j = 0; j <= i; ++j) {
      T sum = a[i * n + j];
      for (int64_t k = 0; k < j; ++k) sum -= a[i * n + k] * a[j * n + k];
      a[i * n + j] = i == j ? std::sqrt(sum) : sum / a[j * n + j];
    }
}

template <class T> void solve(int64_t n, const T* root, T* b) {
  for (int64_t i = 0; i < n; ++i) {
    T sum = b[i];
    for (int64_t k = 0; k < i; ++k) sum -= root[i * n + k] * b[k];
    b[i] = sum / root[i * n + i];
  }
  for (int64_t i = n - 1; i >= 0; --i) {
    T sum = b[i];
    for (int64_t k = i + 1; k < n; ++k) sum -= root[k * n + i] * b[k];
    b[i] = sum / root[i * n + i];
  }
}

// One network, and all that its passes need. Slots are vectors like theta, laid out alike: slot 0 is for theta, 1 for a
// sum of gradients. Where no width wants padding, what is like theta is worked on in the caller's flat vectors; else in
// padded slots. A tape is what a pass forward and backward leaves behind: h, delta and bend of each layer.
template <class T, class Activation> class Network {
  using U = V<T>;
  static constexpr int64_t L = Simd<T>::lanes;

 public:
  explicit Network(const Shape& shape) : inputs(shape.inputs), outputs(shape.outputs), hidden(shape.depth) {
    arrange(shape, nullptr);
    memory = workspace<T>(size);
    if (!memory) return;
    if (!dense) std::memset(memory, 0, size * sizeof(T));  // else all is written before it is read,
    arrange(shape, memory);
    for (int64_t n = 0; n < 2 + shape.slots; ++n)  // but for the end of a slot, behind its last bias
      std::fill(slot(n + 1) - padded(outputs), slot(n + 1), T(0));
  }

  explicit operator bool() const { return memory; }

  int64_t parameters;  // with padding

  T* slot(int64_t n) const { return memory + n * parameters; }

  // Take the parameters from a flat vector: W_1, b_1, W_2, b_2, ...
  void read(const T* theta) {
    if (dense) {
      place(const_cast<T*>(theta));  // who descends goes elsewhere
    } else {
      std::memset(slot(0), 0, parameters * sizeof(T));  // a network that diverged leaves no numbers in the padding
      read(theta, slot(0));
      place(slot(0));
    }
  }

  // Take a flat vector into a slot.
  void read(const T* from, T* slot) {
    pieces(slot, [&](T* at, int64_t n) { std::memcpy(at, from, n * sizeof(T)), from += n; });
  }

  void write(const T* slot, T* to) {
    if (slot != to) pieces(const_cast<T*>(slot), [&](const T* at, int64_t n) { std::memcpy(to, at, n * sizeof(T)), to += n; });
  }

  // Where a result like theta is made: in the caller's vector, or in a slot; `write` when done.
  T* room(T* result, int64_t n) const { return dense ? result : slot(n); }

  // Have the parameters lie at a place; return it, and its end.
  T* place(T* at) {
    T* const begin = at;
    const auto take = [&](int64_t count) { return std::exchange(at, at + count); };
    for (Layer<T>& layer : hidden)
      layer.weight = take((&layer == &hidden[0] ? inputs : padded(layer.in)) * layer.ld), layer.bias = take(layer.ld);
    weight = take(outputs * hidden.back().ld), bias = take(padded(outputs));
    first_bias = hidden[0].bias, theta = begin;
    return at;
  }

  // From here on add numbers to the biases of the first layer, which stay as they are.
  void shift(const T* by) {
    if (!by) return;
    const Layer<T> first = hidden[0];
    std::memset(shifted, 0, first.ld * sizeof(T));
    for (int64_t j = 0; j < first.out; ++j) shifted[j] = first.bias[j] + by[j];
    first_bias = shifted;
  }

  // The end of what a head may take.
  T* scratch_end() const { return memory + size; }

  // Where the parameters lie.
  const T* here() const { return theta; }

  // The part of each layer in a slot: where it begins, how long it is, and which it is.
  template <class Visit> void layers(T* slot, Visit visit) {
    T* at = slot;
    for (size_t l = 0; l <= hidden.size(); ++l) {
      const bool output = l == hidden.size();
      const int64_t rows = l == 0 ? inputs : padded(hidden[l - 1].out);
      const int64_t n = output ? outputs * hidden.back().ld + padded(outputs) : (rows + 1) * hidden[l].ld;
      visit(std::exchange(at, at + n), n, int64_t(l));
    }
  }

  // Work on another tape.
  void use(int64_t tape) {
    T* at = tapes + tape * tape_size;
    const auto take = [&](int64_t count) { return std::exchange(at, at + count); };
    for (Layer<T>& layer : hidden)
      layer.h = take(most * layer.ld), layer.delta = take(most * layer.ld), layer.bend = take(most * layer.ld);
    residual = take(outputs * padded(most));
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

  // h of the hidden layers, one layer after the other, (points, width) each.
  void features(int64_t points, const T* x, T* to) {
    if (dense) for (Layer<T>& layer : hidden) layer.h = std::exchange(to, to + points * layer.ld);
    forward(points, x);
    if (!dense) for (const Layer<T>& layer : hidden)
      for (int64_t p = 0; p < points; ++p, to += layer.out) std::memcpy(to, layer.h + p * layer.ld, layer.out * sizeof(T));
  }

  // The loss times a weight, and its gradient merged into a vector: begun, or added to what is there.
  T add_gradient(int64_t points, const T* x, const T* y, T* sum, bool begin, T weight = 1) {
    return begin ? backpropagate<true, false>(points, x, y, weight, Put<T>{sum - theta})
                 : backpropagate<true, false>(points, x, y, weight, Add<T>{sum - theta});
  }

  // theta <- theta - alpha grad L(theta), from here on at another place.
  void descend(int64_t points, const T* x, const T* y, T alpha, T* to) {
    backpropagate<true, false>(points, x, y, 1, Step<T>{to - theta, alpha});
    place(to);
  }

  // The same with a step size for each parameter; the gradient is kept, and so is what `hessian_product` needs.
  void descend(int64_t points, const T* x, const T* y, const T* sizes, T* gradient, T* to, T most) {
    backpropagate<true, true>(points, x, y, 1, SizedStep<T>{to - theta, sizes - theta, gradient - theta, most});
    place(to);
  }

  // Put the gradient of the sum over tasks of the query loss into a vector, where the head alone adapts: `adapt(head)` says
  // how, and what comes of it. x are the points of all tasks.
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
            const int64_t place = (row + p) * last.ld + j;
            store(last.delta + place, Activation::backward(g, load(last.h + place)));
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
    down<true, false>(sets.points(), x, put);
  }

  // Leave on the tape what `hessian_product` and `gradient_along_shift` need.
  void record(int64_t points, const T* x, const T* y) {
    backpropagate<false, true>(points, x, y, 1, Drop<T>{});
  }

  // dL / d shift, (width).
  void gradient_along_shift(int64_t points, const T* x, T* result) { first_sums(points, x, hidden[0].delta, result); }

  // Add a factor times H v, by what is on the tape, to a vector. v is like theta.
  //
  //   R{h_0} = 0,   R{z_l} = R{h_{l-1}} W_l + h_{l-1} V_l + v_l,   R{h_l} = f'(z_l) R{z_l}
  //   R{g_{l-1}} = R{delta_l} W_l^T + delta_l V_l^T,   R{delta_l} = f'(z_l) R{g_l} + bend_l R{h_l}
  //   R{dL/dW_l} = R{h_{l-1}}^T delta_l + h_{l-1}^T R{delta_l},   R{dL/db_l} = sum_points R{delta_l}
  void hessian_product(int64_t points, const T* x, const T* v, T factor, T* result) {
    change<false>(points, x, v, factor, result);
  }

  // The same where v is a shift alone, (width); and the part of H v along the shift.
  void hessian_product_of_shift(int64_t points, const T* x, const T* v, T factor, T* sum, T* along_shift) {
    const Layer<T> first = hidden[0];
    std::memset(columns, 0, first.ld * sizeof(T));
    std::memcpy(columns, v, first.out * sizeof(T));
    change<true>(points, x, columns, factor, sum);
    first_sums(points, x, first.delta_change, along_shift);
  }

  // Put the gradient of sum(cotangent * h of the last hidden layer) into a vector. `features` gave h of all layers.
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
    down<true, false>(points, x, Put<T>{sum - theta});
  }

 private:
  // Lay everything out from a place in memory; count it.
  void arrange(const Shape& shape, T* begin) {
    int64_t in = inputs, widest = 0;
    dense = outputs == 1;
    tape_size = 0, most = shape.points;
    const int64_t* width = shape.widths;
    for (Layer<T>& layer : hidden) {
      layer.in = in, layer.out = *width++, layer.ld = padded(layer.out);
      dense = dense && layer.out == layer.ld, in = layer.out, widest = std::max(widest, layer.ld);
      tape_size += 3 * most * layer.ld;
    }
    tape_size += outputs * padded(most);
    parameters = place(begin) - begin;
    T* at = begin + (2 + shape.slots) * parameters;
    const auto take = [&](int64_t count) { return std::exchange(at, at + count); };
    columns = take(widest * BLOCK), direction_columns = take(widest * BLOCK), shifted = take(hidden[0].ld);
    for (Layer<T>& layer : hidden) layer.h_change = take(most * layer.ld), layer.delta_change = take(most * layer.ld);
    residual_change = take(outputs * padded(most));
    tapes = take(shape.tapes * tape_size);
    scratch = take(shape.scratch);
    size = at - begin;
    use(0);
  }

  // Each contiguous piece of a flat vector at its place in a slot, and how long it is.
  template <class Visit> void pieces(T* slot, Visit visit) {
    T* const before = theta;
    place(slot);
    for (const Layer<T>& layer : hidden) {
      const int64_t rows = layer.out == layer.ld ? 1 : layer.in;  // or all of them lie together
      for (int64_t i = 0; i < rows; ++i) visit(layer.weight + i * layer.ld, layer.in / rows * layer.out);
      visit(layer.bias, layer.out);
    }
    const Layer<T> last = hidden.back();
    if (outputs == 1) visit(weight, last.out);
    else for (int64_t i = 0; i < last.out; ++i)
      for (int64_t o = 0; o < outputs; ++o) visit(weight + o * last.ld + i, 1);  // a slot has a row for each output
    visit(bias, outputs);
    place(before);
  }

  APART void forward(int64_t points, const T* x) {
    const Layer<T> first = hidden[0];
    const T* const biases = first_bias;
    product(
        points, first.ld, [&](int64_t j) INLINED { return load(biases + j); },
        [&](int64_t p, int64_t j, U z) INLINED { store(first.h + p * first.ld + j, Activation::forward(z)); },
        Factors<T>{inputs, x, inputs, 1, first.weight, first.ld});
    for (size_t l = 1; l < hidden.size(); ++l) {
      const Layer<T> below = hidden[l - 1], here = hidden[l];
      product(
          points, here.ld, [&](int64_t j) INLINED { return load(here.bias + j); },
          [&](int64_t p, int64_t j, U z) INLINED { store(here.h + p * here.ld + j, Activation::forward(z)); },
          Factors<T>{here.in, below.h, below.ld, 1, here.weight, here.ld});
    }
  }

  // Output o at some points at a time.
  template <class Use> INLINE void output(int64_t points, int64_t o, Use put) {
    const Layer<T> last = hidden.back();
    for (int64_t p = 0; p < points; p += L)
      put(p, std::min(L, points - p), dots<L>(p, points, last.ld, last.h, weight + o * last.ld) + all(bias[o]));
  }

  // Return the loss, leave delta of each layer (and bend), and have `put(at, g)` take the gradient of each parameter.
  template <bool WEIGHTS, bool KEEP, class Use>
  APART T backpropagate(int64_t points, const T* x, const T* y, T factor, Use put) {
    T *const residual = this->residual, *const weight = this->weight, *const bias = this->bias;
    const int64_t ld = padded(points);  // from the residuals of one output to those of the next
    const T scale = factor * T(2) / T(points * outputs);
    forward(points, x);
    T loss = 0;
    for (int64_t o = 0; o < outputs; ++o)
      output(points, o, [&](int64_t p, int64_t n, U z) INLINED { std::memcpy(residual + o * ld + p, &z, n * sizeof(T)); });
    const Layer<T> last = hidden.back();
    for (int64_t o = 0; o < outputs; ++o) {
      T* const r = residual + o * ld;
      for (int64_t p = 0; p < points; ++p) {  // dL/d prediction = 2 (prediction - y) / (points outputs)
        const T difference = r[p] - y[p * outputs + o];
        loss = std::fma(difference, difference, loss), r[p] = difference * scale;
      }
    }
    for (int64_t i = 0; i < last.ld; i += BLOCK)
      lower<KEEP>(points, last, i, Factors<T>{outputs, residual, 1, ld, weight + i, last.ld});
    if constexpr (WEIGHTS)
      for (int64_t o = 0; o < outputs; ++o) {
        column_sums(
            points, residual + o * ld, last.h, last.ld,
            [&](int64_t j, U g) INLINED { put(weight + o * last.ld + j, g); }, [](int64_t, U) INLINED {});
        T sum = 0;
        for (int64_t p = 0; p < points; ++p) sum += residual[o * ld + p];
        put(bias + o, sum);
      }
    down<WEIGHTS, KEEP>(points, x, put);
    return factor * loss / T(points * outputs);
  }

  // From delta of the last hidden layer to that of the first, and the gradients of their parameters.
  template <bool WEIGHTS, bool KEEP, class Use> APART void down(int64_t points, const T* x, Use put) {
    for (size_t l = hidden.size() - 1; l > 0; --l) {
      const Layer<T> below = hidden[l - 1], here = hidden[l];
      for (int64_t i = 0; i < below.ld; i += BLOCK) {
        transpose(here, i, here.weight, columns);
        lower<KEEP>(points, below, i, Factors<T>{here.out, here.delta, here.ld, 1, columns, BLOCK});
      }
      if constexpr (WEIGHTS) {
        product(
            here.in, here.ld, zero, [&](int64_t i, int64_t j, U g) INLINED { put(here.weight + i * here.ld + j, g); },
            Factors<T>{points, below.h, 1, below.ld, here.delta, here.ld});
        column_sums(
            points, x, here.delta, here.ld, [](int64_t, U) INLINED {},
            [&](int64_t j, U g) INLINED { put(here.bias + j, g); });
      }
    }
    if constexpr (WEIGHTS) first_gradients(points, x, hidden.front().delta, put);
  }

  // delta (and bend) of BLOCK features of a layer, from one on: dL/dh is a product with what is above.
  template <bool KEEP> APART void lower(int64_t points, Layer<T> layer, int64_t i, Factors<T> above) {
    product(
        points, BLOCK, zero,
        [&](int64_t p, int64_t c, U g) INLINED {
          const int64_t at = p * layer.ld + i + c;
          const U h = load(layer.h + at);
          store(layer.delta + at, Activation::backward(g, h));
          if constexpr (KEEP) store(layer.bend + at, Activation::bend(g, h));
        },
        above);
  }

  // The gradients of the first layer's parameters, by dL/dz there.
  template <class Use> INLINE void first_gradients(int64_t points, const T* x, const T* delta, Use put) {
    const Layer<T> first = hidden.front();
    column_sums(
        points, x, delta, first.ld, [&](int64_t j, U g) INLINED { put(first.weight + j, g); },
        [&](int64_t j, U g) INLINED { put(first.bias + j, g); }, inputs);
    for (int64_t i = 1; i < inputs; ++i)
      column_sums(
          points, x + i, delta, first.ld,
          [&](int64_t j, U g) INLINED { put(first.weight + i * first.ld + j, g); }, [](int64_t, U) INLINED {}, inputs);
  }

  // The sums over points of dL/dz of the first layer, (width).
  void first_sums(int64_t points, const T* x, const T* delta, T* result) {
    column_sums(
        points, x, delta, hidden[0].ld, [](int64_t, U) INLINED {},
        [&](int64_t j, U g) INLINED { store(columns + j, g); });
    std::memcpy(result, columns, hidden[0].out * sizeof(T));
  }

  // `hessian_product`; if SHIFT, v is what the biases of the first layer change by, and nothing else changes.
  template <bool SHIFT> void change(int64_t points, const T* x, const T* v, T factor, T* result) {
    const int64_t there = result - theta, direction = v - theta, ld = padded(points);
    const auto along = [=](const T* parameter) INLINED { return parameter + direction; };
    const auto put = [=](auto* at, auto g) INLINED { store(at + there, load(at + there, g) + factor * g); };
    const Layer<T> first = hidden.front(), last = hidden.back();
    const auto changed = [](const Layer<T>& layer) INLINED {
      return [=](int64_t p, int64_t j, U z) INLINED {
        const int64_t at = p * layer.ld + j;
        store(layer.h_change + at, Activation::backward(z, load(layer.h + at)));
      };
    };

    if constexpr (SHIFT)
      for (int64_t p = 0; p < points; ++p) for (int64_t j = 0; j < first.ld; j += L) changed(first)(p, j, load(v + j));
    else
      product(
          points, first.ld, [&](int64_t j) INLINED { return load(along(first.bias) + j); }, changed(first),
          Factors<T>{inputs, x, inputs, 1, along(first.weight), first.ld});
    for (size_t l = 1; l < hidden.size(); ++l) {
      const Layer<T> below = hidden[l - 1], here = hidden[l];
      const Factors<T> of_h{here.in, below.h_change, below.ld, 1, here.weight, here.ld};
      if constexpr (SHIFT)
        product(points, here.ld, zero, changed(here), of_h);
      else
        product(
            points, here.ld, [&](int64_t j) INLINED { return load(along(here.bias) + j); }, changed(here), of_h,
            Factors<T>{here.in, below.h, below.ld, 1, along(here.weight), here.ld});
    }

    const T scale = T(2) / T(points * outputs);
    for (int64_t o = 0; o < outputs; ++o) {
      T *const r = residual_change + o * ld, sum = 0;
      for (int64_t p = 0; p < points; p += L) {
        U z = dots<L>(p, points, last.ld, last.h_change, weight + o * last.ld);
        if constexpr (!SHIFT) z += dots<L>(p, points, last.ld, last.h, along(weight) + o * last.ld) + all(along(bias)[o]);
        z *= all(scale);
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
      if constexpr (SHIFT) lower_change(points, last, i, of_delta);
      else lower_change(points, last, i, of_delta, Factors<T>{outputs, residual, 1, ld, along(weight) + i, last.ld});
    }

    for (size_t l = hidden.size() - 1; l > 0; --l) {
      const Layer<T> below = hidden[l - 1], here = hidden[l];
      product(
          here.in, here.ld, zero, [&](int64_t i, int64_t j, U g) INLINED { put(here.weight + i * here.ld + j, g); },
          Factors<T>{points, below.h_change, 1, below.ld, here.delta, here.ld},
          Factors<T>{points, below.h, 1, below.ld, here.delta_change, here.ld});
      column_sums(
          points, x, here.delta_change, here.ld, [](int64_t, U) INLINED {},
          [&](int64_t j, U g) INLINED { put(here.bias + j, g); });
      for (int64_t i = 0; i < below.ld; i += BLOCK) {
        transpose(here, i, here.weight, columns);
        const Factors<T> of_delta{here.out, here.delta_change, here.ld, 1, columns, BLOCK};
        if constexpr (SHIFT) {
          lower_change(points, below, i, of_delta);
        } else {
          transpose(here, i, along(here.weight), direction_columns);
          lower_change(points, below, i, of_delta,
                       Factors<T>{here.out, here.delta, here.ld, 1, direction_columns, BLOCK});
        }
      }
    }
    first_gradients(points, x, first.delta_change, put);
  }

  // R{delta} of BLOCK features of a layer, from one on.
  template <class... Above> APART void lower_change(int64_t points, Layer<T> layer, int64_t i, Above... above) {
    product(
        points, BLOCK, zero,
        [&](int64_t p, int64_t c, U g) INLINED {
          const int64_t at = p * layer.ld + i + c;
          store(layer.delta_change + at, Activation::backward(g, load(layer.h + at)) +
                                             load(layer.bend + at) * load(layer.h_change + at));
        },
        above...);
  }

  // BLOCK rows of weights, from one on, as columns: (out, BLOCK).
  void transpose(const Layer<T>& layer, int64_t row, const T* from, T* to) {
    for (int64_t i = 0; i < BLOCK; i += L)
      for (int64_t j = 0; j < layer.out; j += L)
        transpose_square(from + (row + i) * layer.ld + j, layer.ld, to + j * BLOCK + i, BLOCK);
  }

  static constexpr auto zero = [](int64_t) INLINED { return U{}; };

  int64_t inputs, outputs, size, tape_size, most;
  bool dense;  // no width is padded
  std::vector<Layer<T>> hidden;
  T *memory, *theta, *weight, *bias, *first_bias;
  T *tapes, *residual, *residual_change, *columns, *direction_columns, *shifted, *scratch;
};

// --- stacks --------------------------------------------------------------------------------------------------------

// Where the numbers of the first network of a stack lie, and the strides of the two axes of the stack.
template <class T> struct Stack {
  const T* at;
  int64_t outer, inner;
  const T* operator()(int64_t i, int64_t j) const { return at ? at + i * outer + j * inner : nullptr; }
};

// The same for each step, with the stride from one step to the next.
template <class T> struct Steps : Stack<T> {
  int64_t step;
  const T* operator()(int64_t i, int64_t j, int64_t k) const { return Stack<T>::operator()(i, j) + k * step; }
};

// What is asked: `Job` of fused.py, field by field. Results are contiguous, (outer, inner, ...) or, summed over the inner
// axis, (outer, ...).
template <class T> struct Job {
  int64_t activation, inputs, outputs, depth;
  const int64_t* widths;
  int64_t parameters, outer, inner, steps, points, queries;
  int64_t length;  // of step sizes: 1, or one for each layer, or one for each parameter; of a context
  const T* most;   // what a gradient is cut at, where step sizes have a length; null for none
  int64_t every;   // whether what is after each step counts, or the last alone; of what adapts a part, its steps
  Stack<T> theta, v;
  Steps<T> x, y, sizes;
  Stack<T> query, labels, shift, hidden;
  Steps<T> asked, answers;  // query sets of each task, where x and y are support sets of tasks instead of those of steps
  T *result, *second;
};

template <class T, class Body> int for_each(const Job<T>& job, const Shape& shape, Body body);

template <class T, class Body> int for_each(const Job<T>& job, int64_t tapes, int64_t slots, Body body) {
  const int64_t most = std::max(job.points, job.queries);
  return for_each(job, Shape{job.inputs, job.outputs, job.depth, job.widths, most, tapes, slots, 0}, body);
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
  return for_each(job, 1, job.length > 1 ? 2 : 0, body);
}

// Step sizes of each parameter, into a slot.
template <class T, class Network> void spread(const Job<T>& job, Network& network, const T* sizes, T* slot) {
  if (job.length == job.parameters) return network.read(sizes, slot);
  network.layers(slot, [&](T* begin, int64_t n, int64_t layer) {
    std::fill(begin, begin + n, sizes[job.length == 1 ? 0 : layer]);
  });
}

template <class T> T most(const Job<T>& job) { return job.most ? *job.most : std::numeric_limits<T>::infinity(); }

// Step k of an inner loop, from here on at another place.
template <class T, class Network>
void step(const Job<T>& job, Network& network, int64_t i, int64_t j, int64_t k, T* to) {
  const T *const x = job.x(i, j, k), *const y = job.y(i, j, k), *const sizes = job.sizes(i, j, k);
  if (job.length == 1) return network.descend(job.points, x, y, *sizes, to);
  if (k == 0 || job.sizes.step) spread(job, network, sizes, network.slot(2));
  network.descend(job.points, x, y, network.slot(2), network.slot(3), to, most(job));
}

template <class T> int predict(const Job<T>& job) {
  return for_each(job, [&](auto& network, int64_t i, int64_t j, int64_t n) {
    network.shift(job.shift(i, j));
    network.predict(job.queries, job.query(i, j), job.result + n * job.queries * job.outputs);
  });
}

template <class T> int loss_and_gradient(const Job<T>& job) {
  return for_each(job, [&](auto& network, int64_t i, int64_t j, int64_t n) {
    T *const result = job.result + n * job.parameters, *const gradient = network.room(result, 1);
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

// Sums over the inner axis, (outer, parameters), of the gradients at what the steps lead to; and, of networks that are
// shifted, the gradient along the shift, (outer, inner, width).
template <class T> int summed_gradient(const Job<T>& job) {
  return for_each(job, [&](auto& network, int64_t i, int64_t j, int64_t n) {
    T *const result = job.result + i * job.parameters, *const sum = network.room(result, 1);
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

// The gradient of sum(v * features), v (points, width).
template <class T> int pulled_back(const Job<T>& job) {
  return for_each(job, 1, 0, [&](auto& network, int64_t i, int64_t j, int64_t n) {
    T* const gradient = network.slot(1);
    std::fill(gradient, gradient + network.parameters, T(0));
    network.pull_back(job.queries, job.query(i, j), job.hidden(i, j), job.v(i, j), gradient);
    network.write(gradient, job.result + n * job.parameters);
  });
}

template <class T> int descend(const Job<T>& job) {
  return for_each(job, [&](auto& network, int64_t i, int64_t j, int64_t n) {
    T *const result = job.result + n * job.parameters, *const theta = network.room(result, 0);
    for (int64_t k = 0; k < job.steps; ++k) step(job, network, i, j, k, theta);
    network.write(job.steps ? theta : network.here(), result);
  });
}

// The predictions of each, (steps + 1, outer, inner, queries, outputs), or after the last step alone.
template <class T> int predict_along(const Job<T>& job) {
  return for_each(job, [&](auto& network, int64_t i, int64_t j, int64_t n) {
    for (int64_t k = 0; k <= job.steps; ++k) {
      if (k > 0) step(job, network, i, j, k - 1, network.slot(0));
      if (!job.every && k < job.steps) continue;
      const int64_t before = (job.every ? k * job.outer * job.inner + n : n) * job.queries * job.outputs;
      network.predict(job.queries, job.query(i, j), job.result + before);
    }
  });
}

// Sums over the inner axis of the gradient of the query loss after the steps, or of the mean of the losses after each:
// with respect to theta, (outer, parameters), and if wanted to the step sizes, (outer, steps or 1, length).
//
//   v_U = w_U grad L(phi_U; query),   v_k = v_{k+1} - H(phi_k; x_k, y_k) (alpha_k * v_{k+1}) + w_k grad L(phi_k; query)
//   dL / d alpha_k = -grad L(phi_k; x_k, y_k) * v_{k+1}
//
// What is cut counts as cut there, and not at all in v_{k+1} where it goes into H.
template <class T> int gradient_through(const Job<T>& job) {
  const int64_t steps = job.steps, kinds = job.sizes.step ? steps : 1;
  const T weight = job.every ? T(1) / T(steps) : T(1), limit = most(job);
  return for_each(job, steps + 1, 2 * steps + 2 * kinds + 3, [&](auto& network, int64_t i, int64_t j, int64_t) {
    int64_t next = 2;
    const auto take = [&](int64_t count) {
      const int64_t first = std::exchange(next, next + count);
      return [&network, first](int64_t n) { return network.slot(first + n); };
    };
    const auto phi = take(steps + 1), gradient = take(steps), sizes = take(kinds), along = take(kinds);
    T *const v = take(1)(0), *const direction = take(1)(0), *const sum = network.slot(1);
    const T *const query = job.query(i, j), *const labels = job.labels(i, j);
    const auto of = [&](int64_t k) { return kinds == 1 ? 0 : k; };

    if (j == 0 || job.sizes.inner)
      for (int64_t k = 0; k < kinds; ++k) spread(job, network, job.sizes(i, j, k), sizes(k));
    if (j == 0) {
      std::fill(sum, sum + network.parameters, T(0));
      for (int64_t k = 0; k < kinds; ++k) std::fill(along(k), along(k) + network.parameters, T(0));
    }
    network.read(job.theta(i, j), phi(0));
    network.place(phi(0));
    for (int64_t k = 0; k < steps; ++k) {
      network.use(k);
      network.descend(job.points, job.x(i, j, k), job.y(i, j, k), sizes(of(k)), gradient(k), phi(k + 1), most(job));
    }
    network.use(steps);
    network.add_gradient(job.queries, query, labels, v, true, weight);
    for (int64_t k = steps - 1; k >= 0; --k) {
      T *const alpha = sizes(of(k)), *const g = gradient(k), *const a = along(of(k));
      for (int64_t p = 0; p < network.parameters; p += Simd<T>::lanes) {
        const V<T> slope = load(g + p), used = cut(slope, limit);
        store(direction + p, used == slope ? load(alpha + p) * load(v + p) : V<T>{});
        if (job.second) store(a + p, load(a + p) - used * load(v + p));
      }
      network.use(k);
      network.place(phi(k));
      network.hessian_product(job.points, job.x(i, j, k), direction, T(-1), v);
      if (!job.every || k == 0) continue;
      network.use(steps);
      network.add_gradient(job.queries, query, labels, v, false, weight);
    }
    for (int64_t p = 0; p < network.parameters; p += Simd<T>::lanes) store(sum + p, load(sum + p) + load(v + p));

    if (j < job.inner - 1) return;
    network.write(sum, job.result + i * job.parameters);
    for (int64_t k = 0; job.second && k < kinds; ++k) {
      T* const to = job.second + (i * kinds + k) * job.length;
      if (job.length == job.parameters) network.write(along(k), to);
      else std::fill(to, to + job.length, T(0)), network.layers(along(k), [&](const T* from, int64_t n, int64_t layer) {
        to[job.length == 1 ? 0 : layer] += total(n, from);
      });
    }
  });
}

// The gradients of the sum over tasks of the query loss of networks whose heads adapt, (outer, inner, parameters). `adapt`
// takes a head, its labels, and the place of the network in the stack; of depth and spare numbers see `Head`.
template <class T, class Adapt> int through_heads(const Job<T>& job, int64_t depth, int64_t spare, Adapt adapt) {
  const Sets sets{job.steps, job.points, job.queries, job.asked.step == 0};
  const int64_t ld = padded(job.widths[job.depth - 1]), rows = sets.points() * job.inputs;
  const int64_t scratch = sets.tasks * (depth * (sets.shots + ld) + sets.queries + ld) + ld + spare + rows;
  const Shape shape{job.inputs, job.outputs, job.depth, job.widths, sets.points(), 1, 0, scratch};
  return for_each(job, shape, [&](auto& network, int64_t i, int64_t j, int64_t n) {
    T* const x = network.scratch_end() - rows;
    for (int64_t t = 0; t < sets.tasks; ++t) {
      std::copy_n(job.x(i, j, t), sets.shots * job.inputs, x + sets.support(t) * job.inputs);
      std::copy_n(job.asked(i, j, t), sets.queries * job.inputs, x + sets.query(t) * job.inputs);
    }
    T *const result = job.result + n * job.parameters, *const gradient = network.room(result, 1);
    network.gradient_through_head(
        sets, x, depth,
        [&](Head<T>& head) { adapt(head, job.y(i, j, head.task), job.answers(i, j, head.task), n); }, gradient);
    network.write(gradient, result);
  });
}

// Descent of the head, in `every` steps of one size: the equations of anil.py.
template <class T> int gradient_through_head(const Job<T>& job) {
  const int64_t steps = job.every, ld = padded(job.widths[job.depth - 1]);
  return through_heads(job, 2 * steps, 2 * ld, [&](Head<T>& head, const T* y, const T* labels, int64_t n) {
    const int64_t shots = head.sets.shots;
    const T step = 2 * *job.sizes(n / job.inner, n % job.inner, 0) / T(shots);
    T *const u = head.spare, *const none = u + ld, bias = head.bias;
    std::fill(none, none + ld, T(0));
    const auto w = [&](int64_t k) { return k < steps ? head.b + 2 * k * ld : head.v; };
    const auto error = [&](int64_t k) { return head.a + (2 * k + 1) * shots; };  // of step k, beside it q
    std::copy_n(head.weight, ld, w(0));
    for (int64_t k = 0; k < steps; ++k) {
      head.template errors<false>(w(k), bias, y, error(k));
      head.template transposed<false>(error(k), w(k), -step, w(k + 1));
      bias -= step * sum_of(shots, error(k));
    }
    head.template errors<true>(head.v, bias, labels, head.r);
    head.to_gradient();
    head.template transposed<true>(head.r, none, 1, u);
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

// Ridge regression of what the head leaves, with weights lambda = *sizes: the equations of ridge.py. Second are the
// gradients along log lambda, (outer, inner).
template <class T> int gradient_through_ridge(const Job<T>& job) {
  const int64_t shots = job.points, ld = padded(job.widths[job.depth - 1]), networks = job.outer * job.inner;
  std::fill(job.second, job.second + networks, T(0));
  return through_heads(job, 2, shots * shots + 2 * ld, [&](Head<T>& head, const T* y, const T* labels, int64_t n) {
    const T lambda = *job.sizes(n / job.inner, n % job.inner, 0);
    T *const K = head.spare, *const k = head.a, *const z = k + shots;
    T *const along = head.b, *const updated = along + ld, *const a = K + shots * shots, *const none = a + ld;
    std::fill(none, none + ld, T(0));
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
    head.template transposed<true>(head.r, none, 1, a);
    head.template errors<false>(a, 0, nullptr, z);
    solve(shots, K, z);
    head.template transposed<false>(z, a, -1, along);
    T along_log = 0;
    for (int64_t p = 0; p < shots; ++p) along_log += z[p] * k[p];
    job.second[n] -= lambda * along_log;
    head.add(along, sum_of(head.sets.queries, head.r) - sum_of(shots, z));
    for (int64_t p = 0; p < shots; ++p) z[p] = -z[p];
  });
}

// Descent of a context of `length` numbers, which shifts the first layer by a product with weights v, in `every` steps of
// one size: the equations of cavia.py. Second are the gradients of these weights, (outer, inner, length, width).
template <class T> int gradient_through_context(const Job<T>& job) {
  const int64_t steps = job.every, length = job.length, width = job.widths[0], shots = job.points;
  std::vector<T> contexts((steps + 1) * length), gradients((steps + 1) * width), u(length), change(width), at(width);
  return for_each(job, steps + 1, 0, [&](auto& network, int64_t i, int64_t j, int64_t n) {
    const T* const weight = job.v(i, j);
    const T alpha = *job.sizes(i, j, 0);
    T *const result = job.result + n * job.parameters, *const sum = network.room(result, 1);
    T* const along = job.second + n * length * width;
    std::fill_n(along, length * width, T(0));
    const auto combined = [&](const T* context) {  // c W
      std::fill(change.begin(), change.end(), T(0));
      for (int64_t c = 0; c < length; ++c)
        for (int64_t h = 0; h < width; ++h) change[h] = std::fma(context[c], weight[c * width + h], change[h]);
      return change.data();
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
      const T *const x = job.x(i, j, t), *const y = job.y(i, j, t), *const asked = job.asked(i, j, t);
      const auto context = [&](int64_t k) { return contexts.data() + k * length; };
      const auto gradient = [&](int64_t k) { return gradients.data() + k * width; };
      std::fill_n(context(0), length, T(0));
      for (int64_t k = 0; k < steps; ++k) {
        network.use(k), network.shift(combined(context(k)));
        network.record(shots, x, y), network.gradient_along_shift(shots, x, gradient(k));
        add_product(-alpha, gradient(k), context(k), context(k + 1));
      }
      network.use(steps), network.shift(combined(context(steps)));
      network.add_gradient(job.queries, asked, job.answers(i, j, t), sum, t == 0);
      network.gradient_along_shift(job.queries, asked, gradient(steps));
      add_outer(1, context(steps), gradient(steps));
      std::fill(u.begin(), u.end(), T(0)), add_product(1, gradient(steps), u.data(), u.data());
      for (int64_t k = steps - 1; k >= 0; --k) {
        network.use(k);
        network.hessian_product_of_shift(shots, x, combined(u.data()), -alpha, sum, at.data());
        add_outer(-alpha, context(k), at.data()), add_outer(-alpha, u.data(), gradient(k));
        add_product(-alpha, at.data(), u.data(), u.data());
      }
    }
    network.write(sum, result);
  });
}

// --- the outer update ----------------------------------------------------------------------------------------------

// Adam of each number by itself: `Adam` in optimizers.py. Moments are two arrays like theta, one behind the other. size
// is that of the step over the first correction, and scale 1 over the root of the second.
template <class T>
int adam(int64_t count, const T* __restrict theta, const T* __restrict gradient, const T* __restrict moments,
         T* __restrict moved, T* __restrict remembered, double beta1, double beta2, double size, double scale,
         double epsilon) {
  const T b1 = T(beta1), b2 = T(beta2), r1 = T(1 - beta1), r2 = T(1 - beta2);
  const T step = T(size), s = T(scale), least = T(epsilon);
  for (int64_t n = 0; n < count; ++n) {
    const T g = gradient[n], m = std::fma(r1, g, b1 * moments[n]), v = std::fma(r2 * g, g, b2 * moments[count + n]);
    moved[n] = std::fma(-step, m / std::fma(std::sqrt(v), s, least), theta[n]);
    remembered[n] = m, remembered[count + n] = v;
  }
  return 0;
}

}  // namespace

// Each returns 0, or 1 if there was no memory.
#pragma GCC visibility push(default)
extern "C" {
extern const char source[] = SOURCE;  // the digest of this file
#define OFFER(name)                                                       \
  int name##_float32(const Job<float>* job) { return name(*job); }       \
  int name##_float64(const Job<double>* job) { return name(*job); }
OFFER(predict)
OFFER(loss_and_gradient)
OFFER(summed_gradient)
OFFER(hessian_product)
OFFER(gradient_along_shift)
OFFER(features)
OFFER(pulled_back)
OFFER(descend)
OFFER(predict_along)
OFFER(gradient_through)
OFFER(gradient_through_head)
OFFER(gradient_through_ridge)
OFFER(gradient_through_context)
#define OFFER_ADAM(name, T)                                                                                     \
  int name(int64_t count, const T* theta, const T* gradient, const T* moments, T* moved, T* remembered,       \
           double beta1, double beta2, double size, double scale, double epsilon) {                            \
    return adam(count, theta, gradient, moments, moved, remembered, beta1, beta2, size, scale, epsilon);        \
  }
OFFER_ADAM(adam_float32, float)
OFFER_ADAM(adam_float64, double)
}
#pragma GCC visibility pop
