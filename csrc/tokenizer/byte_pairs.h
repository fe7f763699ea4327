// Byte-level BPE (Sennrich et al. 2016, arXiv:1508.07909; Radford et al. 2019): tokens, and the pairs that are merged.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace pygpt {

// Strings one after the other, in one piece of memory.
struct Strings {
    std::string bytes;
    std::vector<std::uint32_t> ends;

    std::size_t size() const { return ends.size(); }
    std::string_view operator[](std::size_t i) const {
        const std::size_t begin = i == 0 ? 0 : ends[i - 1];
        return std::string_view(bytes).substr(begin, ends[i] - begin);
    }
    void add(std::string_view text);  // InvalidArgument beyond 2^32 - 1 bytes
};

// The byte that each letter of a spelled token stands for, as GPT-2's vocabulary spells bytes; false where a character
// stands for none.
bool spelled_bytes(std::string_view utf8, std::string& out);

// A pair of tokens, and the token that it becomes, by their places in the list of tokens.
struct Merge {
    std::int32_t left, right, result;
    bool operator==(const Merge&) const = default;
};

class BytePairs {
public:
    // `merges`: the first is merged first; of one that is listed twice, the last counts. InvalidArgument where a place
    // is none of a token, or a result's bytes are not those of its parts.
    BytePairs(Strings tokens, std::vector<Merge> merges);

    // Lines "left right" of spelled tokens. InvalidArgument names a line that is something else, or a token that
    // is not in the list.
    static BytePairs from_lines(Strings tokens, std::string_view lines);

    const Strings& tokens() const { return tokens_; }
    const std::vector<Merge>& merges() const { return merges_; }

    // Before find(); does nothing the second time.
    void index_tokens();
    // The token of these bytes, or -1; of two, the last.
    std::int32_t find(std::string_view bytes) const;

    // What a piece of text becomes: places of tokens, and -1 - byte for a byte that is none.
    void encode(std::string_view piece, std::vector<std::int32_t>& out) const;

private:
    struct Slot {
        std::int32_t left = -1, right = -1, rank = -1;
    };

    BytePairs() = default;
    void index_merges();
    std::int32_t rank(std::int32_t left, std::int32_t right) const;

    Strings tokens_;
    std::vector<Merge> merges_;
    std::array<std::int32_t, 256> letters_;  // the token of each byte, or -1 - byte
    std::vector<std::int32_t> by_bytes_;  // a hash table of tokens
    std::vector<Slot> by_pair_;  // and one of merges
};

}  // namespace pygpt
