// SPDX-License-Identifier: Apache-2.0
#include "vmm/soft/partition.hpp"
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

} // namespace

// The module's whole face: see vmm/soft_module_abi.hpp.
extern "C" {
[[gnu::visibility("default")]] std::uint64_t wherry_soft_module_abi();
[[gnu::visibility("default")]] wherry::vmm::Partition* wherry_open_soft_partition(
    const wherry::vmm::PartitionOptions* options, char* error_text, std::size_t error_size);
}

std::uint64_t wherry_soft_module_abi() {
    return wherry::vmm::soft_module_abi;
}

wherry::vmm::Partition* wherry_open_soft_partition(
    const wherry::vmm::PartitionOptions* options, char* error_text, std::size_t error_size) {
    const std::span<char> text{error_text, error_size};
    try {
        auto opened = wherry::vmm::soft::SoftPartition::open(*options);
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

static_assert(std::is_same_v<decltype(wherry_soft_module_abi), wherry::vmm::SoftModuleAbi>);
static_assert(std::is_same_v<decltype(wherry_open_soft_partition), wherry::vmm::OpenSoftPartition>);
