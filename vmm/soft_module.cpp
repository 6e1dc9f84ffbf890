// SPDX-License-Identifier: Apache-2.0
#include "vmm/soft_module.hpp"

#include <array>
#include <cstdlib>
#include <filesystem>
#include <mutex>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include <dlfcn.h>

namespace wherry::vmm {

using formats::ErrorCode;
using formats::fail;
using formats::Result;

namespace {

/// Where the user said; else where an uninstalled and an installed program has it.
std::vector<std::filesystem::path> candidates() {
    if (const char* chosen = std::getenv("WHERRY_SOFT_MODULE"); // NOLINT(concurrency-mt-unsafe)
        chosen != nullptr && *chosen != '\0') {
        return {chosen};
    }
    std::error_code failed;
    const auto executable = std::filesystem::read_symlink("/proc/self/exe", failed);
    if (failed) {
        return {};
    }
    const auto directory = executable.parent_path();
    return {directory / soft_module_file, directory / "../lib/wherry" / soft_module_file};
}

Result<OpenSoftPartition*> load() {
    std::string tried;
    for (const auto& path : candidates()) {
        std::error_code ignored; // a path that cannot be looked at is not there
        if (!std::filesystem::exists(path, ignored)) {
            tried += fmt::format("{}{}", tried.empty() ? "" : ", ", path.string());
            continue;
        }
        void* const module = ::dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
        if (module == nullptr) {
            return fail(
                ErrorCode::unsupported, fmt::format("loading the soft backend: {}", ::dlerror()));
        }
        auto* const abi = reinterpret_cast<SoftModuleAbi*>(::dlsym(module, soft_module_abi_symbol));
        void* const function = ::dlsym(module, soft_module_open_symbol);
        if (abi == nullptr || function == nullptr || abi() != soft_module_abi) {
            return fail(
                ErrorCode::unsupported,
                fmt::format(
                    "{} is no soft backend of this program; build both from one tree",
                    path.string()));
        }
        return reinterpret_cast<OpenSoftPartition*>(function); // as POSIX has it
    }
    return fail(
        ErrorCode::unsupported,
        fmt::format(
            "the soft backend's module is not installed (looked for {}; build wherry with "
            "libunicorn-dev, or set WHERRY_SOFT_MODULE)",
            tried));
}

Result<OpenSoftPartition*> opener() {
    static std::mutex lock;
    static OpenSoftPartition* known = nullptr;
    const std::scoped_lock held{lock};
    if (known == nullptr) {
        const auto loaded = load();
        if (!loaded) {
            return fail(loaded.error());
        }
        known = *loaded;
    }
    return known;
}

} // namespace

Result<std::unique_ptr<Partition>> open_soft_partition(const PartitionOptions& options) {
    const auto open = opener();
    if (!open) {
        return fail(open.error());
    }
    std::array<char, 512> text{};
    std::unique_ptr<Partition> partition{(*open)(&options, text.data(), text.size())};
    if (!partition) {
        return fail(ErrorCode::unsupported, fmt::format("soft: {}", text.data()));
    }
    return partition;
}

} // namespace wherry::vmm
