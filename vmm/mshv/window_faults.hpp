// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "formats/page_bitmap.hpp"
#include "formats/result.hpp"
#include "formats/units.hpp"
#include "vmm/fault_source.hpp"
#include "vmm/guest_memory.hpp"
#include "vmm/kick.hpp"
#include "vmm/mshv/guest_map.hpp"
#include "vmm/userfault_source.hpp"

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

namespace wherry::vmm::mshv {

class WindowSource;

/// Pages that the kernel brings in, and the hypervisor maps, together; counted from the start of
/// the region.
inline constexpr formats::PageCount window_pages{512};

/// Where vCPUs wait for RAM that is not here yet. Thread-safe.
class WindowGate {
public:
    enum class Outcome : std::uint8_t {
        waited,   ///< until it came, or until kicked
        complete, ///< nothing is missing there
    };
    /// The hypervisor would not let a vCPU have that page of RAM. Returns when it is worth another
    /// try, and early when `kick` is requested and wake() called.
    formats::Result<Outcome> await(formats::Gfn page, const Kick& kick);
    void wake() noexcept;

private:
    friend WindowSource;
    void set(WindowSource* source);

    std::mutex lock_;
    std::condition_variable changed_;
    WindowSource* source_ = nullptr; ///< while armed
};

/// Missing pages of a guest of the Microsoft hypervisor. Three kinds of kernels, two techniques:
///
/// * Linux 7.3 takes the guest's faults as this process's own and waits for userfaultfd. Only a
///   fatal signal ends that wait: a vCPU in it cannot be kicked.
/// * Linux 6.19 to 7.2 takes them without leave to wait. A window with a missing page in it comes
///   back as an intercept; the vCPU's thread waits at the gate, kickable, and runs again. Nothing
///   is emulated.
/// * Before 6.19 memory is pinned when it is mapped: chunks of a window with missing pages in them
///   are not mapped before they are complete. A guest that touches one leaves by an intercept too.
///
/// Which of the first two it is shows by itself. The VMM's own accesses wait in all three.
class WindowSource final : public FaultSource {
public:
    static formats::Result<std::unique_ptr<FaultSource>>
    open(GuestMemory& memory, GuestMap& map, WindowGate& gate, bool kernel_pins);
    WindowSource(
        GuestMemory& memory,
        GuestMap& map,
        WindowGate& gate,
        bool kernel_pins,
        std::unique_ptr<UserfaultSource> pages);
    ~WindowSource() override;

    formats::Status
    arm(std::span<const formats::PageBitmap> missing,
        FaultListener& listener,
        MemoryBefore before) override;
    formats::Result<std::vector<formats::PageRange>>
    narrow(std::span<const formats::PageBitmap> missing) override;
    formats::Result<formats::PageCount>
    place(formats::PageRange pages, std::span<const std::byte> bytes) override;
    formats::Result<formats::PageCount> place_zero(formats::PageRange pages) override;
    /// Not zero either while pages that have come are about to be mapped.
    [[nodiscard]] formats::PageCount missing() const noexcept override;
    [[nodiscard]] std::vector<formats::PageRange> missing_pages() const override;
    [[nodiscard]] std::vector<formats::PageRange> wanted_pages() const override;
    [[nodiscard]] formats::PageCount granule() const noexcept override { return window_pages; }
    formats::Status disarm() override;

private:
    friend WindowGate;
    struct Region {
        formats::PageBitmap absent; ///< of chunks that are not mapped
        formats::PageBitmap taken;  ///< of those: somebody is about to map them
    };

    [[nodiscard]] formats::PageRange window_of(formats::Gfn page) const;
    [[nodiscard]] bool is_absent(formats::Gfn page) const;
    formats::Status leave_out(std::span<const formats::PageBitmap> missing);
    formats::Status map_stretches(formats::PageRange piece);
    formats::Result<formats::PageCount>
    settle(formats::PageRange pages, formats::Result<formats::PageCount> placed);
    formats::Status map_complete(formats::PageRange pages);

    GuestMemory& memory_;
    GuestMap& map_;
    WindowGate& gate_;
    bool kernel_pins_;
    std::unique_ptr<UserfaultSource> pages_;
    std::vector<Region> regions_;                 ///< under the gate's lock
    std::atomic<std::uint64_t> absent_pages_ = 0; ///< of all regions
};

} // namespace wherry::vmm::mshv
