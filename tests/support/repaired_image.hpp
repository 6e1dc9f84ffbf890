// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <span>

namespace wherry::tests {

/// Gives all that has a digest in a damaged image the right one, as far as its lengths make it one:
/// what a writer with a bug, or a forger, would have made.
void repair_image(std::span<std::byte> file);

} // namespace wherry::tests
