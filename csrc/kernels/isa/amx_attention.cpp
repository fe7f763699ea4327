// Attention over an int8 cache on AMX tiles for many queries; few are left to AVX-512 VNNI.
#include "kernels/body/cache_int8.h"
#include "simd/amx.h"
#include "simd/avx512vnni.h"

namespace pygpt {

namespace {

using S = Avx512Vnni;

// Queries that pass over the pages together: their weights of a segment stay in the first-level cache.
constexpr int kTileRows = 16;

// The sums of 16 queries for 64 keys, or channels of values, in blocks of 16: of the high digits, then of the low ones.
struct alignas(64) TileSums {
    std::int32_t of[4][2][kTileRows][16];

    template <int bits>
    S::F32 total(int block, int row) const {
        const __m512i high = _mm512_load_si512(of[block][0][row]), low = _mm512_load_si512(of[block][1][row]);
        return {_mm512_cvtepi32_ps(_mm512_add_epi32(_mm512_slli_epi32(high, bits), low))};
    }
};

// A page's weights of 16 queries as integers: the high digits of a query, then its low ones; and their scales.
struct alignas(64) TileDigits {
    std::byte of[kTileRows][2][kPagePositions];
    float scales[kTileRows];
};

// Of many queries' digits a tile has the high ones in 4, the low ones in 5; two blocks of what they are multiplied by
// are in 6 and 7, and their sums in 0 to 3.
class TileCache : public Int8Cache<S> {
public:
    // Whole pages are read side by side, however many queries there are.
    static constexpr int kRows = kTileRows, kFew = kMaxAttentionQueries;

    using Int8Cache<S>::Int8Cache;

    template <bool>
    void scores(const AttentionTile& t, const std::int8_t* const* b, const std::int8_t* const* next) const {
        TileSums sums[2];
        multiply_keys(t, b[0], sums[0]);
        for (int page = 0; page < t.n_pages; ++page) {
            if (page + 1 < t.n_pages) multiply_keys(t, b[page + 1], sums[(page + 1) % 2]);
            scale_keys(t, b[page], page, sums[page % 2], ahead(t, b, next, page));
        }
    }

    // Adds to the tile's rows of `sums`; without `add` they start from nothing.
    template <bool>
    void add_values(const AttentionTile& t, const std::int8_t* const* b, const std::int8_t* const* next, float* sums,
                    bool add) const {
        TileDigits digits[kSegmentPages];
        for (int page = 0; page < t.n_pages; ++page) round_page(t, b[page], page, digits[page]);
        tiles_will_read(digits);
        TileSums products[2];
        const int parts = memory_.padded / 64;
        multiply_values(b[0], 0, digits[0], products[0]);
        for (int page = 0, i = 0; page < t.n_pages; ++page) {
            for (int part = 0; part < parts; ++part, ++i) {
                const int then = part + 1 < parts ? page : page + 1;
                if (then < t.n_pages)
                    multiply_values(b[then], (part + 1) % parts * 64, digits[then], products[(i + 1) % 2]);
                scale_values(t, part * 64, digits[page], products[i % 2], sums, add || page > 0,
                             ahead(t, b, next, page) + part * (64 * kPagePositions));
            }
        }
    }

private:
    static void start() {
        _tile_zero(0);
        _tile_zero(1);
        _tile_zero(2);
        _tile_zero(3);
    }
    static void end(int block, TileSums& sums) {
        _tile_stored(0, sums.of[block][0], 64);
        _tile_stored(1, sums.of[block][1], 64);
        _tile_stored(2, sums.of[block + 1][0], 64);
        _tile_stored(3, sums.of[block + 1][1], 64);
    }

    // What is read two pages after page number `page`.
    static const std::int8_t* ahead(const AttentionTile& t, const std::int8_t* const* b, const std::int8_t* const* next,
                                    int page) {
        const int later = page + 2;
        return later < t.n_pages ? b[later] : next[later - t.n_pages < t.n_pages ? later - t.n_pages : 0];
    }

    void multiply_keys(const AttentionTile& t, const std::int8_t* keys, TileSums& sums) const {
        for (int block = 0; block * 16 < t.seen; block += 2) {
            const std::byte* digits = queries(t.from);
            const std::int8_t* from = keys + block * 64;
            start();
            tiles_will_read(digits);
            for (int d = 0; d < memory_.padded; d += 64, digits += chunk(), from += 64 * kPagePositions) {
                _tile_loadd(4, digits, Keys::kRowBytes);
                _tile_loadd(5, digits + 64, Keys::kRowBytes);
                _tile_loadd(6, from, kPagePositions * 4);
                _tile_dpbssd(0, 4, 6);
                _tile_dpbssd(1, 5, 6);
                _tile_loadd(7, from + 64, kPagePositions * 4);
                _tile_dpbssd(2, 4, 7);
                _tile_dpbssd(3, 5, 7);
            }
            end(block, sums);
        }
    }

    // Meanwhile 4 KiB from `fetched` on come into the cache.
    void scale_keys(const AttentionTile& t, const std::int8_t* keys, int page, const TileSums& sums,
                    const std::int8_t* fetched) const {
        for (int block = 0; block * 16 < t.seen; ++block) {
            const S::F32 scale = S::load(scales(keys) + block * 16);
            float* const to = t.weights(memory_) + page * kPagePositions + block * 16;
            for (int row = 0; row < t.rows(); ++row) {
                __builtin_prefetch(fetched + (block * kTileRows + row) * 64);
                const S::F32 by_query = S::set1(query_scales_[t.from + row]);
                const S::F32 by_center = S::set1(by_center_[t.from + row]);
                S::store(to + row * kWeightStride,
                         S::fma(S::mul(sums.total<7>(block, row), scale), by_query, by_center));
            }
        }
    }

    // 64 channels of a page's values, from channel d on. The digits have no sign.
    void multiply_values(const std::int8_t* values, int d, const TileDigits& digits, TileSums& sums) const {
        const std::ptrdiff_t row = memory_.padded * std::ptrdiff_t{4};
        _tile_loadd(4, digits.of[0][0], sizeof(digits.of[0]));
        _tile_loadd(5, digits.of[0][1], sizeof(digits.of[0]));
        for (int block = 0; block < 4; block += 2) {
            const std::int8_t* const from = values + (d + block * 16) * 4;
            start();
            _tile_loadd(6, from, row);
            _tile_dpbusd(0, 4, 6);
            _tile_dpbusd(1, 5, 6);
            _tile_loadd(7, from + 64, row);
            _tile_dpbusd(2, 4, 7);
            _tile_dpbusd(3, 5, 7);
            end(block, sums);
        }
    }

    void scale_values(const AttentionTile& t, int d, const TileDigits& digits, const TileSums& products, float* sums,
                      bool add, const std::int8_t* fetched) const {
        for (int block = 0; block < 4; ++block) {
            float* const to = sums + t.from * memory_.padded + d + block * 16;
            for (int row = 0; row < t.rows(); ++row) {
                __builtin_prefetch(fetched + (block * kTileRows + row) * 64);
                float* const at = to + row * memory_.padded;
                const S::F32 so_far = add ? S::load(at) : S::zero();
                S::store(at, S::fma(products.total<8>(block, row), S::set1(digits.scales[row]), so_far));
            }
        }
    }

    // As Int8Cache's round_weights, for a page at once: added to 1.5 * 2^23, an integer stands in the low bits.
    void round_page(const AttentionTile& t, const std::int8_t* values, int page, TileDigits& to) const {
        const int blocks = ceil_div(t.seen, 16);
        if (blocks == 4) return round_blocks<4>(t, values, page, to);
        if (blocks == 3) return round_blocks<3>(t, values, page, to);
        if (blocks == 2) return round_blocks<2>(t, values, page, to);
        round_blocks<1>(t, values, page, to);
    }

    template <int blocks>
    void round_blocks(const AttentionTile& t, const std::int8_t* values, int page, TileDigits& to) const {
        const __m512i number = _mm512_set1_epi32(0xffff), byte = _mm512_set1_epi16(0xff);
        // The packs leave every fourth position of 4 side by side.
        const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
        const S::F32 magic = S::set1(kRoundingMagic);
        const float* const by = scales(values);
        for (int row = 0; row < t.rows(); ++row) {
            const float* const weights = t.weights(memory_) + row * kWeightStride + page * kPagePositions;
            S::F32 x[4] = {S::zero(), S::zero(), S::zero(), S::zero()}, largest = S::zero();
#pragma GCC unroll 4
            for (int i = 0; i < blocks; ++i) {
                x[i] = S::mul(S::load(weights + i * 16), S::load(by + i * 16));
                largest = S::larger_magnitude(largest, x[i]);
            }
            const RowScale s = row_scale(S::reduce_magnitude(largest), kWeightLevels);
            to.scales[row] = s.scale;
            if (s.factor == 0.0f) {
                _mm512_store_si512(to.of[row][0], _mm512_setzero_si512());
                _mm512_store_si512(to.of[row][1], _mm512_setzero_si512());
                continue;
            }
            const S::F32 factor = S::set1(s.factor);
            const auto integers = [&](int i) {
                if (i >= blocks) return _mm512_setzero_si512();
                return _mm512_and_si512(_mm512_castps_si512(S::add(S::mul(x[i], factor), magic).v), number);
            };
            const __m512i a = _mm512_packus_epi32(integers(0), integers(1));
            const __m512i b = _mm512_packus_epi32(integers(2), integers(3));
            const __m512i high = _mm512_packus_epi16(_mm512_srli_epi16(a, 8), _mm512_srli_epi16(b, 8));
            const __m512i low = _mm512_packus_epi16(_mm512_and_si512(a, byte), _mm512_and_si512(b, byte));
            _mm512_store_si512(to.of[row][0], _mm512_permutexvar_epi32(order, high));
            _mm512_store_si512(to.of[row][1], _mm512_permutexvar_epi32(order, low));
        }
    }
};

// The queries from `from` on, up to `to`, of a call.
AttentionArgs part(const AttentionArgs& a, int from, int to) {
    AttentionArgs some = a;
    some.queries += from;
    some.outputs += from;
    some.ranges += from;
    if (a.slopes != nullptr) some.slopes += from;
    if (a.sinks != nullptr) some.sinks += from;
    some.n_queries = to - from;
    return some;
}

void attention_on_tiles(const AttentionArgs& a, int end) {
    const TileScope tiles;
    for (int from = 0; from < end; from += kTileRows)
        attention<S, TileCache>(part(a, from, end - from < kTileRows ? end : from + kTileRows));
}

}  // namespace

void attention_int8_avx512vnni(const AttentionArgs& args);
void attention_int8_amx(const AttentionArgs& args);
void attention_int8_amx(const AttentionArgs& a) {
    // A segment alone is of few queries (see AttentionPlan), and some of these may see nothing of it.
    const bool fits = padded_head(a.head_dim) % 64 == 0 && a.segment < 0;
    const int n = a.n_queries, left = n % kTileRows, end = !fits ? 0 : left > kFewQueries ? n : n - left;
    if (end > 0) attention_on_tiles(a, end);
    if (end < n) attention_int8_avx512vnni(part(a, end, n));
}

}  // namespace pygpt
