// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "formats/page_bitmap.hpp"
#include "formats/page_range.hpp"
#include "formats/result.hpp"
#include "formats/units.hpp"

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace wherry::vmm {

/// Told of missing pages that somebody waits for, each page once. Called on any thread; must be
/// quick and must not throw.
class FaultListener {
public:
    FaultListener() = default;
    FaultListener(const FaultListener&) = delete;
    FaultListener& operator=(const FaultListener&) = delete;
    virtual void wanted(formats::PageRange pages) noexcept = 0;

protected:
    ~FaultListener() = default;
};

/// What there is of a guest's RAM before pages of it are said to be missing.
enum class MemoryBefore : std::uint8_t {
    used,      ///< anything; what it holds of missing pages is worthless
    untouched, ///< nothing: no page has ever been touched, and what is not missing is zero
};

/// Guest pages whose contents are still elsewhere. From arm() on nobody who goes through this
/// process's mapping of guest memory (vCPU, device, system call) sees such a page before it was
/// placed: whoever touches one waits. How far a waiting vCPU can be kicked is the backend's matter
/// (vmm/README.md).
///
/// Calls are thread-safe, but for arm() and disarm(), which are one caller's.
class FaultSource {
public:
    FaultSource() = default;
    FaultSource(const FaultSource&) = delete;
    FaultSource& operator=(const FaultSource&) = delete;
    /// With pages missing, whoever waits goes on and sees what is there: only for a guest that has
    /// been stopped or whose memory is given up.
    virtual ~FaultSource() = default;

    /// Once, while nothing of the guest runs here. What memory holds of `missing` is seen by
    /// nobody. One bitmap for each region of RAM, in their order; invalid_argument where they are
    /// of another RAM. `listener` outlives the armed time. After a failure the guest must not run
    /// here.
    virtual formats::Status
    arm(std::span<const formats::PageBitmap> missing,
        FaultListener& listener,
        MemoryBefore before) = 0;

    /// After arm() with `untouched`: of what was said to be missing only this is (bitmaps as there,
    /// of nothing that was not). The rest is zero and nobody places it; whoever waits for some of
    /// it goes on. What of the rest the listener was told of.
    virtual formats::Result<std::vector<formats::PageRange>>
    narrow(std::span<const formats::PageBitmap> missing) = 0;

    /// Puts contents in place and wakes who waits for them. A page that is there already is left
    /// alone, for the guest may have written it since: with this one rule pages may be pushed,
    /// asked for and sent again at the same time. How many were placed. After an error the pages
    /// that missing_pages() still names were not placed.
    virtual formats::Result<formats::PageCount>
    place(formats::PageRange pages, std::span<const std::byte> bytes) = 0;
    /// The same for pages of zeros.
    virtual formats::Result<formats::PageCount> place_zero(formats::PageRange pages) = 0;

    [[nodiscard]] virtual formats::PageCount missing() const noexcept = 0;
    /// In ascending order. What a peer must still send.
    [[nodiscard]] virtual std::vector<formats::PageRange> missing_pages() const = 0;
    /// Those of them that the listener was told of: to be asked for again after a lost connection.
    [[nodiscard]] virtual std::vector<formats::PageRange> wanted_pages() const = 0;

    /// How many pages, aligned from the start of their region, an access needs to be complete
    /// before it goes on: 1, or 512.
    [[nodiscard]] virtual formats::PageCount granule() const noexcept = 0;

    /// Everything as if it had never been armed. wrong_state while pages are missing.
    virtual formats::Status disarm() = 0;
};

} // namespace wherry::vmm
