// What the machine can do, which table that selects, and how many threads it is worth.
#include <cstdlib>
#include <optional>
#include <string>

#include "base/error.h"
#include "cpu/cores.h"
#include "cpu/features.h"
#include "support_root.h"

#if defined(__linux__)
#include <sched.h>
#endif

namespace pygpt::test {
namespace {

// Sets or, without a value, unsets PYGPT_ISA; puts it back afterwards.
class IsaVariable {
public:
    explicit IsaVariable(const char* value) {
        if (const char* old = std::getenv("PYGPT_ISA")) old_ = old;
        set(value);
    }
    IsaVariable(const IsaVariable&) = delete;
    IsaVariable& operator=(const IsaVariable&) = delete;
    ~IsaVariable() { set(old_ ? old_->c_str() : nullptr); }

private:
    static void set(const char* value) {
        if (value == nullptr) {
            unsetenv("PYGPT_ISA");
        } else {
            setenv("PYGPT_ISA", value, 1);
        }
    }

    std::optional<std::string> old_;
};

std::string error_of(const std::string& name) {
    try {
        select_kernels(name);
    } catch (const InvalidArgument& e) {
        return e.what();
    }
    return "";
}

#if defined(__x86_64__)
TEST(Features, AgreeWithTheCompilersOwnDetection) {
    const CpuFeatures f = detect_cpu();
    EXPECT_EQ(f.avx2, __builtin_cpu_supports("avx2") != 0);
    EXPECT_EQ(f.fma, __builtin_cpu_supports("fma") != 0);
    EXPECT_EQ(f.avx512f, __builtin_cpu_supports("avx512f") != 0);
    EXPECT_EQ(f.avx512bw, __builtin_cpu_supports("avx512bw") != 0);
    EXPECT_EQ(f.avx512vl, __builtin_cpu_supports("avx512vl") != 0);
    EXPECT_EQ(f.avx512dq, __builtin_cpu_supports("avx512dq") != 0);
}
#elif defined(__aarch64__) && defined(__linux__)
TEST(Features, AgreeWithTheProcessorsOwnRegisters) {
    std::uint64_t isar0, isar1;  // which Linux lets a program read
    __asm__("mrs %0, ID_AA64ISAR0_EL1" : "=r"(isar0));
    __asm__("mrs %0, ID_AA64ISAR1_EL1" : "=r"(isar1));
    const CpuFeatures f = detect_cpu();
    EXPECT_TRUE(f.neon);
    EXPECT_EQ(f.dotprod, (isar0 >> 44 & 15) != 0);
    EXPECT_EQ(f.i8mm, (isar1 >> 52 & 15) != 0);
}
#endif

TEST(Select, TheBestComesFirstAndScalarLast) {
    const std::vector<const Kernels*> all = runnable_kernels();
    ASSERT_FALSE(all.empty());
    EXPECT_STREQ(all.back()->name, "scalar");
    std::string names;
    for (const Kernels* k : all) names += std::string(k->name) + " ";
    const CpuFeatures f = detect_cpu();
    const bool avx2 = f.avx2 && f.fma && f.f16c;
    const bool avx512 = avx2 && f.avx512f && f.avx512bw && f.avx512vl && f.avx512dq;
    std::string expected;
    if (avx512 && f.avx512_vnni && f.amx_int8 && request_amx().empty()) expected += "amx ";
    if (avx512 && f.avx512_vnni) expected += "avx512vnni ";
    if (avx512) expected += "avx512 ";
    if (avx2 && f.avx_vnni) expected += "avxvnni ";
    if (avx2) expected += "avx2 ";
    if (f.dotprod && f.i8mm) expected += "i8mm ";
    if (f.dotprod) expected += "dotprod ";
    if (f.neon) expected += "neon ";
    EXPECT_EQ(names, expected + "scalar ");
}

TEST(Select, ANameForcesItsTable) {
    const IsaVariable none(nullptr);
    EXPECT_EQ(&select_kernels(""), runnable_kernels().front());
    for (const Kernels* k : runnable_kernels()) EXPECT_EQ(&select_kernels(k->name), k);
}

TEST(Select, TheVariableForcesATable) {
    for (const Kernels* k : runnable_kernels()) {
        const IsaVariable set(k->name);
        EXPECT_EQ(&select_kernels(""), k);
    }
    const IsaVariable scalar("scalar");
    EXPECT_STREQ(select_kernels(runnable_kernels().front()->name).name, runnable_kernels().front()->name);
    const IsaVariable empty("");
    EXPECT_EQ(&select_kernels(""), runnable_kernels().front());
}

TEST(Select, UnknownNamesSayWhatIsAllowed) {
    const IsaVariable none(nullptr);
    const std::string by_name = error_of("sse9");
    EXPECT_NE(by_name.find("isa='sse9'"), std::string::npos) << by_name;
    EXPECT_NE(by_name.find("scalar"), std::string::npos) << by_name;
    EXPECT_NE(error_of("AVX2"), "");  // names are exact
    const IsaVariable wrong("mmx");
    const std::string by_variable = error_of("");
    EXPECT_NE(by_variable.find("PYGPT_ISA='mmx'"), std::string::npos) << by_variable;
}

TEST(Cores, AreAtLeastOneAndHaveAReason) {
    const UsableCores cores = usable_cores();
    EXPECT_GE(cores.count, 1);
    EXPECT_FALSE(cores.reason.empty());
}

#if defined(__linux__)
TEST(Cores, KeepToTheQuota) {
    using Files = FakeRoot::Files;
    const int all = usable_cores(FakeRoot({}).path()).count;  // no quota, and no word of cores that share threads
    if (all < 2) GTEST_SKIP() << "one CPU: there is nothing that a quota could take away";
    const Files one_core[] = {
        {{"proc/self/cgroup", "0::/"}, {"sys/fs/cgroup/cpu.max", "100000 100000"}},
        {{"proc/self/cgroup", "0::/"}, {"sys/fs/cgroup/cpu.max", "150000 100000"}},  // half a core is no second thread
        {{"proc/self/cgroup", "0::/"}, {"sys/fs/cgroup/cpu.max", "10000 100000"}},
        {{"proc/self/cgroup", "0::/a/b"},  // the tightest level counts
         {"sys/fs/cgroup/a/cpu.max", "100000 100000"},
         {"sys/fs/cgroup/a/b/cpu.max", "max 100000"}},
        {{"proc/self/cgroup", "0::/docker/of-the-host"}, {"sys/fs/cgroup/cpu.max", "100000 100000"}},
        {{"proc/self/cgroup", "5:memory:/x\n4:cpu,cpuacct:/x"},
         {"sys/fs/cgroup/cpu/x/cpu.cfs_quota_us", "50000"},
         {"sys/fs/cgroup/cpu/x/cpu.cfs_period_us", "50000"}},
    };
    for (const Files& files : one_core) {
        const UsableCores cores = usable_cores(FakeRoot(files).path());
        EXPECT_EQ(cores.count, 1) << files.back().first << " " << files.back().second;
        EXPECT_EQ(cores.reason, "cgroup CPU quota");
    }
    const Files no_limit[] = {
        {{"proc/self/cgroup", "0::/"}, {"sys/fs/cgroup/cpu.max", "max 100000"}},
        {{"proc/self/cgroup", "0::/"}, {"sys/fs/cgroup/cpu.max", "nonsense"}},
        {{"proc/self/cgroup", "0::/"}, {"sys/fs/cgroup/cpu.max", "100000000 100000"}},
        {{"proc/self/cgroup", "4:cpu,cpuacct:/"},
         {"sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1"},
         {"sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000"}},
    };
    for (const Files& files : no_limit)
        EXPECT_EQ(usable_cores(FakeRoot(files).path()).count, all) << files.back().second;
}

TEST(Cores, ThatAreThreadsOfOneCountOnce) {
    FakeRoot::Files files;
    for (int cpu = 0; cpu < 1024; ++cpu) {
        files.emplace_back("sys/devices/system/cpu/cpu" + std::to_string(cpu) + "/topology/thread_siblings_list",
                           "0-1023");
    }
    EXPECT_EQ(usable_cores(FakeRoot(files).path()).count, 1);
}

TEST(Cores, KeepToTheAffinityMask) {
    cpu_set_t old;
    if (sched_getaffinity(0, sizeof old, &old) != 0) GTEST_SKIP() << "more CPUs than this test's mask holds";
    EXPECT_LE(usable_cores().count, CPU_COUNT(&old));
    int first = 0;
    while (!CPU_ISSET(static_cast<std::size_t>(first), &old)) ++first;
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(static_cast<std::size_t>(first), &one);
    ASSERT_EQ(sched_setaffinity(0, sizeof one, &one), 0);
    const int pinned = usable_cores().count;
    sched_setaffinity(0, sizeof old, &old);
    EXPECT_EQ(pinned, 1);
}
#endif

}  // namespace
}  // namespace pygpt::test
