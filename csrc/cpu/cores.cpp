#include "cpu/cores.h"

#include <algorithm>
#include <cmath>
#include <fstream>
#include <optional>
#include <set>
#include <sstream>
#include <thread>
#include <vector>

#if defined(__linux__)
#include <sched.h>
#endif

namespace pygpt {

#if defined(__linux__)

namespace {

std::optional<std::string> first_line(const std::string& path) {
    std::ifstream file(path);
    std::string line;
    if (!file || !std::getline(file, line)) return std::nullopt;
    return line;
}

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
        const auto siblings =
            first_line(root + "/sys/devices/system/cpu/cpu" + std::to_string(cpu) + "/topology/thread_siblings_list");
        cores.insert(siblings ? *siblings : std::to_string(cpu));
    }
    return static_cast<int>(cores.size());
}

std::optional<double> ratio(const std::optional<std::string>& quota, const std::optional<std::string>& period) {
    if (!quota || !period) return std::nullopt;
    double q = 0, p = 0;
    if (!(std::istringstream(*quota) >> q) || !(std::istringstream(*period) >> p) || q <= 0 || p <= 0)
        return std::nullopt;
    return q / p;
}

// CPUs' worth of time that the process's control groups grant, the tightest of all levels (cgroup v2, then v1).
std::optional<double> cgroup_quota(const std::string& root) {
    std::optional<double> tightest;
    const auto take = [&](std::optional<double> q) {
        if (q && (!tightest || *q < *tightest)) tightest = q;
    };
    std::ifstream groups(root + "/proc/self/cgroup");
    std::string line;
    while (std::getline(groups, line)) {
        const auto first = line.find(':'), second = line.find(':', first + 1);
        if (second == std::string::npos) continue;
        const std::string controllers = line.substr(first + 1, second - first - 1);
        std::string path = line.substr(second + 1);
        const bool v2 = controllers.empty();
        if (!v2 && ("," + controllers + ",").find(",cpu,") == std::string::npos) continue;
        // Inside a container the path may be the host's; the root of the mount is then the container's own group.
        for (;; path = path.substr(0, path.rfind('/'))) {
            if (path == "/") path.clear();
            if (v2) {
                if (const auto max = first_line(root + "/sys/fs/cgroup" + path + "/cpu.max")) {
                    const auto space = max->find(' ');
                    if (space != std::string::npos) take(ratio(max->substr(0, space), max->substr(space + 1)));
                }
            } else {
                const std::string dir = root + "/sys/fs/cgroup/cpu" + path;
                take(ratio(first_line(dir + "/cpu.cfs_quota_us"), first_line(dir + "/cpu.cfs_period_us")));
            }
            if (path.empty()) break;
        }
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
