// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string_view>

/// How `mshvsim` tells libmshvsim.so what was asked of it: through the environment.
namespace wherry::mshvsim_preload {

inline constexpr const char* personality_variable = "MSHVSIM_PERSONALITY";
inline constexpr const char* engine_variable = "MSHVSIM_ENGINE";
inline constexpr const char* trace_variable = "MSHVSIM_TRACE";
inline constexpr const char* library_name = "libmshvsim.so";
inline constexpr std::string_view device_path = "/dev/mshv";

} // namespace wherry::mshvsim_preload
