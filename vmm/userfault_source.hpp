// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "formats/page_bitmap.hpp"
#include "formats/result.hpp"
#include "vmm/fault_source.hpp"
#include "vmm/guest_memory.hpp"
#include "vmm/missing_pages.hpp"
#include "vmm/unique_fd.hpp"
#include "vmm/unmapped_pages.hpp"
#include "vmm/userfault.hpp"

#include <atomic>
#include <cstddef>
#include <memory>
#include <mutex>
#include <optional>
#include <shared_mutex>
#include <span>
#include <thread>
#include <vector>

namespace wherry::vmm {

/// Missing pages by userfaultfd: for hypervisors that reach guest memory as this process does.
///
/// Missing pages may have stale contents in the file behind guest memory: they are not taken away
/// (a system call for each run, a second for 120,000 of them), the mapping merely forgets that it
/// had them. A page is placed by writing it to the file and then giving it to the mapping. The
/// price is that pages which are not missing fault once, too, where a missing one is near; a
/// thread of ours gives them to the mapping at once, and another one, in no hurry, those that
/// nobody has touched meanwhile.
class UserfaultSource final : public FaultSource {
    class Opened { // only open() can make one
        friend UserfaultSource;
        Opened() = default;
    };

public:
    /// `granule`: how many pages the hypervisor wants together; the listener is told of all that
    /// are missing of those. `memory` outlives the source. `permission` or `unsupported`, naming
    /// the remedy, where this host has no userfaultfd for it.
    static formats::Result<std::unique_ptr<UserfaultSource>>
    open(GuestMemory& memory, formats::PageCount granule = formats::PageCount{1});
    UserfaultSource(Opened, GuestMemory& memory, Userfault userfault, formats::PageCount granule);
    ~UserfaultSource() override;

    formats::Status
    arm(std::span<const formats::PageBitmap> missing,
        FaultListener& listener,
        MemoryBefore before) override;
    formats::Result<std::vector<formats::PageRange>>
    narrow(std::span<const formats::PageBitmap> missing) override;
    formats::Result<formats::PageCount>
    place(formats::PageRange pages, std::span<const std::byte> bytes) override;
    formats::Result<formats::PageCount> place_zero(formats::PageRange pages) override;
    [[nodiscard]] formats::PageCount missing() const noexcept override;
    [[nodiscard]] std::vector<formats::PageRange> missing_pages() const override;
    [[nodiscard]] std::vector<formats::PageRange> wanted_pages() const override;
    [[nodiscard]] formats::PageCount granule() const noexcept override { return granule_; }
    formats::Status disarm() override;

    // For hypervisors that tell of their accesses themselves.
    [[nodiscard]] bool is_missing(formats::PageRange pages) const;
    /// Tells the listener of what is missing of these.
    void want(formats::PageRange pages);
    /// Gives the mapping all of these pages, none of which is missing, zeros for holes: who touches
    /// them without leave to wait finds them.
    formats::Status map_all(formats::PageRange pages);

private:
    enum class State : std::uint8_t { fresh, armed, disarmed };
    struct Watched {
        std::byte* at;
        formats::Bytes size;
    };

    formats::Status watch(std::span<const formats::PageBitmap> missing, MemoryBefore before);
    formats::Status forget();
    template <typename Fill>
    formats::Result<formats::PageCount> fill(formats::PageRange pages, const Fill& with);
    formats::Status write(formats::PageRange run, std::span<const std::byte> bytes) const;
    formats::Status punch(formats::PageRange run) const;
    void remember(int error, const char* what);

    void handle();
    void serve(const Userfault::Fault& fault);
    void map_present(formats::PageRange run);
    void sweep();

    [[nodiscard]] const MemoryRegion& region_of(formats::Gfn page) const;
    [[nodiscard]] static std::byte* address_of(const MemoryRegion& region, formats::Gfn page);
    [[nodiscard]] static formats::Bytes offset_of(const MemoryRegion& region, formats::Gfn page);
    [[nodiscard]] formats::Gfn next_in_file(const MemoryRegion& region, formats::Gfn from) const;

    GuestMemory& memory_;
    Userfault userfault_;
    formats::PageCount granule_;
    State state_ = State::fresh;
    FaultListener* listener_ = nullptr;
    MissingPages missing_;
    UnmappedPages unmapped_;
    std::vector<Watched> watched_;
    std::shared_mutex in_use_; ///< shared while pages are placed
    std::mutex failure_lock_;
    std::optional<formats::Error> failure_; ///< of the threads below

    std::atomic<bool> ends_ = false;
    UniqueFd stop_; ///< an eventfd; the same, for who waits
    std::thread handler_;
    std::thread sweeper_; ///< as long as the mapping lacks pages that are there
};

} // namespace wherry::vmm
