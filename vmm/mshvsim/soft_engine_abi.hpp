// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "vmm/mshvsim/engine.hpp"

#include <cstddef>
#include <cstdint>

namespace wherry::vmm::mshvsim {

/// The second face of the module `wherry_soft.so` (vmm/soft_module_abi.hpp has the first, and the
/// reasons): an engine for the simulator. Both sides must come from one build tree: the number
/// changes with every change of an interface and folds in the layouts that are shared.
inline constexpr std::uint64_t soft_engine_abi =
    (std::uint64_t{2} << 48U) | (std::uint64_t{sizeof(EngineCapabilities)} << 32U) |
    (std::uint64_t{sizeof(Exit)} << 16U) | std::uint64_t{sizeof(SystemRegisters)};

inline constexpr const char* soft_engine_module = "wherry_soft.so";
/// `extern "C"`; must return `soft_engine_abi`, asked before anything else of the module is used.
inline constexpr const char* soft_engine_abi_symbol = "wherry_soft_engine_abi";
inline constexpr const char* soft_engine_open_symbol = "wherry_open_soft_engine";

using SoftEngineAbi = std::uint64_t();
/// The caller owns the engine and keeps the module loaded for good. nullptr on failure, with one
/// sentence, cut to `error_size` and always ended with a zero, in `error_text`.
using OpenSoftEngine = Engine*(char* error_text, std::size_t error_size);

} // namespace wherry::vmm::mshvsim
