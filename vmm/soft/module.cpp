// SPDX-License-Identifier: Apache-2.0
#include "vmm/mshvsim/soft_engine_abi.hpp"
#include "vmm/soft/partition.hpp"
#include "vmm/soft/simulator_engine.hpp"
#include "vmm/soft_module_abi.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <span>
#include <string_view>

namespace {

void explain(std::string_view text, std::span<char> into) {
    if (into.empty()) {
        return;
    }
    const std::size_t length = std::min(text.size(), into.size() - 1);
    std::ranges::copy(text.substr(0, length), into.begin());
    into[length] = '\0';
}

/// What `open()` made, or nullptr with the reason in `text`. No exception leaves the module.
template <typename Open>
auto opened_or_null(Open open, std::span<char> text) -> decltype(open()->release()) {
    try {
        auto opened = open();
        if (!opened) {
            explain(opened.error().text(), text);
            return nullptr;
        }
        return opened->release();
    } catch (const std::exception& thrown) {
        explain(thrown.what(), text);
        return nullptr;
    }
}

} // namespace

// The module's whole face: see vmm/soft_module_abi.hpp and vmm/mshvsim/soft_engine_abi.hpp.
extern "C" {
[[gnu::visibility("default")]] std::uint64_t wherry_soft_module_abi();
[[gnu::visibility("default")]] wherry::vmm::Partition* wherry_open_soft_partition(
    const wherry::vmm::PartitionOptions* options, char* error_text, std::size_t error_size);
[[gnu::visibility("default")]] std::uint64_t wherry_soft_engine_abi();
[[gnu::visibility("default")]] wherry::vmm::mshvsim::Engine*
wherry_open_soft_engine(char* error_text, std::size_t error_size);
}

std::uint64_t wherry_soft_module_abi() {
    return wherry::vmm::soft_module_abi;
}

wherry::vmm::Partition* wherry_open_soft_partition(
    const wherry::vmm::PartitionOptions* options, char* error_text, std::size_t error_size) {
    return opened_or_null(
        [options] { return wherry::vmm::soft::SoftPartition::open(*options); },
        {error_text, error_size});
}

std::uint64_t wherry_soft_engine_abi() {
    return wherry::vmm::mshvsim::soft_engine_abi;
}

wherry::vmm::mshvsim::Engine* wherry_open_soft_engine(char* error_text, std::size_t error_size) {
    return opened_or_null(
        [] { return wherry::vmm::soft::SimulatorEngine::open(); }, {error_text, error_size});
}

static_assert(std::is_same_v<decltype(wherry_soft_module_abi), wherry::vmm::SoftModuleAbi>);
static_assert(std::is_same_v<decltype(wherry_open_soft_partition), wherry::vmm::OpenSoftPartition>);
static_assert(
    std::is_same_v<decltype(wherry_soft_engine_abi), wherry::vmm::mshvsim::SoftEngineAbi>);
static_assert(
    std::is_same_v<decltype(wherry_open_soft_engine), wherry::vmm::mshvsim::OpenSoftEngine>);
