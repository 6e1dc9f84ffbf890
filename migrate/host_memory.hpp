// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "formats/result.hpp"
#include "formats/units.hpp"

#include <optional>
#include <string_view>

namespace wherry::migrate {

/// Memory that this process may still take: what the kernel says is available, and no more than
/// its cgroups (version 2) and RLIMIT_AS leave. Blocking, but only on /proc and /sys.
formats::Result<formats::Bytes> host_memory_headroom();

/// "MemAvailable:   123 kB" of /proc/meminfo and its like. Unset where there is no such line.
std::optional<formats::Bytes> meminfo_entry(std::string_view file, std::string_view name);
/// Path of the cgroup in the text of /proc/self/cgroup ("0::/a/b").
std::optional<std::string_view> cgroup_path(std::string_view file);

} // namespace wherry::migrate
