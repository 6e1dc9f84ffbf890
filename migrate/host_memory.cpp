// SPDX-License-Identifier: Apache-2.0
#include "migrate/host_memory.hpp"

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

#include <sys/resource.h>

namespace wherry::migrate {

namespace {

using formats::Bytes;

std::optional<std::string> text_of(const std::filesystem::path& file) {
    std::ifstream in{file};
    if (!in) {
        return std::nullopt;
    }
    return std::string{std::istreambuf_iterator<char>{in}, {}};
}

/// Unset for "max" and anything else that is no number.
std::optional<std::uint64_t> number_in(const std::filesystem::path& file) {
    const auto text = text_of(file);
    std::uint64_t number = 0;
    if (!text ||
        std::from_chars(text->data(), text->data() + text->size(), number).ec != std::errc{}) {
        return std::nullopt;
    }
    return number;
}

std::uint64_t left_of(std::uint64_t limit, std::uint64_t used) {
    return limit > used ? limit - used : 0;
}

/// The tightest limit on the way from our cgroup to the root. What its page cache holds can be
/// reclaimed, so it counts as free.
std::optional<std::uint64_t> cgroup_headroom() {
    const auto membership = text_of("/proc/self/cgroup");
    const auto path = membership ? cgroup_path(*membership) : std::nullopt;
    if (!path) {
        return std::nullopt;
    }
    std::optional<std::uint64_t> headroom;
    const std::filesystem::path root{"/sys/fs/cgroup"};
    std::filesystem::path at = root / path->substr(std::min<std::size_t>(1, path->size()));
    while (at != root && at.has_relative_path()) {
        const auto limit = number_in(at / "memory.max");
        const auto used = number_in(at / "memory.current");
        if (limit && used) {
            const auto left = left_of(*limit, *used);
            headroom = headroom ? std::min(*headroom, left) : left;
        }
        at = at.parent_path();
    }
    return headroom;
}

} // namespace

std::optional<Bytes> meminfo_entry(std::string_view file, std::string_view name) {
    const std::string key = std::string{name} + ":";
    std::size_t at = file.find(key);
    while (at != std::string_view::npos && at != 0 && file[at - 1] != '\n') {
        at = file.find(key, at + 1);
    }
    if (at == std::string_view::npos) {
        return std::nullopt;
    }
    const std::size_t digits = file.find_first_of("0123456789", at + key.size());
    std::uint64_t kib = 0;
    if (digits == std::string_view::npos ||
        std::from_chars(file.data() + digits, file.data() + file.size(), kib).ec != std::errc{}) {
        return std::nullopt;
    }
    return Bytes{kib * 1024};
}

std::optional<std::string_view> cgroup_path(std::string_view file) {
    constexpr std::string_view prefix = "0::";
    std::size_t at = file.find(prefix);
    while (at != std::string_view::npos && at != 0 && file[at - 1] != '\n') {
        at = file.find(prefix, at + 1);
    }
    if (at == std::string_view::npos) {
        return std::nullopt;
    }
    const std::string_view rest = file.substr(at + prefix.size());
    return rest.substr(0, rest.find('\n'));
}

formats::Result<Bytes> host_memory_headroom() {
    const auto meminfo = text_of("/proc/meminfo");
    const auto available =
        meminfo ? meminfo_entry(*meminfo, "MemAvailable") : std::optional<Bytes>{};
    if (!available) {
        return formats::fail(
            formats::ErrorCode::unsupported,
            "/proc/meminfo does not say how much memory is available");
    }
    std::uint64_t headroom = available->value();
    const auto in_cgroup = cgroup_headroom();
    if (in_cgroup) {
        headroom = std::min(headroom, *in_cgroup);
    }
    rlimit address_space{};
    if (getrlimit(RLIMIT_AS, &address_space) == 0 && address_space.rlim_cur != RLIM_INFINITY) {
        const auto status = text_of("/proc/self/status");
        const auto used = status ? meminfo_entry(*status, "VmSize") : std::optional<Bytes>{};
        headroom =
            std::min(headroom, left_of(address_space.rlim_cur, used.value_or(Bytes{0}).value()));
    }
    return Bytes{headroom};
}

} // namespace wherry::migrate
