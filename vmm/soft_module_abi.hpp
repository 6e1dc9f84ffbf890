// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "vmm/partition.hpp"

#include <cstddef>
#include <cstdint>

namespace wherry::vmm {

/// The contract between the program and the module `wherry_soft.so`, which is opened at run time
/// and linked by nothing. C++ objects cross it, so both sides must come from one build tree: the
/// number changes with every change of an interface and folds in the layouts that are shared.
inline constexpr std::uint64_t soft_module_abi =
    (std::uint64_t{2} << 48U) | (std::uint64_t{sizeof(VcpuState)} << 32U) |
    (std::uint64_t{sizeof(GuestMemory)} << 16U) | std::uint64_t{sizeof(BackendCapabilities)};

inline constexpr const char* soft_module_file = "wherry_soft.so";
/// `extern "C" std::uint64_t wherry_soft_module_abi()`: must return `soft_module_abi`; asked
/// before anything else of the module is touched.
inline constexpr const char* soft_module_abi_symbol = "wherry_soft_module_abi";
inline constexpr const char* soft_module_open_symbol = "wherry_open_soft_partition";

using SoftModuleAbi = std::uint64_t();
/// The caller owns the partition and keeps the module loaded for good: the partition's code is
/// in it. nullptr on failure, with one sentence, cut to `error_size` and always ended with a
/// zero, in `error_text`.
using OpenSoftPartition =
    Partition*(const PartitionOptions* options, char* error_text, std::size_t error_size);

} // namespace wherry::vmm
