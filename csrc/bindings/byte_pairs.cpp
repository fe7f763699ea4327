// BytePairs: the vocabulary of a byte-level tokenizer.
#include <pybind11/stl.h>

#include <algorithm>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"
#include "bindings/arrays.h"
#include "bindings/choice.h"
#include "tokenizer/byte_pairs.h"
#include "tokenizer/split.h"

namespace pygpt {

namespace {

// As Python writes bytes.
std::string shown(unsigned char byte) {
    if (byte >= 32 && byte < 127 && byte != '\'' && byte != '\\') return {'b', '\'', static_cast<char>(byte), '\''};
    constexpr const char* kDigits = "0123456789abcdef";
    return {'b', '\'', '\\', 'x', kDigits[byte >> 4], kDigits[byte & 15], '\''};
}

// What becomes of a piece that is a token, and of bytes that are none.
struct Rules {
    std::optional<std::int32_t> unk_id;
    bool fuse_unk;  // one for several in a row
    bool whole_words;  // a piece that is a token is never split
};

// Tokens by their ids, and how text becomes them. Those that are not spelled in bytes, no text gives; they have a text
// all the same.
class Vocabulary {
public:
    Vocabulary(BytePairs pairs, Strings others, std::vector<std::int32_t> ids, const Rules& rules)
        : pairs_(std::move(pairs)), others_(std::move(others)), ids_(std::move(ids)), rules_(rules) {
        if (rules_.whole_words) pairs_.index_tokens();
        by_id_.reserve(ids_.size());
        for (std::size_t i = 0; i < ids_.size(); ++i) by_id_.emplace_back(ids_[i], i);
        if (!std::is_sorted(by_id_.begin(), by_id_.end())) std::sort(by_id_.begin(), by_id_.end());
    }

    // Of a table that gives each token's id, as GPT-2's vocab.json spells them.
    static Vocabulary of_table(const py::dict& table, const py::bytes& merges, std::optional<std::int32_t> unk_id,
                               bool fuse_unk, bool whole_words) {
        Strings tokens, others;
        std::vector<std::int32_t> ids, other_ids;
        std::string bytes;
        for (const auto& [token, id] : table) {
            Py_ssize_t size = 0;
            const char* const text = PyUnicode_AsUTF8AndSize(token.ptr(), &size);
            if (text == nullptr) {  // a lone surrogate
                PyErr_Clear();
                others.add(py::bytes(token.attr("encode")("utf-8", "replace")).cast<std::string>());
                other_ids.push_back(id.cast<std::int32_t>());
                continue;
            }
            const std::string_view spelled(text, static_cast<std::size_t>(size));
            const bool is_spelled = spelled_bytes(spelled, bytes);
            (is_spelled ? tokens : others).add(is_spelled ? std::string_view(bytes) : spelled);
            (is_spelled ? ids : other_ids).push_back(id.cast<std::int32_t>());
        }
        ids.insert(ids.end(), other_ids.begin(), other_ids.end());
        const std::string_view lines(merges);
        const GilReleased released;
        return {BytePairs::from_lines(std::move(tokens), lines),
                std::move(others),
                std::move(ids),
                {unk_id, fuse_unk, whole_words}};
    }

    // Of what arrays() gave.
    static Vocabulary of_arrays(const py::array& texts, const py::array& ends, const py::array& ids,
                                const py::array& merges, int n_others, std::optional<std::int32_t> unk_id,
                                bool fuse_unk, bool whole_words) {
        int n_bytes = 0, n = 0, n_merges = 0;
        const auto* const bytes = elements<const std::uint8_t>("texts", texts, {Size(&n_bytes)});
        const auto* const end = elements<const std::int32_t>("ends", ends, {Size(&n)});
        const auto* const id = elements<const std::int32_t>("ids", ids, {n});
        const auto* const merge = elements<const std::int32_t>("merges", merges, {Size(&n_merges), 3});
        if (n_others < 0 || n_others > n) throw InvalidArgument("n_others must be 0 to the number of tokens");
        Strings tokens, others;
        for (int i = 0, begin = 0; i < n; begin = end[i++]) {
            if (end[i] < begin || end[i] > n_bytes) throw InvalidArgument("a token lies outside of texts");
            (i < n - n_others ? tokens : others)
                .add({reinterpret_cast<const char*>(bytes) + begin, static_cast<std::size_t>(end[i] - begin)});
        }
        std::vector<Merge> list(static_cast<std::size_t>(n_merges));
        for (std::size_t i = 0; i < list.size(); ++i) list[i] = {merge[3 * i], merge[3 * i + 1], merge[3 * i + 2]};
        return {BytePairs(std::move(tokens), std::move(list)),
                std::move(others),
                {id, id + n},
                {unk_id, fuse_unk, whole_words}};
    }

    py::dict arrays() const {
        std::string texts;
        std::vector<std::int32_t> ends, merges;
        for (const Strings* some : {&pairs_.tokens(), &others_}) {
            for (std::size_t i = 0; i < some->size(); ++i) {
                texts += (*some)[i];
                ends.push_back(static_cast<std::int32_t>(texts.size()));
            }
        }
        for (const Merge& m : pairs_.merges()) merges.insert(merges.end(), {m.left, m.right, m.result});
        py::dict out;
        out["texts"] = py::array_t<std::uint8_t>(static_cast<py::ssize_t>(texts.size()),
                                                 reinterpret_cast<const std::uint8_t*>(texts.data()));
        out["ends"] = as_array(ends);
        out["ids"] = as_array(ids_);
        out["merges"] = as_array(merges).reshape({-1, 3});
        return out;
    }

    py::list encode(const std::string& text, const std::string& how) const {
        const auto kind = static_cast<Split>(choose("how", how, kSplitNames));
        std::vector<std::int32_t> ids;
        {
            const GilReleased released;
            std::vector<std::int32_t> found;
            for (const std::string_view piece : split(text, kind)) {
                found.clear();
                const std::int32_t whole = rules_.whole_words ? pairs_.find(piece) : -1;
                if (whole >= 0) {
                    found.push_back(whole);
                } else {
                    pairs_.encode(piece, found);
                }
                add_ids(found, ids);
            }
        }
        py::list out(ids.size());
        for (std::size_t i = 0; i < ids.size(); ++i) out[i] = py::int_(ids[i]);
        return out;
    }

    // The bytes of a token, or `none` where no token has this id.
    py::object get(std::int64_t id, const py::object& none) const {
        const auto at = std::lower_bound(by_id_.begin(), by_id_.end(), id,
                                         [](const auto& entry, std::int64_t wanted) { return entry.first < wanted; });
        if (at == by_id_.end() || at->first != id) return none;
        const std::size_t n = pairs_.tokens().size();
        return py::bytes(at->second < n ? pairs_.tokens()[at->second] : others_[at->second - n]);
    }

    std::int32_t greatest_id() const { return by_id_.empty() ? -1 : by_id_.back().first; }
    std::size_t n_others() const { return others_.size(); }

private:
    static py::array as_array(const std::vector<std::int32_t>& values) {
        return py::array_t<std::int32_t>(static_cast<py::ssize_t>(values.size()), values.data());
    }

    // The ids of one piece; of its bytes that are no tokens, the unknown token's.
    void add_ids(const std::vector<std::int32_t>& found, std::vector<std::int32_t>& ids) const {
        bool unknown = false;
        for (const std::int32_t token : found) {
            if (token >= 0) {
                ids.push_back(ids_[static_cast<std::size_t>(token)]);
            } else if (!rules_.unk_id) {
                throw InvalidArgument("no token for the byte " + shown(static_cast<unsigned char>(-1 - token)) +
                                      ", and no unknown token either");
            } else if (!(unknown && rules_.fuse_unk)) {
                ids.push_back(*rules_.unk_id);
            }
            unknown = token < 0;
        }
    }

    BytePairs pairs_;
    Strings others_;
    std::vector<std::int32_t> ids_;  // of the tokens that are spelled, then of the others
    std::vector<std::pair<std::int32_t, std::size_t>> by_id_;
    Rules rules_;
};

}  // namespace

void bind_byte_pairs(py::module_& m) {
    py::class_<Vocabulary>(m, "BytePairs")
        .def_static("of_table", &Vocabulary::of_table, py::arg("tokens"), py::arg("merges"), py::kw_only(),
                    py::arg("unk_id"), py::arg("fuse_unk"), py::arg("whole_words"))
        .def_static("of_arrays", &Vocabulary::of_arrays, py::kw_only(), py::arg("texts"), py::arg("ends"),
                    py::arg("ids"), py::arg("merges"), py::arg("n_others"), py::arg("unk_id"), py::arg("fuse_unk"),
                    py::arg("whole_words"))
        .def("arrays", &Vocabulary::arrays)
        .def("encode", &Vocabulary::encode, py::arg("text"), py::arg("how"))
        .def("get", &Vocabulary::get, py::arg("id"), py::arg("none"))
        .def_property_readonly("greatest_id", &Vocabulary::greatest_id)
        .def_property_readonly("n_others", &Vocabulary::n_others);
}

}  // namespace pygpt
