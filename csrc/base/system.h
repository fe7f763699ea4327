// What the operating system says in text files, below /proc and /sys. `root` is the folder that holds these, for tests.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace pygpt {

// The whole of a small file; nothing where it cannot be read. C's files and not C++'s streams: where an extension
// carries a C++ library of its own, a stream's functions and data may come from two different copies of it.
std::optional<std::string> text_of(const std::string& path);

// The integer that a text begins with, after blanks.
std::optional<std::int64_t> number_in(std::string_view text);

// The integer behind `key` at the beginning of a line.
std::optional<std::int64_t> number_after(std::string_view text, std::string_view key);

// A control group that this process is in: the folder of its files, and which version's names they have.
struct ControlGroup {
    std::string folder;
    bool v2;
};

// Those that may limit what `controller` counts, each followed by the groups that it lies in.
std::vector<ControlGroup> control_groups(const std::string& root, const std::string& controller);

// Bytes that this process can still get before the system or a control group has to end it, free swap included; nothing
// where nobody says.
std::optional<std::uint64_t> available_memory(const std::string& root = "");

}  // namespace pygpt
