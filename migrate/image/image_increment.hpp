// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "dirtylog/dirty_set.hpp"
#include "migrate/image/image_chain.hpp"
#include "migrate/image/image_difference.hpp"
#include "vmm/guest_memory.hpp"

#include <utility>

namespace wherry::migrate {

/// What the writer of an image has to know of the one that it is based on. One thread.
class ImageIncrement {
public:
    /// For an image of the guest in `memory`. The options name `base` then, which outlives the
    /// result. `invalid_argument` where it cannot be the base of that.
    static formats::Result<ImageIncrement>
    on(ImageChain& base, const vmm::GuestMemory& memory, ImageOptions& options);

    [[nodiscard]] ImageDifference& difference() noexcept { return difference_; }
    /// Pages with contents there: to be told also where nobody has touched them since, for they are
    /// zero by now.
    [[nodiscard]] const dirtylog::DirtySet& pages_of_base() const noexcept { return pages_; }

private:
    ImageIncrement(ImageDifference difference, dirtylog::DirtySet pages)
        : difference_{std::move(difference)},
          pages_{std::move(pages)} {}

    ImageDifference difference_;
    dirtylog::DirtySet pages_;
};

} // namespace wherry::migrate
