// What the machine can do, which table that selects, and how many threads it is worth.
#include <cstdlib>
#include <optional>
#include <string>

#include "base/error.h"
#include "cpu/cores.h"
#include "cpu/features.h"
#include "support.h"

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
    EXPECT_EQ(names, std::string(avx512 ? "avx512 " : "") + (avx2 ? "avx2 " : "") + "scalar ");
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
