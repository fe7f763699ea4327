// What the system says of itself, and memory that it does not have.
#include <limits>
#include <new>
#include <string>

#include "base/buffer.h"
#include "base/error.h"
#include "base/system.h"
#include "support_root.h"

namespace pygpt::test {
namespace {

using Files = FakeRoot::Files;

TEST(System, NumbersAreReadWithoutStreams) {
    EXPECT_EQ(number_in("42\n"), 42);
    EXPECT_EQ(number_in(" \t-7 100"), -7);
    EXPECT_EQ(number_in("9223372036854775807"), std::numeric_limits<std::int64_t>::max());
    for (const char* text : {"", " ", "max", "9223372036854775808", "kB 1"}) EXPECT_EQ(number_in(text), std::nullopt);
    EXPECT_EQ(number_after("a: 1\nbb: 22 kB\nb: 3", "b:"), 3);
    EXPECT_EQ(number_after("a: 1\nbb: 22 kB\n", "bb:"), 22);
    for (const char* text : {"", "\n", "a: 1", "a: b: 1", "b:"}) EXPECT_EQ(number_after(text, "b:"), std::nullopt);
}

TEST(System, AFileIsReadWholeOrNotAtAll) {
    const std::string large(10000, 'x');
    const FakeRoot root(Files{{"a", "one\ntwo"}, {"large", large}});
    EXPECT_EQ(text_of(root.path() + "/a"), "one\ntwo\n");
    EXPECT_EQ(text_of(root.path() + "/large"), large + "\n");
    EXPECT_EQ(text_of(root.path() + "/missing"), std::nullopt);
    EXPECT_EQ(text_of(root.path()), std::nullopt);  // a folder
}

#if defined(__linux__)
TEST(Memory, IsWhatTheSystemAndEveryGroupLeave) {
    constexpr std::uint64_t kMiB = 1 << 20;
    const std::string machine = "MemTotal: 4194304 kB\nMemAvailable: 2097152 kB\nSwapFree: 1048576 kB";
    const auto available = [](const Files& files) { return available_memory(FakeRoot(files).path()); };
    EXPECT_EQ(available({}), std::nullopt);
    EXPECT_EQ(available({{"proc/meminfo", machine}}), 3072 * kMiB);
    EXPECT_EQ(available({{"proc/meminfo", "MemAvailable: 2097152 kB"}}), 2048 * kMiB);
    // A limit of 1024 MiB, of which 600 are used and 100 of these are pages of files; swap beside it.
    const Files group = {{"proc/meminfo", machine},
                         {"proc/self/cgroup", "0::/a/b"},
                         {"sys/fs/cgroup/a/memory.max", "1073741824"},
                         {"sys/fs/cgroup/a/memory.current", "629145600"},
                         {"sys/fs/cgroup/a/memory.stat", "anon 5\ninactive_file 62914560\nactive_file 41943040"},
                         {"sys/fs/cgroup/a/b/memory.max", "max"},
                         {"sys/fs/cgroup/a/b/memory.current", "1"}};
    EXPECT_EQ(available(group), 1548 * kMiB);
    Files no_swap = group;
    no_swap.emplace_back("sys/fs/cgroup/a/memory.swap.max", "0");
    EXPECT_EQ(available(no_swap), 524 * kMiB);
    Files full = no_swap;
    full[3].second = "2147483648";  // more than the limit, as in the moment before the group is ended
    EXPECT_EQ(available(full), 0u);
    const Files version_1 = {{"proc/meminfo", machine},
                             {"proc/self/cgroup", "5:cpu:/x\n4:memory:/x"},
                             {"sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712"},
                             {"sys/fs/cgroup/memory/memory.usage_in_bytes", "1"},
                             {"sys/fs/cgroup/memory/x/memory.limit_in_bytes", "1048576"},
                             {"sys/fs/cgroup/memory/x/memory.usage_in_bytes", "1048576"}};
    EXPECT_EQ(available(version_1), 1024 * kMiB);  // the swap
}

TEST(Memory, MoreThanThereIsIsRefusedBeforeItIsUsed) {
    const std::uint64_t available = available_memory().value();
    try {
        const Buffer buffer(available + (std::size_t{1} << 30));
        FAIL() << "the system granted what it does not have";
    } catch (const OutOfMemory& e) {
        const std::string text = e.what();
        EXPECT_NE(text.find(" MiB of memory are needed, and "), std::string::npos) << text;
    }
    EXPECT_THROW(Buffer(std::numeric_limits<std::size_t>::max() / 4), std::bad_alloc);
}
#endif

}  // namespace
}  // namespace pygpt::test
