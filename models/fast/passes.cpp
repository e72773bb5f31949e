// What the decoder does to its maps between its convolutions of integers, and speech encoders to their tokens between
// linear layers, each in one pass (`models.fast.native`).
//
// Maps are bfloat16 in channels-last order (N,H,W,C), and planes float32 (N,3,H,W). A layer's result y, in units of its
// integers, becomes leaky(y * factor + bias) * sqrt(2), where `factor` (N,C) is the unit times the demodulation; it is
// stored already multiplied by `gain` (N,C), the modulation of the layer that reads it, and `peak` (N) becomes the
// largest absolute value, of which `quantise` makes the unit of the next integers. Values that are not finite stay
// visible in `peak`, because bit patterns are compared: those of NaN are above that of infinity.

#include <immintrin.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

#if !(defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512DQ__) && defined(__AVX512VL__))
#error "these passes need AVX-512"
#endif

namespace {

using Half = uint16_t;  // bfloat16
using Vector = __m512;
using Mask = __mmask16;
constexpr int LANES = 16;
constexpr Mask ALL = 0xffff;
constexpr float ROOT = 1.41421356237f, SLOPE = 0.2f, SMALLEST = 1e-12f;

Mask lanes(int count) { return count >= LANES ? ALL : Mask((1u << count) - 1); }

Vector load(const Half* from, Mask mask) {
    __m256i bits = mask == ALL ? _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from))
                               : _mm256_maskz_loadu_epi16(mask, from);
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16));
}

Vector load(const float* from, Mask mask) {
    return mask == ALL ? _mm512_loadu_ps(from) : _mm512_maskz_loadu_ps(mask, from);
}

void store(Half* to, Vector value, Mask mask) {
#ifdef __AVX512BF16__
    __m256i half = (__m256i)_mm512_cvtneps_pbh(value);
#else
    __m512i bits = _mm512_castps_si512(value);
    __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    __m512i rounded = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
    rounded = _mm512_mask_or_epi32(rounded, _mm512_cmp_ps_mask(value, value, _CMP_UNORD_Q), bits,
                                   _mm512_set1_epi32(0x400000));
    __m256i half = _mm512_cvtepi32_epi16(_mm512_srli_epi32(rounded, 16));
#endif
    // Masked stores are slow on some CPUs.
    if (mask == ALL) _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), half);
    else _mm256_mask_storeu_epi16(to, mask, half);
}

Vector set(float value) { return _mm512_set1_ps(value); }

// Without the factor sqrt(2).
Vector leaky(Vector value) { return _mm512_max_ps(_mm512_mul_ps(value, set(SLOPE)), value); }

__m512i larger(__m512i peak, Vector value) {
    __m512i bits = _mm512_and_si512(_mm512_castps_si512(value), _mm512_set1_epi32(0x7fffffff));
    return _mm512_max_epu32(peak, bits);
}

void raise(float* peak, __m512i found) {
    auto* bits = reinterpret_cast<uint32_t*>(peak);
    uint32_t mine = _mm512_reduce_max_epu32(found), now = __atomic_load_n(bits, __ATOMIC_RELAXED);
    while (mine > now && !__atomic_compare_exchange_n(bits, &now, mine, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
    }
}

// Values as integers around 128, in this unit.
template <typename T>
void to_integers(const T* from, uint8_t* to, int count, float unit) {
    Vector inverse = set(1 / unit);
    for (int i = 0; i < count; i += LANES) {
        Mask mask = lanes(count - i);
        __m512i whole = _mm512_cvtps_epi32(_mm512_mul_ps(load(from + i, mask), inverse));
        __m128i bytes = _mm512_cvtepi32_epi8(_mm512_add_epi32(whole, _mm512_set1_epi32(128)));
        if (mask == ALL) _mm_storeu_si128(reinterpret_cast<__m128i*>(to + i), bytes);
        else _mm_mask_storeu_epi8(to + i, mask, bytes);
    }
}

// exp to 2e-7, relatively. The arguments of min and max are in an order that keeps NaN.
Vector exponential(Vector x) {
    x = _mm512_min_ps(set(88.0f), _mm512_max_ps(set(-87.0f), x));
    Vector whole = _mm512_roundscale_ps(_mm512_mul_ps(x, set(1.44269504f)), 0);
    Vector rest = _mm512_fnmadd_ps(whole, set(0.693359375f), x);
    rest = _mm512_fnmadd_ps(whole, set(-2.12194440e-4f), rest);
    Vector sum = set(1.9875691500e-4f);
    for (float next : {1.3981999507e-3f, 8.3334519073e-3f, 4.1665795894e-2f, 1.6666665459e-1f, 5.0000001201e-1f})
        sum = _mm512_fmadd_ps(sum, rest, set(next));
    sum = _mm512_add_ps(_mm512_fmadd_ps(sum, _mm512_mul_ps(rest, rest), rest), set(1));
    return _mm512_scalef_ps(sum, whole);
}

Vector sigmoid(Vector x) {
    return _mm512_div_ps(set(1), _mm512_add_ps(set(1), exponential(_mm512_sub_ps(_mm512_setzero_ps(), x))));
}

// The exact GELU, x/2 (1 + erf(x/sqrt(2))), with erf to 2e-7 (Abramowitz and Stegun 7.1.26).
Vector gelu(Vector x) {
    Vector z = _mm512_mul_ps(_mm512_abs_ps(x), set(0.70710678f));
    Vector t = _mm512_div_ps(set(1), _mm512_fmadd_ps(z, set(0.3275911f), set(1))), sum = set(1.061405429f);
    for (float next : {-1.453152027f, 1.421413741f, -0.284496736f, 0.254829592f})
        sum = _mm512_fmadd_ps(sum, t, set(next));
    Vector far = exponential(_mm512_sub_ps(_mm512_setzero_ps(), _mm512_mul_ps(z, z)));
    Vector rest = _mm512_mul_ps(_mm512_mul_ps(sum, t), far);  // 1 - erf(z)
    // For x < 0 it is |x|/2 (erf - 1), and for others x - x/2 (1 - erf).
    return _mm512_fnmadd_ps(_mm512_mul_ps(_mm512_abs_ps(x), set(0.5f)), rest, _mm512_max_ps(x, _mm512_setzero_ps()));
}

Vector tanh(Vector x) { return _mm512_fmsub_ps(set(2), sigmoid(_mm512_add_ps(x, x)), set(1)); }

// The sum of each of 16 vectors.
Vector sums(const Vector* rows) {
    Vector quads[4];
    for (int i = 0; i < 4; i++) {
        const Vector* r = rows + 4 * i;
        __m512d ab = _mm512_castps_pd(_mm512_add_ps(_mm512_unpacklo_ps(r[0], r[1]), _mm512_unpackhi_ps(r[0], r[1])));
        __m512d cd = _mm512_castps_pd(_mm512_add_ps(_mm512_unpacklo_ps(r[2], r[3]), _mm512_unpackhi_ps(r[2], r[3])));
        quads[i] = _mm512_add_ps(_mm512_castpd_ps(_mm512_unpacklo_pd(ab, cd)),
                                 _mm512_castpd_ps(_mm512_unpackhi_pd(ab, cd)));
    }
    auto halves = [](Vector a, Vector b) {
        return _mm512_add_ps(_mm512_shuffle_f32x4(a, b, 0x88), _mm512_shuffle_f32x4(a, b, 0xdd));
    };
    return halves(halves(quads[0], quads[1]), halves(quads[2], quads[3]));
}

// Row y of a plane (side,side) at twice its side: [1,3,3,1]/4 in both directions around inserted zeros.
// `mixed` has room for side + 2 values.
void upsampled(const float* plane, int side, int y, float* mixed, float* row) {
    int here = y / 2, beside = y % 2 ? here + 1 : here - 1;
    const float *near = plane + size_t(here) * side, *far = plane + size_t(beside) * side;
    mixed[0] = mixed[side + 1] = 0;
    if (beside < 0 || beside >= side)
        for (int x = 0; x < side; x++) mixed[x + 1] = 0.75f * near[x];
    else
        for (int x = 0; x < side; x++) mixed[x + 1] = 0.75f * near[x] + 0.25f * far[x];
    for (int x = 0; x < side; x++) {
        row[2 * x] = 0.25f * mixed[x] + 0.75f * mixed[x + 1];
        row[2 * x + 1] = 0.75f * mixed[x + 1] + 0.25f * mixed[x + 2];
    }
}

// Four rows of a transposed convolution of stride 2, each as its even columns (m+1) and its odd ones (m).
struct Rows {
    const Half *even[4], *odd[4];
    float weight[4];
};

// U vectors of channels from `c` on, of one row of `blur_activate`.
template <int U>
__m512i blur_row(const Rows& rows, int m, int channels, int c, const float* factor, const float* bias,
                 const float* gain, Half* out) {
    Mask mask[U];
    Vector by[U], plus[U], times[U], weight[4];
    for (int u = 0; u < U; u++) {
        mask[u] = lanes(channels - c - u * LANES);
        by[u] = _mm512_mul_ps(load(factor + c + u * LANES, mask[u]), set(1.0f / 16));
        plus[u] = load(bias + c + u * LANES, mask[u]);
        times[u] = _mm512_mul_ps(load(gain + c + u * LANES, mask[u]), set(ROOT));
    }
    for (int i = 0; i < 4; i++) weight[i] = set(rows.weight[i]);
    auto column = [&](const Half* const* from, int x, int u) {
        size_t at = size_t(x) * channels + c + u * LANES;
        Vector sum = _mm512_mul_ps(weight[0], load(from[0] + at, mask[u]));
        for (int i = 1; i < 4; i++) sum = _mm512_fmadd_ps(weight[i], load(from[i] + at, mask[u]), sum);
        return sum;
    };
    __m512i peak = _mm512_setzero_si512();
    auto put = [&](Vector a, Vector b, Vector d, Vector e, int x, int u) {
        Vector value = _mm512_fmadd_ps(_mm512_add_ps(b, d), set(3), _mm512_add_ps(a, e));
        value = _mm512_mul_ps(leaky(_mm512_fmadd_ps(value, by[u], plus[u])), times[u]);
        peak = larger(peak, value);
        store(out + size_t(x) * channels + c + u * LANES, value, mask[u]);
    };
    Vector p[U], q[U], r[U];
    for (int u = 0; u < U; u++) {
        p[u] = _mm512_setzero_ps();
        q[u] = column(rows.even, 0, u);
        r[u] = column(rows.odd, 0, u);
    }
    for (int x = 0; x < m; x++)
        for (int u = 0; u < U; u++) {
            Vector s = column(rows.even, x + 1, u);
            Vector t = x + 1 < m ? column(rows.odd, x + 1, u) : _mm512_setzero_ps();
            put(p[u], q[u], r[u], s, 2 * x, u);
            put(q[u], r[u], s, t, 2 * x + 1, u);
            p[u] = r[u], q[u] = s, r[u] = t;
        }
    return peak;
}

}  // namespace

extern "C" {

// The blur after a transposed convolution of stride 2, and the activation.
// Its four parts are (N,m+1,m+1,C), (N,m+1,m+2,C), (N,m+2,m+1,C) and (N,m+2,m+2,C): even and odd rows, even and odd
// columns. First and last ones of the odd are not read. out (N,2m,2m,C).
void blur_activate(const Half* even_even, const Half* even_odd, const Half* odd_even, const Half* odd_odd,
                   const float* factor, const float* bias, const float* gain, Half* out, float* peak, int images,
                   int m, int channels, int threads) {
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int job = 0; job < images * 2 * m; job++) {
        int n = job / (2 * m), y = job % (2 * m);
        size_t even = size_t(m + 1) * channels, odd = size_t(m + 2) * channels;
        Rows rows;
        for (int i = 0; i < 4; i++) {
            int row = y - 1 + i;
            bool inside = row >= 0 && row <= 2 * m;
            row = inside ? row : y;
            rows.weight[i] = !inside ? 0.0f : i == 0 || i == 3 ? 1.0f : 3.0f;
            size_t at = row % 2 ? size_t(n) * (m + 2) + row / 2 + 1 : size_t(n) * (m + 1) + row / 2;
            rows.even[i] = (row % 2 ? odd_even : even_even) + at * even;
            rows.odd[i] = (row % 2 ? odd_odd : even_odd) + at * odd + channels;
        }
        Half* to = out + (size_t(n) * 2 * m + y) * 2 * m * channels;
        const float *by = factor + size_t(n) * channels, *times = gain + size_t(n) * channels;
        __m512i found = _mm512_setzero_si512();
        int c = 0;
        for (; c + 2 * LANES <= channels; c += 2 * LANES)
            found = _mm512_max_epu32(found, blur_row<2>(rows, m, channels, c, by, bias, times, to));
        for (; c < channels; c += LANES)
            found = _mm512_max_epu32(found, blur_row<1>(rows, m, channels, c, by, bias, times, to));
        raise(peak + n, found);
    }
}

// Maps of `rows` rows of `size` values, in groups of `channels`, as integers around 128, and what 1 stands for. Around
// each map is a rim of so many rows and groups of zeros, which are 128.
void quantise(const Half* maps, const float* peak, uint8_t* integers, float* unit, int images, int rows, int size,
              int channels, int rim, int threads) {
    const int high = rows + 2 * rim, wide = size + 2 * rim * channels;
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int job = 0; job < images * high; job++) {
        int n = job / high, row = job % high - rim;
        uint8_t* to = integers + size_t(job) * wide;
        if (row < 0 || row >= rows) {
            std::memset(to, 128, wide);
            continue;
        }
        float step = (peak[n] < SMALLEST ? SMALLEST : peak[n]) / 127;
        if (row == 0) unit[n] = step;
        const Half* from = maps + (size_t(n) * rows + row) * size;
        std::memset(to, 128, rim * channels);
        std::memset(to + wide - rim * channels, 128, rim * channels);
        to += rim * channels;
        to_integers(from, to, size, step);
    }
}

// Rows (N,C) as integers around 128, each in units (N) of its own. With `bias` (C), the rows are the GELU of
// row * factor (N) + bias, which replaces them.
void quantise_rows(float* rows, const float* factor, const float* bias, uint8_t* whole, float* unit, int count,
                   int channels, int threads) {
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int row = 0; row < count; row++) {
        float* from = rows + size_t(row) * channels;
        __m512i found = _mm512_setzero_si512();
        for (int i = 0; i < channels; i += LANES) {
            Mask mask = lanes(channels - i);
            Vector value = load(from + i, mask);
            if (bias) {
                value = gelu(_mm512_fmadd_ps(value, set(factor[row]), load(bias + i, mask)));
                _mm512_mask_storeu_ps(from + i, mask, value);
            }
            found = larger(found, _mm512_maskz_mov_ps(mask, value));
        }
        uint32_t bits = _mm512_reduce_max_epu32(found);
        float peak;
        std::memcpy(&peak, &bits, sizeof peak);
        unit[row] = (peak < SMALLEST ? SMALLEST : peak) / 127;
        to_integers(from, whole + size_t(row) * channels, channels, unit[row]);
    }
}

// The end of a stage: activation, flow head, warp and colours (`FastDecoder.forward` says what they are).
//   y (N,s,s,C)         result of the last convolution
//   head (N,3,C)        weights of the flow head times its modulation; head_bias (3)
//   coarse_flow, coarse_rgb    of the stage before (N,3,s/2,s/2), or null
//   table (s*s,C), colours (s*s,4)    the portrait's map, and its colours before the activation
//   colour_bias, base (3)
//   line (s)            column of each pixel without flow
//   x (N,s,s,C)         synthesised and warped features for the next stage, multiplied by gain; null at the last one
//   flow, rgb (N,3,s,s) of this stage
void finish(const Half* y, const float* factor, const float* bias, const float* head, const float* head_bias,
            const float* coarse_flow, const float* coarse_rgb, const Half* table, const float* colours,
            const float* colour_bias, const float* base, const float* line, const float* gain, Half* x, float* peak,
            float* flow, float* rgb, int images, int side, int channels, int threads) {
#pragma omp parallel num_threads(threads)
    {
        std::vector<float> mixed(side / 2 + 2), above(6 * size_t(side));
        std::vector<float> activated(size_t(LANES) * channels + LANES);
        const size_t plane = size_t(side) * side, quarter = plane / 4;
        Vector dots[3][LANES];
        alignas(64) int32_t number[4][LANES];
        alignas(64) float weight[4][LANES], kept[LANES];
#pragma omp for schedule(static)
        for (int job = 0; job < images * side; job++) {
            int n = job / side, row = job % side;
            const float *by = factor + size_t(n) * channels, *heads = head + size_t(n) * 3 * channels;
            const float* times = x ? gain + size_t(n) * channels : nullptr;
            __m512i found = _mm512_setzero_si512();
            for (int k = 0; k < 3 && coarse_flow; k++) {
                upsampled(coarse_flow + (3 * n + k) * quarter, side / 2, row, mixed.data(), &above[k * side]);
                upsampled(coarse_rgb + (3 * n + k) * quarter, side / 2, row, mixed.data(), &above[(3 + k) * side]);
            }
            for (int left = 0; left < side; left += LANES) {
                int count = std::min(LANES, side - left);
                Mask some = lanes(count);
                const Half* from = y + ((size_t(n) * side + row) * side + left) * channels;
                for (int p = 0; p < LANES; p++) {
                    Vector dot[3] = {_mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps()};
                    for (int c = 0; p < count && c < channels; c += LANES) {
                        Mask mask = lanes(channels - c);
                        Vector value = load(from + size_t(p) * channels + c, mask);
                        value = leaky(_mm512_fmadd_ps(value, load(by + c, mask), load(bias + c, mask)));
                        for (int k = 0; k < 3; k++)
                            dot[k] = _mm512_fmadd_ps(value, load(heads + k * channels + c, mask), dot[k]);
                        if (x) _mm512_storeu_ps(&activated[size_t(p) * channels + c], value);
                    }
                    for (int k = 0; k < 3; k++) dots[k][p] = dot[k];
                }
                Vector found_flow[3];
                size_t at = size_t(row) * side + left;
                for (int k = 0; k < 3; k++) {
                    found_flow[k] = _mm512_fmadd_ps(sums(dots[k]), set(ROOT), set(head_bias[k]));
                    if (coarse_flow) found_flow[k] = _mm512_add_ps(found_flow[k], load(&above[k * side + left], some));
                    _mm512_mask_storeu_ps(flow + (3 * n + k) * plane + at, some, found_flow[k]);
                }
                // The four pixels that are mixed, and their weights, as in `models.fast.decoder.taps`.
                Vector half = set(side / 2.0f), one = set(1), zero = _mm512_setzero_ps(), edge = set(float(side));
                Vector column = _mm512_fmadd_ps(tanh(found_flow[0]), half, load(line + left, some));
                Vector height = _mm512_fmadd_ps(tanh(found_flow[1]), half, set(line[row]));
                Vector mask = sigmoid(found_flow[2]);
                _mm512_store_ps(kept, _mm512_mul_ps(_mm512_sub_ps(one, mask), set(ROOT)));
                __m512i last = _mm512_set1_epi32(side - 1), first = _mm512_setzero_si512();
                auto whole = [&](Vector v) {
                    return _mm512_min_epi32(last, _mm512_max_epi32(first, _mm512_cvttps_epi32(v)));
                };
                // Products, so that NaN stays visible.
                auto inside = [&](Vector v) {
                    Mask is = _mm512_cmp_ps_mask(v, zero, _CMP_GE_OQ) & _mm512_cmp_ps_mask(v, edge, _CMP_LT_OQ);
                    return _mm512_maskz_mov_ps(is, one);
                };
                Vector x0 = _mm512_roundscale_ps(column, 1), y0 = _mm512_roundscale_ps(height, 1);
                Vector x1 = _mm512_add_ps(x0, one), y1 = _mm512_add_ps(y0, one);
                Vector right = _mm512_sub_ps(column, x0), below = _mm512_sub_ps(height, y0);
                Vector wx[2] = {_mm512_mul_ps(_mm512_sub_ps(one, right), inside(x0)), _mm512_mul_ps(right, inside(x1))};
                Vector wy[2] = {_mm512_mul_ps(_mm512_sub_ps(one, below), inside(y0)), _mm512_mul_ps(below, inside(y1))};
                __m512i nx[2] = {whole(x0), whole(x1)}, ny[2] = {whole(y0), whole(y1)};
                for (int i = 0; i < 4; i++) {
                    __m512i start = _mm512_mullo_epi32(ny[i / 2], _mm512_set1_epi32(side));
                    _mm512_store_si512(number[i], _mm512_add_epi32(start, nx[i % 2]));
                    _mm512_store_ps(weight[i], _mm512_mul_ps(_mm512_mul_ps(wy[i / 2], mask), wx[i % 2]));
                }
                alignas(64) float mixture[3][LANES] = {};
                for (int p = 0; p < count; p++) {
                    __m128 colour = _mm_setzero_ps();
                    for (int i = 0; i < 4; i++)
                        colour = _mm_fmadd_ps(_mm_set1_ps(weight[i][p]), _mm_loadu_ps(colours + 4 * size_t(number[i][p])),
                                              colour);
                    alignas(16) float parts[4];
                    _mm_store_ps(parts, colour);
                    for (int k = 0; k < 3; k++) mixture[k][p] = parts[k];
                    if (!x) continue;
                    Vector share[4], keep = set(kept[p]);
                    const Half* pixel[4];
                    for (int i = 0; i < 4; i++) {
                        share[i] = set(weight[i][p]);
                        pixel[i] = table + size_t(number[i][p]) * channels;
                    }
                    Half* to = x + ((size_t(n) * side + row) * side + left + p) * channels;
                    for (int c = 0; c < channels; c += LANES) {
                        Mask lane = lanes(channels - c);
                        Vector value = _mm512_mul_ps(keep, load(&activated[size_t(p) * channels + c], lane));
                        for (int i = 0; i < 4; i++)
                            value = _mm512_fmadd_ps(share[i], load(pixel[i] + c, lane), value);
                        value = _mm512_mul_ps(value, load(times + c, lane));
                        found = larger(found, value);
                        store(to + c, value, lane);
                    }
                }
                for (int k = 0; k < 3; k++) {
                    Vector colour = leaky(_mm512_add_ps(_mm512_load_ps(mixture[k]), set(colour_bias[k])));
                    colour = _mm512_fmadd_ps(colour, set(ROOT), set(base[k]));
                    if (coarse_rgb) colour = _mm512_add_ps(colour, load(&above[(3 + k) * side + left], some));
                    _mm512_mask_storeu_ps(rgb + (3 * n + k) * plane + at, some, colour);
                }
            }
            if (x) raise(peak + n, found);
        }
    }
}

}  // extern "C"
