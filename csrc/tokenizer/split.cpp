#include "tokenizer/split.h"

#include <algorithm>
#include <cstdint>
#include <iterator>

#include "tokenizer/unicode_classes.h"

namespace pygpt {

namespace {

// Of the numbers in kClassStarts; `letter`: neither upper nor lower case. `end`: of the text.
enum class CharClass : std::uint8_t { other, space, newline, number, upper, lower, letter, mark, end };

constexpr unsigned bit(CharClass c) { return 1u << static_cast<unsigned>(c); }
constexpr unsigned kLetters = bit(CharClass::upper) | bit(CharClass::lower) | bit(CharClass::letter);
constexpr unsigned kSpaces = bit(CharClass::space) | bit(CharClass::newline);
constexpr unsigned kNumbers = bit(CharClass::number);
constexpr unsigned kMarks = bit(CharClass::mark);
constexpr unsigned kOthers = bit(CharClass::other) | kMarks;  // [^\s\p{L}\p{N}]
constexpr unsigned kBegins = kOthers | bit(CharClass::space);  // [^\r\n\p{L}\p{N}]
constexpr unsigned kNoLower = bit(CharClass::upper) | bit(CharClass::letter) | kMarks;
constexpr unsigned kNoUpper = bit(CharClass::lower) | bit(CharClass::letter) | kMarks;

CharClass class_of(char32_t c) {
    const auto* const after = std::upper_bound(std::begin(kClassStarts), std::end(kClassStarts), c * 16 + 15);
    return static_cast<CharClass>(*(after - 1) & 15);
}

// A text's characters.
class Characters {
public:
    explicit Characters(std::string_view text) : text_(text) {
        static const std::array<CharClass, 128> ascii = [] {
            std::array<CharClass, 128> classes{};
            for (char32_t c = 0; c < 128; ++c) classes[c] = class_of(c);
            return classes;
        }();
        classes_.reserve(text.size() + 1);
        starts_.reserve(text.size() + 1);
        for (std::size_t at = 0; at < text.size();) {
            const auto first = static_cast<unsigned char>(text[at]);
            starts_.push_back(at);
            if (first < 128) {
                classes_.push_back(ascii[first]);
                ++at;
                continue;
            }
            const std::size_t n = first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;
            char32_t c = first & (0x7fu >> n);
            for (std::size_t i = 1; i < n && at + i < text.size(); ++i) {
                c = c << 6 | (static_cast<unsigned char>(text[at + i]) & 0x3fu);
            }
            classes_.push_back(class_of(c));
            at = std::min(at + n, text.size());
        }
        classes_.push_back(CharClass::end);
        starts_.push_back(text.size());
    }

    std::size_t size() const { return classes_.size() - 1; }
    bool is(std::size_t i, unsigned classes) const { return (bit(classes_[i]) & classes) != 0; }
    CharClass operator[](std::size_t i) const { return classes_[i]; }
    // The end of the run of these classes from i on.
    std::size_t run(std::size_t i, unsigned classes) const {
        while (is(i, classes)) ++i;
        return i;
    }
    bool is_ascii(std::size_t i, char c) const { return i < size() && text_[starts_[i]] == c; }
    std::string_view part(std::size_t begin, std::size_t end) const {
        return text_.substr(starts_[begin], starts_[end] - starts_[begin]);
    }

private:
    std::string_view text_;
    std::vector<CharClass> classes_;
    std::vector<std::size_t> starts_;
};

// 's, 't, 're, 've, 'm, 'll or 'd from i on: where it ends, or i.
std::size_t contraction(const Characters& text, std::size_t i, bool any_case) {
    if (!text.is_ascii(i, '\'')) return i;
    const auto letter = [&](std::size_t at) {
        if (at >= text.size()) return '\0';
        const std::string_view one = text.part(at, at + 1);
        if (any_case && one == "\u017f") return 's';  // of which S is the capital letter too
        const char c = one.size() == 1 ? one[0] : '\0';
        return any_case && 'A' <= c && c <= 'Z' ? static_cast<char>(c + 'a' - 'A') : c;
    };
    const char first = letter(i + 1), second = letter(i + 2);
    if (first == 's' || first == 't' || first == 'm' || first == 'd') return i + 2;
    if (((first == 'r' || first == 'v') && second == 'e') || (first == 'l' && second == 'l')) return i + 3;
    return i;
}

// \s+(?!\S)|\s+, where what `ends` holds counts as the end of the text.
std::size_t spaces(const Characters& text, std::size_t i, unsigned ends) {
    const std::size_t end = text.run(i, kSpaces);
    return end == text.size() || text.is(end, ends) || end - i == 1 ? end : end - 1;
}

// GPT-2's expression; with `digits`, each number by itself.
std::size_t gpt2_piece(const Characters& text, std::size_t i, bool digits) {
    if (const std::size_t end = contraction(text, i, false); end > i) return end;
    const std::size_t word = text.is_ascii(i, ' ') ? i + 1 : i;
    for (const unsigned classes : {kLetters, kNumbers, kOthers}) {
        if (digits && classes == kNumbers) {
            if (text.is(i, kNumbers)) return i + 1;
        } else if (text.is(word, classes)) {
            return text.run(word, classes);
        }
    }
    return spaces(text, i, digits ? kNumbers : 0);
}

// What those after GPT-2 have in common, behind their words: numbers, signs with the newlines (and slashes) that
// follow, lines, spaces.
std::size_t other_piece(const Characters& text, std::size_t i, std::size_t most_digits, bool slashes) {
    if (text.is(i, kNumbers)) return std::min(text.run(i, kNumbers), i + most_digits);
    if (const std::size_t sign = text.is_ascii(i, ' ') ? i + 1 : i; text.is(sign, kOthers)) {
        std::size_t end = text.run(sign, kOthers);
        while (text.is(end, bit(CharClass::newline)) || (slashes && text.is_ascii(end, '/'))) ++end;
        return end;
    }
    for (std::size_t end = text.run(i, kSpaces); end > i; --end) {
        if (text[end - 1] == CharClass::newline) return end;
    }
    return spaces(text, i, 0);
}

std::size_t llama3_piece(const Characters& text, std::size_t i, std::size_t most_digits) {
    if (const std::size_t end = contraction(text, i, true); end > i) return end;
    if (text.is(i, kBegins) && text.is(i + 1, kLetters)) return text.run(i + 1, kLetters);
    if (text.is(i, kLetters)) return text.run(i, kLetters);
    return other_piece(text, i, most_digits, false);
}

// [\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+ from i on: where it ends, or i.
std::size_t lower_word(const Characters& text, std::size_t i) {
    std::size_t end = text.run(i, kNoLower);
    if (text.is(end, kNoUpper)) return text.run(end, kNoUpper);
    for (; end > i; --end) {  // what may be either is left to the second part
        if (text.is(end - 1, kNoUpper)) return end;
    }
    return i;
}

// [\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*
std::size_t upper_word(const Characters& text, std::size_t i) {
    const std::size_t end = text.run(i, kNoLower);
    return end == i ? i : text.run(end, kNoUpper);
}

std::size_t gpt4o_piece(const Characters& text, std::size_t i, bool contractions, std::size_t most_digits) {
    for (const auto word : {lower_word, upper_word}) {
        for (const std::size_t begin : {i + 1, i}) {
            if (begin > i && !text.is(i, kBegins)) continue;
            const std::size_t end = word(text, begin);
            if (end > begin) return contractions ? contraction(text, end, true) : end;
        }
    }
    return other_piece(text, i, most_digits, true);
}

std::size_t piece(const Characters& text, std::size_t i, Split how) {
    switch (how) {
        case Split::whole:
            return text.size();
        case Split::gpt2:
            return gpt2_piece(text, i, false);
        case Split::digits:
            return gpt2_piece(text, i, true);
        case Split::llama3:
            return llama3_piece(text, i, 3);
        case Split::qwen2:
            return llama3_piece(text, i, 1);
        case Split::gpt4o:
            return gpt4o_piece(text, i, true, 3);
        case Split::tekken:
            return gpt4o_piece(text, i, false, 1);
    }
    return text.size();
}

}  // namespace

std::vector<std::string_view> split(std::string_view text, Split how) {
    std::vector<std::string_view> pieces;
    if (how == Split::whole) {
        if (!text.empty()) pieces.push_back(text);
        return pieces;
    }
    const Characters characters(text);
    for (std::size_t i = 0; i < characters.size();) {
        const std::size_t end = piece(characters, i, how);
        pieces.push_back(characters.part(i, end));
        i = end;
    }
    return pieces;
}

}  // namespace pygpt
