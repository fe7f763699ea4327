// What the tests of the int8 format share.
#pragma once

#include "base/lanes.h"
#include "kernels/int8.h"
#include "support.h"

namespace pygpt::test {

// An aligned array between guards that nobody may write.
template <class T>
class Aligned {
public:
    explicit Aligned(std::ptrdiff_t n) : n_(static_cast<std::size_t>(n)), memory_((n_ + 128) * sizeof(T) + 64, kFill) {}

    T* data() {
        auto at = reinterpret_cast<std::uintptr_t>(memory_.data() + 64 * sizeof(T));
        return reinterpret_cast<T*>(round_up(at, 64));
    }
    std::span<const T> all() { return {data(), n_}; }
    bool intact() {
        const auto* from = reinterpret_cast<const unsigned char*>(data());
        const auto* begin = memory_.data();
        const auto* end = begin + memory_.size();
        return std::all_of(begin, from, [](unsigned char c) { return c == kFill; }) &&
               std::all_of(from + n_ * sizeof(T), end, [](unsigned char c) { return c == kFill; });
    }

private:
    static constexpr unsigned char kFill = 0x5a;
    std::size_t n_;
    std::vector<unsigned char> memory_;
};

// Rows of quantised activations in memory of their own.
struct Rows {
    std::ptrdiff_t ld, ldg;
    int groups;
    Aligned<std::int8_t> q;
    Aligned<float> scales;
    Aligned<std::int32_t> sums;

    Rows(int rows, int k)
        : ld((padded_inputs(k) / 64 | 1) * 64),
          ldg(blocks(rows)),
          groups(int8_groups(k)),
          q(blocks(rows) * ld),
          scales(ldg * groups),
          sums(ldg * groups) {}

    QuantizedRows view() { return {q.data(), ld, scales.data(), sums.data(), ldg}; }
    float& scale(int row, int group) { return scales.data()[group * ldg + row]; }
    std::int32_t& sum(int row, int group) { return sums.data()[group * ldg + row]; }

private:
    static std::ptrdiff_t blocks(int rows) { return round_up(rows, kInt8RowBlock); }
};

inline int group_size(int k, int from) { return k - from > kInt8Half ? kInt8Group : kInt8Half; }

}  // namespace pygpt::test
