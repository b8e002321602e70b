// Stacks of small multilayer perceptrons of one input and one output: predictions, gradients, products with the Hessian
// and whole inner loops.
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
constexpr int ROWS = BYTES == 64 ? 10 : 5;  // of a tile, whose accumulators must fit the registers
constexpr int64_t BLOCK = 32;  // widths are padded to its multiples, with zeros as long as all numbers are finite

#define INLINED __attribute__((always_inline))
#define INLINE inline INLINED

template <class T> struct Simd {
  typedef T V __attribute__((vector_size(BYTES), aligned(sizeof(T)), may_alias));
  static constexpr int64_t lanes = BYTES / sizeof(T);
};
template <class T> using V = typename Simd<T>::V;

template <class T> INLINE V<T> load(const T* p) { return *reinterpret_cast<const V<T>*>(p); }
template <class T> INLINE void store(T* p, V<T> v) { *reinterpret_cast<V<T>*>(p) = v; }
template <class T> INLINE V<T> all(T value) { return value - V<T>{}; }

// The integers that a shuffle takes, one for each lane.
template <class T, class Function> INLINE auto lanes(Function function) {
  decltype(V<T>{} > V<T>{}) found{};
#pragma GCC unroll 16
  for (int64_t i = 0; i < Simd<T>::lanes; ++i) found[i] = function(i);
  return found;
}

// --- activations: h = f(z), dL/dz from dL/dh and h, and dL/dh R{f'(z)} from dL/dh, h and R{h} ------------------------

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
  template <class U> static INLINE U curvature(U g, U h, U change) { return -2 * (g * h) * change; }
};

struct Relu {
  template <class U> static INLINE U forward(U z) { return z < 0 ? U{} : z; }
  template <class U> static INLINE U backward(U g, U h) { return h > 0 ? g : U{}; }
  template <class U> static INLINE U curvature(U, U, U) { return U{}; }
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

template <int R, class Start, class Finish, class... Products>
INLINE void rest(int64_t rows, Start start, Finish finish, Products... products) {
  if constexpr (R > 0) {
    if (rows == R) return tile<R>(start, finish, products...);
    rest<R - 1>(rows, start, finish, products...);
  }
}

// All tiles of a sum of products of `rows` by `columns`; start(j) and finish(i, j, sum) see the places in the whole.
template <class T, class Start, class Finish, class... More>
INLINE void product(int64_t rows, int64_t columns, Start start, Finish finish, Factors<T> factors, More... more) {
  for (int64_t j = 0; j < columns; j += 2 * Simd<T>::lanes) {
    const auto from = [&](int64_t c) INLINED { return start(j + c); };
    int64_t i = 0;
    const auto to = [&](int64_t r, int64_t c, V<T> sum) INLINED { finish(i + r, j + c, sum); };
    for (; i + ROWS <= rows; i += ROWS) tile<ROWS>(from, to, factors.at(i, j), more.at(i, j)...);
    rest<ROWS - 1>(rows - i, from, to, factors.at(i, j), more.at(i, j)...);
  }
}

// For some columns of b, a multiple of BLOCK: sum_k a[k] b[k, j] and sum_k b[k, j], k in order. Sums of many columns are
// made at a time, since each waits for itself.
template <class T, class Weighted, class Plain>
INLINE void column_sums(int64_t depth, const T* a, const T* b, int64_t ld, Weighted weighted, Plain plain) {
  const auto sums = [&](int64_t j, auto vectors) INLINED {
    constexpr int64_t L = Simd<T>::lanes, N = vectors;
    V<T> sum[N] = {}, unweighted[N] = {};
    const T* row = b + j;
    for (int64_t k = 0; k < depth; ++k, row += ld)
#pragma GCC unroll 16
      for (int64_t c = 0; c < N; ++c) sum[c] += all(a[k]) * load(row + c * L), unweighted[c] += load(row + c * L);
#pragma GCC unroll 16
    for (int64_t c = 0; c < N; ++c) weighted(j + c * L, sum[c]), plain(j + c * L, unweighted[c]);
  };
  constexpr std::integral_constant<int64_t, BLOCK / Simd<T>::lanes> one{};
  constexpr std::integral_constant<int64_t, 2 * one> two{};
  int64_t j = 0;
  for (; j + 2 * BLOCK <= ld; j += 2 * BLOCK) sums(j, two);
  if (j < ld) sums(j, one);
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

template <class T> struct Layer {
  int64_t in, out, ld;  // features in and out, and those out with padding
  T* weight;            // (in, ld)
  T* bias;              // (ld)
  T* h;                 // (points, ld)
};

// The parameters of one network, and all that a gradient needs; for products with the Hessian, room for as much again.
// Where no width wants padding the parameters, and the gradient, are worked on in the caller's flat vectors; else in
// padded copies.
template <class T, class Activation> class Network {
  using U = V<T>;
  static constexpr int64_t L = Simd<T>::lanes;

 public:
  Network(int64_t depth, const int64_t* widths, int64_t most_points, bool twice) : hidden(depth) {
    arrange(widths, most_points, nullptr);
    const int64_t count = twice ? 2 * size : size;
    memory = workspace<T>(count);
    if (!memory) return;
    if (!dense) std::memset(memory, 0, count * sizeof(T));  // else there is no padding, and all is written before read
    arrange(widths, most_points, memory);
  }

  explicit operator bool() const { return memory; }

  // Take the parameters from a flat vector: W_1, b_1, W_2, b_2, ...
  void read(const T* theta) {
    if (dense) {
      place(const_cast<T*>(theta));  // who descends goes elsewhere
    } else {
      std::memset(memory, 0, parameters * sizeof(T));  // a network that diverged leaves no numbers in the padding
      pieces([&](T* at, int64_t n) { std::memcpy(at, theta, n * sizeof(T)), theta += n; });
    }
  }

  void write(T* theta) { copy(theta, 0); }

  void predict(int64_t points, const T* x, T* prediction) {
    const Layer<T> first = hidden[0];
    for (int64_t p = 0; p < points; ++p)
      for (int64_t j = 0; j < first.ld; j += L)
        store(first.h + p * first.ld + j, Activation::forward(load(first.bias + j) + all(x[p]) * load(first.weight + j)));
    for (size_t l = 1; l < hidden.size(); ++l) {
      const Layer<T> below = hidden[l - 1], here = hidden[l];
      product(
          points, here.ld, [&](int64_t j) INLINED { return load(here.bias + j); },
          [&](int64_t p, int64_t j, U z) INLINED { store(here.h + p * here.ld + j, Activation::forward(z)); },
          Factors<T>{here.in, below.h, below.ld, 1, here.weight, here.ld});
    }
    const Layer<T> last = hidden.back();
    for (int64_t p = 0; p < points; p += L) {
      const U z = dots<L>(p, points, last.ld, last.h, weight) + all(bias[0]);
      std::memcpy(prediction + p, &z, std::min(L, points - p) * sizeof(T));
    }
  }

  // Return the loss, and add its gradient to a sum in a flat vector, or begin one; `write_sum` when done.
  T add_gradient(int64_t points, const T* x, const T* y, T* sum, bool begin) {
    return begin ? backpropagate(points, x, y, distance(sum), [](auto, auto, auto g) INLINED { return g; })
                 : backpropagate(points, x, y, distance(sum), [](auto, auto before, auto g) INLINED { return before + g; });
  }

  void write_sum(T* sum) { copy(sum, distance(sum)); }

  // theta <- theta - alpha grad L(theta), from here on in another flat vector (`write` when done) or in memory of ours.
  void descend(int64_t points, const T* x, const T* y, T alpha, T* to = nullptr) {
    if (!dense || !to) to = memory;
    const int64_t there = to - hidden[0].weight;
    backpropagate(points, x, y, there, [&](auto theta, auto, auto g) INLINED { return theta - alpha * g; });
    place(to);
  }

  // Put H v = R{gradient} into a flat vector; `write_sum` when done. R{.} = d/dr (.) of theta + r v at r = 0, and what it
  // makes of an array lies `size` further on; R{theta} = v, as theta itself, may lie in the caller's flat vector.
  void hessian_product(int64_t points, const T* x, const T* y, const T* v, T* result) {
    direction = dense ? v - hidden[0].weight : size;
    if (!dense) pieces([&](T* at, int64_t n) { std::memcpy(at + size, v, n * sizeof(T)), v += n; });
    const int64_t there = distance(result);
    const T scale = T(2) / T(points);
    const auto put = [&](T* at, U g) INLINED { store(at + there, g); };
    const auto zero = [](int64_t) INLINED { return U{}; };
    predict(points, x, residual);
    predict_change(points, x, change(residual));

    T total = 0;
    for (int64_t p = 0; p < points; ++p) {
      residual[p] = (residual[p] - y[p]) * scale;
      total += change(residual)[p] *= scale;
    }
    bias[there] = total;

    const Layer<T> last = hidden.back();
    product(
        1, last.ld, zero, [&](int64_t, int64_t j, U g) INLINED { put(weight + j, g); },
        Factors<T>{points, residual, 0, 1, change(last.h), last.ld},
        Factors<T>{points, change(residual), 0, 1, last.h, last.ld});
    for (int64_t i = 0; i < last.ld; i += BLOCK)
      hand_down(points, last, i, 1, residual, 1, weight + i, along(weight) + i);
    std::swap(delta, next);

    for (size_t l = hidden.size() - 1; l > 0; --l) {
      const Layer<T> below = hidden[l - 1], here = hidden[l];
      product(
          here.in, here.ld, zero,
          [&](int64_t i, int64_t j, U g) INLINED { put(here.weight + i * here.ld + j, g); },
          Factors<T>{points, change(below.h), 1, below.ld, delta, here.ld},
          Factors<T>{points, below.h, 1, below.ld, change(delta), here.ld});
      column_sums(
          points, x, change(delta), here.ld, [](int64_t, U) INLINED {},
          [&](int64_t j, U g) INLINED { put(here.bias + j, g); });
      for (int64_t i = 0; i < below.ld; i += BLOCK) {
        transpose(here, i, here.weight, columns);
        transpose(here, i, along(here.weight), change(columns));
        hand_down(points, below, i, here.out, delta, here.ld, columns, change(columns));
      }
      std::swap(delta, next);
    }
    const Layer<T> first = hidden.front();
    column_sums(
        points, x, change(delta), first.ld, [&](int64_t j, U g) INLINED { put(first.weight + j, g); },
        [&](int64_t j, U g) INLINED { put(first.bias + j, g); });
  }

 private:
  // Lay everything out from a place in memory; count it.
  void arrange(const int64_t* widths, int64_t points, T* begin) {
    int64_t in = 1, widest = 0;
    dense = true;
    for (Layer<T>& layer : hidden) {
      layer.in = in, layer.out = *widths++, layer.ld = padded(layer.out);
      dense = dense && layer.out == layer.ld, in = layer.out, widest = std::max(widest, layer.ld);
    }
    T* at = place(begin);
    parameters = at - begin;
    at += parameters;  // of a sum of gradients
    const auto take = [&](int64_t count) { return std::exchange(at, at + count); };
    for (Layer<T>& layer : hidden) layer.h = take(points * layer.ld);
    columns = take(widest * BLOCK), residual = take(padded(points));
    delta = take(points * widest), next = take(points * widest);
    size = at - begin;
  }

  // Have the parameters, padded to a multiple of BLOCK in all, lie from a place on; return their end.
  T* place(T* at) {
    const auto take = [&](int64_t count) { return std::exchange(at, at + count); };
    for (Layer<T>& layer : hidden)
      layer.weight = take((&layer == &hidden[0] ? 1 : padded(layer.in)) * layer.ld), layer.bias = take(layer.ld);
    weight = take(hidden.back().ld), bias = take(BLOCK);
    return at;
  }

  // Each contiguous piece of the flat vector, and how long it is.
  template <class Visit> void pieces(Visit visit) {
    for (const Layer<T>& layer : hidden) {
      const int64_t rows = layer.out == layer.ld ? 1 : layer.in;  // or all of them lie together
      for (int64_t i = 0; i < rows; ++i) visit(layer.weight + i * layer.ld, layer.in / rows * layer.out);
      visit(layer.bias, layer.out);
    }
    visit(weight, hidden.back().out);
    visit(bias, 1);
  }

  // From a parameter to its place in a sum: in the caller's flat vector, or in a padded copy.
  int64_t distance(const T* sum) const { return (dense ? sum : memory + parameters) - hidden[0].weight; }

  // Copy what lies at a distance from the parameters to a flat vector, unless it is there.
  void copy(T* to, int64_t distance) {
    if (hidden[0].weight + distance == to) return;
    pieces([&](const T* at, int64_t n) { std::memcpy(to, at + distance, n * sizeof(T)), to += n; });
  }

  // Return the loss, and have each number at a distance from a parameter p become merge(p, that number, dL / dp).
  template <class Merge> INLINE T backpropagate(int64_t points, const T* x, const T* y, int64_t distance, Merge merge) {
    T *const residual = this->residual, *const weight = this->weight, *const bias = this->bias;
    T *delta = this->delta, *next = this->next;  // no store can change what has no address
    const auto put = [&](T* at, U g) INLINED { store(at + distance, merge(load(at), load(at + distance), g)); };
    const T scale = T(2) / T(points);
    const auto zero = [](int64_t) INLINED { return U{}; };
    predict(points, x, residual);

    T loss = 0, total = 0;  // dL/d prediction = 2 (prediction - y) / points
    for (int64_t p = 0; p < points; ++p) {
      const T r = residual[p] - y[p];
      loss = std::fma(r, r, loss), total += residual[p] = r * scale;
    }

    const Layer<T> last = hidden.back();
    for (int64_t p = 0; p < points; ++p)
      for (int64_t j = 0; j < last.ld; j += L)
        store(delta + p * last.ld + j,
              Activation::backward(all(residual[p]) * load(weight + j), load(last.h + p * last.ld + j)));
    column_sums(
        points, residual, last.h, last.ld, [&](int64_t j, U g) INLINED { put(weight + j, g); },
        [](int64_t, U) INLINED {});
    bias[distance] = merge(*bias, bias[distance], total);

    for (size_t l = hidden.size() - 1; l > 0; --l) {
      const Layer<T> below = hidden[l - 1], here = hidden[l];
      for (int64_t i = 0; i < below.ld; i += BLOCK) {
        transpose(here, i, here.weight, columns);
        product(
            points, BLOCK, zero,
            [&](int64_t p, int64_t c, U g) INLINED {
              const int64_t at = p * below.ld + i + c;
              store(next + at, Activation::backward(g, load(below.h + at)));
            },
            Factors<T>{here.out, delta, here.ld, 1, columns, BLOCK});
      }
      product(
          here.in, here.ld, zero,
          [&](int64_t i, int64_t j, U g) INLINED { put(here.weight + i * here.ld + j, g); },
          Factors<T>{points, below.h, 1, below.ld, delta, here.ld});
      column_sums(
          points, x, delta, here.ld, [](int64_t, U) INLINED {},
          [&](int64_t j, U g) INLINED { put(here.bias + j, g); });
      std::swap(delta, next);
    }
    const Layer<T> first = hidden.front();
    column_sums(
        points, x, delta, first.ld, [&](int64_t j, U g) INLINED { put(first.weight + j, g); },
        [&](int64_t j, U g) INLINED { put(first.bias + j, g); });
    return loss / T(points);
  }

  // BLOCK rows of weights, from one on, as columns: (out, BLOCK).
  void transpose(const Layer<T>& layer, int64_t row, const T* from, T* to) {
    for (int64_t i = 0; i < BLOCK; i += L)
      for (int64_t j = 0; j < layer.out; j += L)
        transpose_square(from + (row + i) * layer.ld + j, layer.ld, to + j * BLOCK + i, BLOCK);
  }

  // R{.} of a parameter, which is what v has for it; and of anything else.
  const T* along(const T* parameter) const { return parameter + direction; }
  T* change(T* at) const { return at + size; }

  // R{prediction}, after `predict`:   R{z_l} = R{h_{l-1}} W_l + h_{l-1} V_l + v_l,   R{h_l} = f'(z_l) R{z_l}
  void predict_change(int64_t points, const T* x, T* prediction) {
    const Layer<T> first = hidden[0];
    for (int64_t p = 0; p < points; ++p)
      for (int64_t j = 0; j < first.ld; j += L) {
        const U z = load(along(first.bias) + j) + all(x[p]) * load(along(first.weight) + j);
        T* const h = first.h + p * first.ld + j;
        store(change(h), Activation::backward(z, load(h)));
      }
    for (size_t l = 1; l < hidden.size(); ++l) {
      const Layer<T> below = hidden[l - 1], here = hidden[l];
      product(
          points, here.ld, [&](int64_t j) INLINED { return load(along(here.bias) + j); },
          [&](int64_t p, int64_t j, U z) INLINED {
            T* const h = here.h + p * here.ld + j;
            store(change(h), Activation::backward(z, load(h)));
          },
          Factors<T>{here.in, change(below.h), below.ld, 1, here.weight, here.ld},
          Factors<T>{here.in, below.h, below.ld, 1, along(here.weight), here.ld});
    }
    const Layer<T> last = hidden.back();
    for (int64_t p = 0; p < points; p += L) {
      const U z = dots<L>(p, points, last.ld, change(last.h), weight) +
                  dots<L>(p, points, last.ld, last.h, along(weight)) + all(*along(bias));
      std::memcpy(prediction + p, &z, std::min(L, points - p) * sizeof(T));
    }
  }

  // From delta = dL/dz of a layer of `out` features, and R{delta}, to those of BLOCK features of the layer below, from one
  // on, by their columns w of W^T and v of V^T:
  //   g = delta W^T,   R{g} = R{delta} W^T + delta V^T,   delta = f' g,   R{delta} = f' R{g} + R{f'} g
  void hand_down(int64_t points, Layer<T> below, int64_t i, int64_t out, T* above, int64_t ld, const T* w, const T* v) {
    T *const next = this->next, *const next_change = change(next), *const below_change = change(below.h);
    const auto zero = [](int64_t) INLINED { return U{}; };
    product(
        points, BLOCK, zero,
        [&](int64_t p, int64_t c, U g) INLINED {
          const int64_t at = p * below.ld + i + c;
          const U h = load(below.h + at);
          store(next + at, Activation::backward(g, h));
          store(next_change + at, Activation::curvature(g, h, load(below_change + at)));
        },
        Factors<T>{out, above, ld, 1, w, BLOCK});
    product(
        points, BLOCK, zero,
        [&](int64_t p, int64_t c, U g) INLINED {
          const int64_t at = p * below.ld + i + c;
          store(next_change + at, load(next_change + at) + Activation::backward(g, load(below.h + at)));
        },
        Factors<T>{out, change(above), ld, 1, w, BLOCK}, Factors<T>{out, above, ld, 1, v, BLOCK});
  }

  int64_t parameters, size, direction;
  bool dense;  // no width is padded
  std::vector<Layer<T>> hidden;
  T *memory, *weight, *bias, *columns, *residual, *delta, *next;
};

// --- stacks --------------------------------------------------------------------------------------------------------

// Where the numbers of the first network of a stack lie, and the strides of the two axes of the stack.
template <class T> struct Stack {
  const T* at;
  int64_t outer, inner;
  const T* operator()(int64_t i, int64_t j) const { return at + i * outer + j * inner; }
};

// Points of each network, a batch of them for each step, with the stride from one step to the next.
template <class T> struct Batches : Stack<T> {
  int64_t step;
};

// What is asked: `Job` of fused.py, field by field. Results are contiguous, (outer, inner, ...).
template <class T> struct Job {
  int64_t activation, depth;
  const int64_t* widths;
  int64_t parameters, outer, inner, steps, points, queries;
  Stack<T> theta, v;
  Batches<T> x, y;  // of the steps
  Stack<T> step_size, query, labels;
  T *result, *loss;
};

template <class T, class Body> int for_each(const Job<T>& job, Body body) {
  const auto visit = [&](auto network) {
    if (!network) return 1;
    for (int64_t i = 0; i < job.outer; ++i)
      for (int64_t j = 0; j < job.inner; ++j) network.read(job.theta(i, j)), body(network, i, j, i * job.inner + j);
    return 0;
  };
  const int64_t most = std::max(job.points, job.queries);
  const bool twice = job.v.at;
  return job.activation ? visit(Network<T, Relu>(job.depth, job.widths, most, twice))
                        : visit(Network<T, Tanh>(job.depth, job.widths, most, twice));
}

template <class T> int predict(const Job<T>& job) {
  return for_each(job, [&](auto& network, int64_t i, int64_t j, int64_t n) {
    network.predict(job.queries, job.query(i, j), job.result + n * job.queries);
  });
}

template <class T> int loss_and_gradient(const Job<T>& job) {
  return for_each(job, [&](auto& network, int64_t i, int64_t j, int64_t n) {
    T* const gradient = job.result + n * job.parameters;
    job.loss[n] = network.add_gradient(job.queries, job.query(i, j), job.labels(i, j), gradient, true);
    network.write_sum(gradient);
  });
}

template <class T> int hessian_product(const Job<T>& job) {
  return for_each(job, [&](auto& network, int64_t i, int64_t j, int64_t n) {
    T* const result = job.result + n * job.parameters;
    network.hessian_product(job.queries, job.query(i, j), job.labels(i, j), job.v(i, j), result);
    network.write_sum(result);
  });
}

template <class T, class Network>
void step(const Job<T>& job, Network& network, int64_t i, int64_t j, int64_t k, T* to = nullptr) {
  network.descend(job.points, job.x(i, j) + k * job.x.step, job.y(i, j) + k * job.y.step, *job.step_size(i, j), to);
}

// Sums over the inner axis, (outer, parameters), of the gradients at what the steps lead to.
template <class T> int summed_gradient(const Job<T>& job) {
  return for_each(job, [&](auto& network, int64_t i, int64_t j, int64_t) {
    T* const sum = job.result + i * job.parameters;
    for (int64_t k = 0; k < job.steps; ++k) step(job, network, i, j, k);
    network.add_gradient(job.queries, job.query(i, j), job.labels(i, j), sum, j == 0);
    if (j == job.inner - 1) network.write_sum(sum);
  });
}

template <class T> int descend(const Job<T>& job) {
  return for_each(job, [&](auto& network, int64_t i, int64_t j, int64_t n) {
    T* const theta = job.result + n * job.parameters;
    for (int64_t k = 0; k < job.steps; ++k) step(job, network, i, j, k, theta);
    network.write(theta);
  });
}

// The predictions are (steps + 1, outer, inner, queries).
template <class T> int predict_along(const Job<T>& job) {
  return for_each(job, [&](auto& network, int64_t i, int64_t j, int64_t n) {
    for (int64_t k = 0; k <= job.steps; ++k) {
      if (k > 0) step(job, network, i, j, k - 1);
      network.predict(job.queries, job.query(i, j), job.result + (k * job.outer * job.inner + n) * job.queries);
    }
  });
}

}  // namespace

// Each returns 0, or 1 if there was no memory.
#pragma GCC visibility push(default)
extern "C" {
extern const char source[] = SOURCE;  // the digest of this file
int predict_float32(const Job<float>* job) { return predict(*job); }
int predict_float64(const Job<double>* job) { return predict(*job); }
int loss_and_gradient_float32(const Job<float>* job) { return loss_and_gradient(*job); }
int loss_and_gradient_float64(const Job<double>* job) { return loss_and_gradient(*job); }
int summed_gradient_float32(const Job<float>* job) { return summed_gradient(*job); }
int summed_gradient_float64(const Job<double>* job) { return summed_gradient(*job); }
int hessian_product_float32(const Job<float>* job) { return hessian_product(*job); }
int hessian_product_float64(const Job<double>* job) { return hessian_product(*job); }
int descend_float32(const Job<float>* job) { return descend(*job); }
int descend_float64(const Job<double>* job) { return descend(*job); }
int predict_along_float32(const Job<float>* job) { return predict_along(*job); }
int predict_along_float64(const Job<double>* job) { return predict_along(*job); }
}
#pragma GCC visibility pop
