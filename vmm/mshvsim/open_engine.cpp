// SPDX-License-Identifier: Apache-2.0
#include "vmm/mshvsim/engine.hpp"
#include "vmm/mshvsim/kvm_engine.hpp"
#include "vmm/mshvsim/soft_engine_abi.hpp"

#include <array>
#include <cstdlib>
#include <filesystem>
#include <mutex>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include <dlfcn.h>

namespace wherry::vmm::mshvsim {

using formats::ErrorCode;
using formats::fail;
using formats::Result;

namespace {

/// Where the user said; else beside what this code is in (a program, or libmshvsim.so in a program
/// of somebody else), and where installations have it.
std::vector<std::filesystem::path> module_candidates() {
    if (const char* chosen = std::getenv("WHERRY_SOFT_MODULE"); // NOLINT(concurrency-mt-unsafe)
        chosen != nullptr && *chosen != '\0') {
        return {chosen};
    }
    Dl_info here{};
    if (::dladdr(reinterpret_cast<const void*>(&module_candidates), &here) == 0) {
        return {};
    }
    std::error_code failed;
    auto file = std::filesystem::canonical(here.dli_fname, failed);
    if (failed) { // a program that was found through PATH
        file = std::filesystem::read_symlink("/proc/self/exe", failed);
    }
    const auto folder = file.parent_path();
    return {
        folder / soft_engine_module,
        folder / "wherry" / soft_engine_module,
        folder.parent_path() / "lib" / "wherry" / soft_engine_module};
}

Result<OpenSoftEngine*> load_module() {
    std::string tried;
    for (const auto& path : module_candidates()) {
        std::error_code ignored; // a path that cannot be looked at is not there
        if (!std::filesystem::exists(path, ignored)) {
            tried += (tried.empty() ? "" : ", ") + path.string();
            continue;
        }
        void* const module = ::dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
        if (module == nullptr) {
            return fail(
                ErrorCode::unsupported, std::string{"loading the soft engine: "} + ::dlerror());
        }
        auto* const abi = reinterpret_cast<SoftEngineAbi*>(::dlsym(module, soft_engine_abi_symbol));
        void* const open = ::dlsym(module, soft_engine_open_symbol);
        if (abi == nullptr || open == nullptr || abi() != soft_engine_abi) {
            return fail(
                ErrorCode::unsupported,
                path.string() + " is no soft engine of this simulator; build both from one tree");
        }
        return reinterpret_cast<OpenSoftEngine*>(open); // as POSIX has it
    }
    return fail(
        ErrorCode::unsupported,
        "the soft engine's module is not installed (looked for " + tried +
            "; build wherry with libunicorn-dev, or set WHERRY_SOFT_MODULE)");
}

Result<std::unique_ptr<Engine>> open_soft_engine() {
    static std::mutex lock;
    static OpenSoftEngine* known = nullptr;
    const std::scoped_lock held{lock};
    if (known == nullptr) {
        auto loaded = load_module();
        if (!loaded) {
            return fail(std::move(loaded.error()));
        }
        known = *loaded;
    }
    std::array<char, 512> text{};
    std::unique_ptr<Engine> engine{known(text.data(), text.size())};
    if (engine == nullptr) {
        return fail(ErrorCode::unsupported, std::string{"the soft engine: "} + text.data());
    }
    return engine;
}

} // namespace

Result<std::unique_ptr<Engine>> open_engine(EngineChoice choice, const char* kvm_device) {
    if (choice == EngineChoice::soft) {
        return open_soft_engine();
    }
    auto kvm = KvmEngine::open(kvm_device);
    if (kvm || choice == EngineChoice::kvm) {
        return kvm;
    }
    auto soft = open_soft_engine();
    if (!soft) {
        return fail(
            ErrorCode::unsupported,
            "no engine runs guests of the MSHV simulator here: kvm: " + kvm.error().text() +
                "; soft: " + soft.error().text());
    }
    return soft;
}

} // namespace wherry::vmm::mshvsim
