// Packed matrices: every way a checkpoint stores a tensor ends in the same panels.
#include <cstdint>
#include <cstring>
#include <string>

#include "base/lanes.h"
#include "packing/matrix.h"
#include "support.h"

namespace pygpt::test {
namespace {

// A (rows, cols) tensor in memory of one type and stride pattern, and its values in float32.
struct Stored {
    std::vector<std::byte> memory;
    Plain plain;
    std::vector<float> values;

    Stored(int rows, int cols, DType dtype, std::ptrdiff_t row_stride, std::ptrdiff_t col_stride, unsigned seed) {
        const std::ptrdiff_t last_row = (rows - 1) * row_stride, last_col = (cols - 1) * col_stride;
        const std::ptrdiff_t first = -std::min<std::ptrdiff_t>(0, last_row) - std::min<std::ptrdiff_t>(0, last_col);
        const std::ptrdiff_t end =
            first + std::max<std::ptrdiff_t>(0, last_row) + std::max<std::ptrdiff_t>(0, last_col) + 1;
        memory.resize(static_cast<std::size_t>(end) * size_of(dtype));
        Random random(seed);
        for (std::ptrdiff_t i = 0; i < end; ++i) {
            const float x = random.uniform(-3.0f, 3.0f);
            if (dtype == DType::f32) as<float>()[i] = x;
            if (dtype == DType::f16) as<Half>()[i] = to_half(x);
            if (dtype == DType::bf16) as<BFloat16>()[i] = to_bfloat16(x);
        }
        plain = {memory.data() + first * static_cast<std::ptrdiff_t>(size_of(dtype)),
                 dtype,
                 rows,
                 cols,
                 row_stride,
                 col_stride};
        for (int r = 0; r < rows; ++r) {
            for (int c = 0; c < cols; ++c) {
                const std::ptrdiff_t at = first + r * row_stride + c * col_stride;
                values.push_back(dtype == DType::f32   ? as<float>()[at]
                                 : dtype == DType::f16 ? to_float(as<Half>()[at])
                                                       : to_float(as<BFloat16>()[at]));
            }
        }
    }

    template <class T>
    T* as() {
        return reinterpret_cast<T*>(memory.data());
    }
};

// Element (channel, i) of a packed matrix, by the layout's description.
float packed_at(const PackedMatrix& m, int channel, int i) {
    const std::ptrdiff_t at = (static_cast<std::ptrdiff_t>(channel / 16) * m.k() + i) * 16 + channel % 16;
    return m.dtype() == DType::f32 ? static_cast<const float*>(m.data())[at]
                                   : to_float(static_cast<const BFloat16*>(m.data())[at]);
}

void write(PackedMatrix& m, const Plain& source, Channels to) {
    with_team(2, [&](Team& team) { EXPECT_TRUE(m.write(source, to, best_kernels(), team)); });
}

float rounded(float x, DType dtype) { return dtype == DType::f32 ? x : to_float(to_bfloat16(x)); }

TEST(PackedMatrix, TakesEveryTypeAndStride) {
    struct Strides {
        const char* name;
        std::ptrdiff_t row, col;
    };
    for (const auto& [n, k] : {std::pair{1, 1}, {16, 16}, {37, 19}, {300, 5}, {15, 100}}) {
        for (const Strides s :
             {Strides{"rows", k, 1}, Strides{"columns", 1, n}, Strides{"padded rows", k + 3, 1},
              Strides{"padded columns", 1, n + 5}, Strides{"every other", 2 * k, 2}, Strides{"reversed", -k, -1},
              Strides{"upside down", -k, 1}, Strides{"one row repeated", 0, 1}}) {
            for (const DType from : {DType::f32, DType::f16, DType::bf16}) {
                for (const DType to : {DType::f32, DType::bf16}) {
                    const Stored stored(n, k, from, s.row, s.col, 50);
                    PackedMatrix m(n, k, to);
                    write(m, stored.plain, {});
                    std::vector<float> row(static_cast<std::size_t>(k));
                    for (int c = 0; c < m.panels() * 16; ++c) {
                        if (c < n) m.read_row(c, row.data());
                        for (int i = 0; i < k; ++i) {
                            const float expected = c < n ? rounded(stored.values.data()[c * k + i], to) : 0.0f;
                            ASSERT_EQ(packed_at(m, c, i), expected) << s.name << " " << c << " " << i;
                            if (c < n) {
                                ASSERT_EQ(row.data()[i], expected) << s.name;
                            }
                        }
                    }
                    std::vector<float> flat(stored.values.size());
                    to_floats(stored.plain, flat.data());
                    EXPECT_TRUE(same_bits(flat, stored.values)) << s.name;
                }
            }
        }
    }
}

// One tensor among the channels of a matrix.
struct Part {
    Stored stored;
    Channels channels;
};

std::vector<float> packed_rows(const PackedMatrix& m) {
    std::vector<float> out(static_cast<std::size_t>(m.n()) * static_cast<std::size_t>(m.k()));
    for (int c = 0; c < m.n(); ++c) m.read_row(c, out.data() + static_cast<std::ptrdiff_t>(c) * m.k());
    return out;
}

// A channel of a matrix is what it would be if its tensor had the matrix to itself, whatever order the tensors come
// in, and when they come again.
void expect_apart(const std::vector<Part>& parts, int n, int k, DType dtype) {
    std::vector<float> expected(static_cast<std::size_t>(n) * static_cast<std::size_t>(k), 0.0f);
    std::vector<std::size_t> order;
    for (const Part& part : parts) {
        order.push_back(order.size());
        const int rows = part.stored.plain.rows;
        PackedMatrix alone(rows, k, dtype);
        write(alone, part.stored.plain, {});
        const std::vector<float> values = packed_rows(alone);
        for (int r = 0; r < rows; ++r) {
            const int channel = part.channels.first + r / 16 * part.channels.step + r % 16;
            std::copy_n(values.data() + r * k, k, expected.data() + channel * k);
        }
    }
    do {
        PackedMatrix m(n, k, dtype);
        for (int again = 0; again < 2; ++again) {
            for (const std::size_t i : order) write(m, parts.at(i).stored.plain, parts.at(i).channels);
        }
        ASSERT_TRUE(same_bits(packed_rows(m), expected)) << "first " << order.front() << ", last " << order.back();
    } while (std::next_permutation(order.begin(), order.end()));
}

TEST(PackedMatrix, PartsInAnyOrderDoNotDisturbEachOther) {
    for (const DType dtype : {DType::f32, DType::bf16, DType::i8}) {
        for (const int k : {21, 150}) {
            for (const bool transposed : {false, true}) {
                // As q, k and v of heads of any size: parts begin and end within panels, or two lie within one.
                for (const std::vector<int>& sizes :
                     std::vector<std::vector<int>>{{40, 40, 40}, {150, 7, 6}, {16, 5, 16}, {3, 2, 1}}) {
                    std::vector<Part> parts;
                    int first = 0;
                    for (const int rows : sizes) {
                        parts.push_back({Stored(rows, k, DType::f32, transposed ? 1 : k, transposed ? rows : 1,
                                                static_cast<unsigned>(first + k)),
                                         {first, 16}});
                        first += rows;
                    }
                    expect_apart(parts, first, k, dtype);
                }
            }
        }
    }
}

TEST(PackedMatrix, GateAndUpAlternate) {
    for (const int inner : {1, 16, 33, 77, 96}) {
        for (const bool transposed : {false, true}) {
            const int k = 10, padded = round_up(inner, 16);
            const Stored gate(inner, k, DType::f32, transposed ? 1 : k, transposed ? inner : 1, 60);
            const Stored up(inner, k, DType::f32, transposed ? 1 : k, transposed ? inner : 1, 61);
            PackedMatrix m(2 * padded, k, DType::f32);
            write(m, up.plain, {16, 32});
            write(m, gate.plain, {0, 32});
            for (int j = 0; j < padded; ++j) {
                const int channel = j / 16 * 32 + j % 16;
                for (int i = 0; i < k; ++i) {
                    ASSERT_EQ(packed_at(m, channel, i), j < inner ? gate.values.data()[j * k + i] : 0.0f)
                        << inner << " " << j;
                    ASSERT_EQ(packed_at(m, channel + 16, i), j < inner ? up.values.data()[j * k + i] : 0.0f)
                        << inner << " " << j;
                }
            }
        }
    }
}

TEST(PackedMatrix, GateAndUpInAnyOrderDoNotDisturbEachOther) {
    for (const DType dtype : {DType::f32, DType::bf16, DType::i8}) {
        for (const int inner : {1, 16, 33, 77}) {
            std::vector<Part> parts;
            for (const int first : {0, 16}) {
                parts.push_back({Stored(inner, 30, DType::f32, 30, 1, static_cast<unsigned>(first)), {first, 32}});
            }
            expect_apart(parts, ceil_div(inner, 16) * 32, 30, dtype);
        }
    }
}

TEST(PackedMatrix, CountsItsBytes) {
    EXPECT_EQ(PackedMatrix(17, 10, DType::f32).bytes(), 2u * 16 * 10 * 4);
    EXPECT_EQ(PackedMatrix(17, 10, DType::bf16).bytes(), 2u * 16 * 10 * 2);
    EXPECT_EQ(PackedMatrix(17, 10, DType::i8).bytes(), 2u * 16 * (64 + 2));  // a half group and its scale
    EXPECT_EQ(PackedMatrix(17, 200, DType::i8).bytes(), 2u * 16 * (256 + 4));
    EXPECT_EQ(PackedMatrix().bytes(), 0u);
}

}  // namespace
}  // namespace pygpt::test
