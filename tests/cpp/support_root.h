// A folder in place of / for what reads files of /proc and /sys.
#pragma once

#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <utility>
#include <vector>

#include "support.h"

namespace pygpt::test {

class FakeRoot {
public:
    using Files = std::vector<std::pair<std::string, std::string>>;  // path, text without the last newline

    explicit FakeRoot(const Files& files) {
        for (const auto& [path, text] : files) {
            const std::filesystem::path at = root_ / path;
            std::filesystem::create_directories(at.parent_path());
            std::ofstream(at) << text << "\n";
        }
    }
    FakeRoot(const FakeRoot&) = delete;
    FakeRoot& operator=(const FakeRoot&) = delete;
    ~FakeRoot() { std::filesystem::remove_all(root_); }

    std::string path() const { return root_.string(); }

private:
    std::filesystem::path root_ = testing::TempDir() + "pygpt-root-" + std::to_string(getpid());
};

}  // namespace pygpt::test
