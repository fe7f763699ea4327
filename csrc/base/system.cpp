#include "base/system.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdio>
#include <memory>

namespace pygpt {

std::optional<std::string> text_of(const std::string& path) {
    const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen(path.c_str(), "re"), std::fclose);
    if (file == nullptr) return std::nullopt;
    std::string text;
    std::array<char, 4096> part;
    while (const std::size_t n = std::fread(part.data(), 1, part.size(), file.get())) text.append(part.data(), n);
    if (std::ferror(file.get()) != 0) return std::nullopt;
    return text;
}

std::optional<std::int64_t> number_in(std::string_view text) {
    text.remove_prefix(std::min(text.find_first_not_of(" \t"), text.size()));
    std::int64_t number = 0;
    if (std::from_chars(text.data(), text.data() + text.size(), number).ec != std::errc()) return std::nullopt;
    return number;
}

std::optional<std::int64_t> number_after(std::string_view text, std::string_view key) {
    for (std::size_t at = 0; at < text.size(); at = std::min(text.find('\n', at), text.size() - 1) + 1) {
        if (text.substr(at).starts_with(key)) return number_in(text.substr(at + key.size()));
    }
    return std::nullopt;
}

std::vector<ControlGroup> control_groups(const std::string& root, const std::string& controller) {
    std::vector<ControlGroup> out;
    const std::string groups = text_of(root + "/proc/self/cgroup").value_or("");
    for (std::size_t at = 0; at < groups.size();) {  // lines of number:controllers:path
        const std::size_t end = std::min(groups.find('\n', at), groups.size());
        const std::string line = groups.substr(at, end - at);
        at = end + 1;
        const auto first = line.find(':'), second = line.find(':', first + 1);
        if (first == std::string::npos || second == std::string::npos) continue;
        const std::string controllers = line.substr(first + 1, second - first - 1);
        const bool v2 = controllers.empty();
        if (!v2 && ("," + controllers + ",").find("," + controller + ",") == std::string::npos) continue;
        // Inside a container the path may be the host's; the root of the mount is then the container's own group.
        for (std::string path = line.substr(second + 1);; path = path.substr(0, path.rfind('/'))) {
            if (path == "/") path.clear();
            out.push_back({root + "/sys/fs/cgroup" + (v2 ? "" : "/" + controller) + path, v2});
            if (path.find('/') == std::string::npos) break;
        }
    }
    return out;
}

namespace {

// What a control group's files say, where it has a limit: "max" is no number, and version 1 says 2^63 less a page.
std::optional<std::int64_t> group_limit(const std::string& path) {
    const auto limit = number_in(text_of(path).value_or(""));
    return limit && *limit < std::int64_t{1} << 60 ? limit : std::nullopt;
}

// Of its limit, what the group may still take: pages of files count as taken, but the system gives them back.
std::optional<std::int64_t> left_in(const ControlGroup& group, std::int64_t free_swap) {
    const std::string memory = group.folder + "/memory.";
    const auto limit = group_limit(memory + (group.v2 ? "max" : "limit_in_bytes"));
    const auto used = number_in(text_of(memory + (group.v2 ? "current" : "usage_in_bytes")).value_or(""));
    if (!limit || !used) return std::nullopt;
    const std::string stat = text_of(memory + "stat").value_or(""), total = group.v2 ? "" : "total_";
    const std::int64_t files = number_after(stat, total + "inactive_file ").value_or(0) +
                               number_after(stat, total + "active_file ").value_or(0);
    if (group.v2) {
        if (const auto swap = group_limit(memory + "swap.max")) {
            const auto swapped = number_in(text_of(memory + "swap.current").value_or("")).value_or(0);
            free_swap = std::clamp<std::int64_t>(*swap - swapped, 0, free_swap);
        }
    }
    return *limit - *used + files + free_swap;
}

}  // namespace

std::optional<std::uint64_t> available_memory(const std::string& root) {
    const std::string all = text_of(root + "/proc/meminfo").value_or("");
    const std::int64_t free_swap = number_after(all, "SwapFree:").value_or(0) * 1024;
    std::optional<std::int64_t> least = number_after(all, "MemAvailable:");
    if (least) *least = *least * 1024 + free_swap;
    for (const ControlGroup& group : control_groups(root, "memory")) {
        const auto left = left_in(group, free_swap);
        if (left && (!least || *left < *least)) least = left;
    }
    if (!least) return std::nullopt;
    return static_cast<std::uint64_t>(std::max<std::int64_t>(0, *least));
}

}  // namespace pygpt
