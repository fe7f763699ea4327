#include "cpu/cores.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <set>
#include <thread>
#include <vector>

#include "base/system.h"

#if defined(__linux__)
#include <sched.h>
#endif

namespace pygpt {

#if defined(__linux__)

namespace {

// The CPUs this process may run on; empty where the kernel does not say.
std::vector<int> allowed_cpus() {
    for (int n = 1024; n <= 1 << 16; n *= 2) {
        cpu_set_t* set = CPU_ALLOC(static_cast<std::size_t>(n));
        if (set == nullptr) return {};
        const std::size_t bytes = CPU_ALLOC_SIZE(static_cast<std::size_t>(n));
        CPU_ZERO_S(bytes, set);
        std::vector<int> cpus;
        const bool ok = sched_getaffinity(0, bytes, set) == 0;
        for (int cpu = 0; ok && cpu < n; ++cpu) {
            if (CPU_ISSET_S(static_cast<std::size_t>(cpu), bytes, set)) cpus.push_back(cpu);
        }
        CPU_FREE(set);
        if (ok) return cpus;
    }
    return {};
}

// CPUs that share a physical core list the same siblings.
int physical_cores(const std::string& root, const std::vector<int>& cpus) {
    std::set<std::string> cores;
    for (const int cpu : cpus) {
        const std::string name = std::to_string(cpu);
        const auto siblings = text_of(root + "/sys/devices/system/cpu/cpu" + name + "/topology/thread_siblings_list");
        cores.insert(siblings.value_or(name));
    }
    return static_cast<int>(cores.size());
}

// CPUs' worth of time that a control group grants in each period.
std::optional<double> quota_of(const ControlGroup& group) {
    std::string quota, period;
    if (group.v2) {  // "quota period", where quota may be "max"
        quota = text_of(group.folder + "/cpu.max").value_or("");
        period = quota.substr(std::min(quota.find(' '), quota.size()));
    } else {
        quota = text_of(group.folder + "/cpu.cfs_quota_us").value_or("");
        period = text_of(group.folder + "/cpu.cfs_period_us").value_or("");
    }
    const auto q = number_in(quota), p = number_in(period);
    if (!q || !p || *q <= 0 || *p <= 0) return std::nullopt;
    return static_cast<double>(*q) / static_cast<double>(*p);
}

// The tightest of all levels (version 2, then 1).
std::optional<double> cgroup_quota(const std::string& root) {
    std::optional<double> tightest;
    for (const ControlGroup& group : control_groups(root, "cpu")) {
        const auto quota = quota_of(group);
        if (quota && (!tightest || *quota < *tightest)) tightest = quota;
    }
    return tightest;
}

}  // namespace

UsableCores usable_cores(const std::string& root) {
    const std::vector<int> cpus = allowed_cpus();
    if (cpus.empty()) return {std::max(1, static_cast<int>(std::thread::hardware_concurrency())), "hardware threads"};
    const int cores = std::max(1, physical_cores(root, cpus));
    const auto quota = cgroup_quota(root);
    if (quota && *quota < cores) return {std::max(1, static_cast<int>(std::floor(*quota))), "cgroup CPU quota"};
    if (cores < static_cast<int>(cpus.size())) return {cores, "physical cores in the affinity mask"};
    return {cores, "CPUs in the affinity mask"};
}

#else

UsableCores usable_cores(const std::string&) {
    return {std::max(1, static_cast<int>(std::thread::hardware_concurrency())), "hardware threads"};
}

#endif

}  // namespace pygpt
