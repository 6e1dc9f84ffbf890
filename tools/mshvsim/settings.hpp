// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "vmm/mshvsim/simulator.hpp"

#include <optional>
#include <string_view>

/// How `mshvsim` tells libmshvsim.so what was asked of it: through the environment.
namespace wherry::mshvsim_preload {

inline constexpr const char* personality_variable = "MSHVSIM_PERSONALITY";
inline constexpr const char* engine_variable = "MSHVSIM_ENGINE";
inline constexpr const char* trace_variable = "MSHVSIM_TRACE";
inline constexpr const char* library_name = "libmshvsim.so";
inline constexpr std::string_view device_path = "/dev/mshv";

inline std::optional<vmm::mshvsim::Personality> personality_from(std::string_view text) {
    using vmm::mshvsim::Personality;
    if (text == "6.18") {
        return Personality::v6_18;
    }
    if (text == "7.2") {
        return Personality::v7_2;
    }
    return text == "7.3" ? std::optional{Personality::v7_3} : std::nullopt;
}

inline std::optional<vmm::mshvsim::EngineChoice> engine_from(std::string_view text) {
    using vmm::mshvsim::EngineChoice;
    if (text == "auto") {
        return EngineChoice::automatic;
    }
    if (text == "kvm") {
        return EngineChoice::kvm;
    }
    return text == "soft" ? std::optional{EngineChoice::soft} : std::nullopt;
}

} // namespace wherry::mshvsim_preload
