// The expressions that cut up text before byte pairs are merged, of nearly all GPTs, as code.
#pragma once

#include <array>
#include <string_view>
#include <vector>

namespace pygpt {

// By the names of pygpt/tokenizer/expressions.py, which holds each as a regular expression. `whole`: one piece.
enum class Split { whole, gpt2, digits, llama3, qwen2, gpt4o, tekken };
constexpr std::array kSplitNames = {"whole", "gpt2", "digits", "llama3", "qwen2", "gpt4o", "tekken"};

// The pieces of a text in UTF-8, which must be valid: all of it, in order. Letters, numbers, marks and whitespace are
// those of unicode_classes.h.
std::vector<std::string_view> split(std::string_view text, Split how);

}  // namespace pygpt
