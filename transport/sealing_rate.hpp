// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "formats/result.hpp"
#include "transport/rate_limiter.hpp"

#include <chrono>

namespace wherry::transport {

/// How fast one core of this host encrypts for a channel.
struct SealingRate {
    BytesPerSecond usual; ///< the median of several measurements
    BytesPerSecond low;   ///< the slowest
};

/// Measures AES-256-GCM by records of 16 KiB, as TLS 1.3 has them, with the library that does it.
/// Blocks for about as long as it is told to.
formats::Result<SealingRate> measure_sealing(std::chrono::milliseconds for_time);

} // namespace wherry::transport
