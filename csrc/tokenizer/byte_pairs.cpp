#include "tokenizer/byte_pairs.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>
#include <queue>
#include <tuple>
#include <utility>

#include "base/error.h"

namespace pygpt {

namespace {

constexpr std::uint64_t kFactor = 0x9e3779b97f4a7c15u;  // 2^64 / the golden ratio

std::uint64_t mixed(std::uint64_t x) { return (x ^ (x >> 32)) * kFactor; }

std::size_t hash(std::string_view bytes) {
    std::uint64_t h = bytes.size();
    for (; bytes.size() >= 8; bytes.remove_prefix(8)) {
        std::uint64_t part;
        std::memcpy(&part, bytes.data(), 8);
        h = mixed(h ^ part);
    }
    std::uint64_t rest = 0;
    std::memcpy(&rest, bytes.data(), bytes.size());
    h = mixed(h ^ rest);
    return static_cast<std::size_t>(h ^ (h >> 29));
}

std::size_t hash(std::int32_t left, std::int32_t right) {
    const auto pair =
        static_cast<std::uint64_t>(static_cast<std::uint32_t>(left)) << 32 | static_cast<std::uint32_t>(right);
    const std::uint64_t h = mixed(mixed(pair));
    return static_cast<std::size_t>(h ^ (h >> 29));
}

// Of a hash table for n entries, at most two thirds full.
std::size_t slots(std::size_t n) { return std::bit_ceil(n + n / 2 + 1); }

// The byte that a character of GPT-2's alphabet stands for, or -1: printable ones of Latin-1 stand for themselves, and
// those from U+0100 on for the others, in order.
const std::array<std::int16_t, 0x144>& letter_bytes() {
    static const std::array<std::int16_t, 0x144> table = [] {
        std::array<std::int16_t, 0x144> bytes;
        bytes.fill(-1);
        std::size_t next = 0x100;
        for (std::int16_t b = 0; b < 256; ++b) {
            const bool printable = (b >= 33 && b < 127) || (b >= 161 && b != 173);
            bytes.at(printable ? static_cast<std::size_t>(b) : next++) = b;
        }
        return bytes;
    }();
    return table;
}

// The beginning of a text, up to a character's end.
std::string quoted(std::string_view text) {
    std::size_t n = std::min<std::size_t>(text.size(), 80);
    while (n < text.size() && (static_cast<unsigned char>(text[n]) & 0xc0) == 0x80) --n;
    return "'" + std::string(text.substr(0, n)) + "'";
}

}  // namespace

void Strings::add(std::string_view text) {
    bytes += text;
    if (bytes.size() > std::numeric_limits<std::uint32_t>::max()) throw InvalidArgument("the tokens are too long");
    ends.push_back(static_cast<std::uint32_t>(bytes.size()));
}

bool spelled_bytes(std::string_view utf8, std::string& out) {
    const auto& bytes = letter_bytes();
    out.clear();
    for (std::size_t i = 0; i < utf8.size(); ++i) {
        auto c = static_cast<std::size_t>(static_cast<unsigned char>(utf8[i]));
        if (c >= 0x80) {
            if (c >= 0xe0 || i + 1 == utf8.size()) return false;
            c = (c & 0x1f) << 6 | (static_cast<unsigned char>(utf8[++i]) & 0x3f);
        }
        if (c >= bytes.size() || bytes[c] < 0) return false;
        out.push_back(static_cast<char>(bytes[c]));
    }
    return true;
}

BytePairs::BytePairs(Strings tokens, std::vector<Merge> merges)
    : tokens_(std::move(tokens)), merges_(std::move(merges)) {
    const auto n = static_cast<std::int32_t>(tokens_.size());
    const auto is_token = [&](std::int32_t i) { return 0 <= i && i < n; };
    for (const Merge& m : merges_) {
        if (!is_token(m.left) || !is_token(m.right) || !is_token(m.result)) {
            throw InvalidArgument("a merge has the place of no token");
        }
        const auto place = [](std::int32_t i) { return static_cast<std::size_t>(i); };
        const std::string_view left = tokens_[place(m.left)], whole = tokens_[place(m.result)];
        if (!whole.starts_with(left) || whole.substr(left.size()) != tokens_[place(m.right)]) {
            throw InvalidArgument("a merge gives other bytes than it has");
        }
    }
    index_merges();
}

BytePairs BytePairs::from_lines(Strings tokens, std::string_view lines) {
    BytePairs pairs;
    pairs.tokens_ = std::move(tokens);
    pairs.index_tokens();
    std::string left, right;
    const auto token = [&](std::string_view spelled, bool is_spelled, const std::string& bytes) {
        const std::int32_t found = is_spelled ? pairs.find(bytes) : -1;
        if (found < 0) {
            throw InvalidArgument("a merge has or gives the token " + quoted(spelled) + ", not in the vocabulary");
        }
        return found;
    };
    for (std::size_t at = 0, number = 1; at < lines.size(); ++number) {
        const std::size_t end = std::min(lines.find('\n', at), lines.size());
        const std::string_view line = lines.substr(at, end - at);
        const std::size_t space = line.find(' ');
        if (space == std::string_view::npos || line.find(' ', space + 1) != std::string_view::npos) {
            throw InvalidArgument("merge " + std::to_string(number) + " is " + quoted(line) +
                                  ", but must be two tokens and a space");
        }
        const bool left_is_spelled = spelled_bytes(line.substr(0, space), left);
        const bool right_is_spelled = spelled_bytes(line.substr(space + 1), right);
        Merge merge{};
        merge.left = token(line.substr(0, space), left_is_spelled, left);
        merge.right = token(line.substr(space + 1), right_is_spelled, right);
        left += right;
        merge.result = token(std::string(line.substr(0, space)) + std::string(line.substr(space + 1)), true, left);
        pairs.merges_.push_back(merge);
        at = end + 1;
    }
    pairs.index_merges();
    return pairs;
}

void BytePairs::index_tokens() {
    if (!by_bytes_.empty()) return;
    by_bytes_.assign(slots(tokens_.size()), -1);
    const std::size_t mask = by_bytes_.size() - 1;
    for (std::size_t i = 0; i < tokens_.size(); ++i) {
        std::size_t at = hash(tokens_[i]) & mask;
        while (by_bytes_[at] >= 0 && tokens_[static_cast<std::size_t>(by_bytes_[at])] != tokens_[i])
            at = (at + 1) & mask;
        by_bytes_[at] = static_cast<std::int32_t>(i);
    }
}

void BytePairs::index_merges() {
    for (std::int32_t b = 0; b < 256; ++b) letters_.at(static_cast<std::size_t>(b)) = -1 - b;
    for (std::size_t i = 0; i < tokens_.size(); ++i) {
        const std::string_view token = tokens_[i];
        if (token.size() == 1) letters_[static_cast<unsigned char>(token[0])] = static_cast<std::int32_t>(i);
    }
    by_pair_.assign(slots(merges_.size()), {});
    const std::size_t mask = by_pair_.size() - 1;
    for (std::size_t i = 0; i < merges_.size(); ++i) {
        const Merge& m = merges_[i];
        std::size_t at = hash(m.left, m.right) & mask;
        while (by_pair_[at].rank >= 0 && (by_pair_[at].left != m.left || by_pair_[at].right != m.right))
            at = (at + 1) & mask;
        by_pair_[at] = {m.left, m.right, static_cast<std::int32_t>(i)};
    }
}

std::int32_t BytePairs::find(std::string_view bytes) const {
    const std::size_t mask = by_bytes_.size() - 1;
    for (std::size_t at = hash(bytes) & mask; by_bytes_[at] >= 0; at = (at + 1) & mask) {
        if (tokens_[static_cast<std::size_t>(by_bytes_[at])] == bytes) return by_bytes_[at];
    }
    return -1;
}

std::int32_t BytePairs::rank(std::int32_t left, std::int32_t right) const {
    const std::size_t mask = by_pair_.size() - 1;
    for (std::size_t at = hash(left, right) & mask; by_pair_[at].rank >= 0; at = (at + 1) & mask) {
        if (by_pair_[at].left == left && by_pair_[at].right == right) return by_pair_[at].rank;
    }
    return -1;
}

// Of all pairs of neighbours, the one that is listed first is merged, the leftmost of equal ones; until none is listed.
void BytePairs::encode(std::string_view piece, std::vector<std::int32_t>& out) const {
    struct Symbol {
        std::int32_t token;
        std::size_t before, after;  // its neighbours' places
    };
    using Candidate = std::pair<std::int32_t, std::size_t>;  // a merge, and the place of its left part
    const std::size_t n = piece.size();
    std::vector<Symbol> symbols(n);
    std::priority_queue<Candidate, std::vector<Candidate>, std::greater<>> waiting;
    const auto consider = [&](std::size_t i) {
        const std::size_t next = symbols[i].after;
        if (next == n) return;
        const std::int32_t merge = rank(symbols[i].token, symbols[next].token);
        if (merge >= 0) waiting.emplace(merge, i);
    };
    for (std::size_t i = 0; i < n; ++i) symbols[i] = {letters_[static_cast<unsigned char>(piece[i])], i - 1, i + 1};
    for (std::size_t i = 0; i < n; ++i) consider(i);
    constexpr std::int32_t kMerged = std::numeric_limits<std::int32_t>::min();
    while (!waiting.empty()) {
        const auto [number, i] = waiting.top();
        waiting.pop();
        const Merge& merge = merges_[static_cast<std::size_t>(number)];
        const std::size_t next = symbols[i].after;
        if (symbols[i].token != merge.left || next == n || symbols[next].token != merge.right) continue;  // no more
        symbols[i].token = merge.result;
        symbols[next].token = kMerged;
        symbols[i].after = symbols[next].after;
        if (symbols[i].after < n) symbols[symbols[i].after].before = i;
        if (i > 0) consider(symbols[i].before);
        consider(i);
    }
    for (std::size_t i = 0; i < n; i = symbols[i].after) out.push_back(symbols[i].token);
}

}  // namespace pygpt
