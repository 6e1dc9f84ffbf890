// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "vmm/mshv/abi/ioctls.hpp"
#include "vmm/mshvsim/engine.hpp"
#include "vmm/mshvsim/simulator.hpp"

#include <atomic>
#include <list>
#include <memory>
#include <mutex>
#include <unordered_map>
#include <vector>

namespace wherry::vmm::mshvsim {

class Doorbells;

/// A partition's guest memory: the driver's regions, the hypervisor's map of them and its log of
/// accesses. Movable regions are mapped in windows of 512 pages, counted from the region's start,
/// when the guest first touches them; pinned ones (6.18) at once. Thread-safe.
class MemoryMap final : public MemoryFaults {
public:
    MemoryMap(Engine& engine, Personality personality, Doorbells& doorbells, unsigned gpa_bits);

    /// SET_GUEST_MEMORY: 0 or minus errno.
    int set(const mshv::abi::ioctls::MemoryRegion& wanted, bool is_initialized);

    Answer touch(std::uint64_t gpa, Access access) override;
    bool read(std::uint64_t gpa, std::span<std::byte> to) override;
    bool write(std::uint64_t gpa, std::span<const std::byte> from) override;
    bool ring(std::uint64_t gpa, std::span<const std::byte> data) override;
    /// What the hypervisor would let the guest do there now, without faulting anything in.
    struct Rights {
        bool is_mapped = false, read = false, write = false;
    };
    Rights rights(std::uint64_t gpa);

    /// Maps windows that the VMM has written to, as the guest's first touch would: page tables in
    /// them could not be touched by KVM (README.md). Does nothing unless asked by request_scan().
    void map_populated();
    void request_scan() noexcept { ++scans_wanted_; }
    /// Changes with every window that is mapped, and every region that goes.
    [[nodiscard]] std::uint64_t generation() const noexcept { return generation_; }
    [[nodiscard]] bool has_unmapped() const noexcept { return unmapped_windows_ != 0; }
    /// Whether the hypervisor may find something missing that is or was the guest's.
    [[nodiscard]] bool has_gaps() const noexcept { return has_unmapped() || is_vacated_; }

    /// Property GPA_PAGE_ACCESS_TRACKING: status of the hypervisor.
    std::uint16_t set_tracking(bool enabled);
    [[nodiscard]] bool is_tracking() const noexcept { return is_tracking_; }
    /// HvGetGpaPagesAccessStates over states.size() pages: the state before the operation.
    std::uint16_t
    access_states(std::uint64_t first_gfn, std::uint64_t flags, std::span<std::uint8_t> states);

private:
    struct Region {
        std::uint64_t first_gfn = 0, pages = 0, host = 0;
        bool is_writable = false, is_executable = false;
        std::unordered_map<std::uint64_t, std::uint32_t> windows; ///< mapped ones: slot
        std::vector<std::uint64_t> dirty, accessed;               ///< a bit a page; while tracking
        [[nodiscard]] bool has(std::uint64_t gfn) const noexcept { return gfn - first_gfn < pages; }
    };
    using RegionPointer = std::shared_ptr<Region>; // owned by the list, and by a fault under way
    struct Stretch {
        std::uint64_t first_gfn, pages;
    };

    int check(const mshv::abi::ioctls::MemoryRegion& wanted, bool is_initialized);
    int map(const mshv::abi::ioctls::MemoryRegion& wanted);
    int unmap(const mshv::abi::ioctls::MemoryRegion& wanted);
    void occupy(const Region& region);
    RegionPointer find(std::uint64_t gfn);
    [[nodiscard]] std::uint64_t window_count(const Region& region) const noexcept;
    [[nodiscard]] std::uint64_t pages_in(const Region& region, std::uint64_t window) const noexcept;
    [[nodiscard]] bool populate(const Region& region, std::uint64_t window, bool may_wait) const;
    int map_window(Region& region, std::uint64_t window);
    int place(const Region& region, std::uint64_t window, std::uint32_t slot);
    void scan(const RegionPointer& region);
    void harvest(Region& region, std::uint64_t first_page, std::uint64_t pages);
    std::optional<std::uint64_t> host_address(std::uint64_t gpa, std::size_t size);

    Engine& engine_;
    Personality personality_;
    Doorbells& doorbells_;
    unsigned gpa_bits_;
    std::uint64_t window_pages_;
    std::mutex lock_;
    std::list<RegionPointer> regions_;
    std::vector<Stretch> ghosts_;  ///< still mapped NO_ACCESS after their region went
    std::vector<Stretch> vacated_; ///< whose region went, and none came
    std::vector<std::uint32_t> free_slots_;
    std::uint32_t next_slot_ = 0;
    std::atomic<bool> is_tracking_ = false;
    std::atomic<std::uint64_t> scans_wanted_ = 0;
    std::atomic<std::uint64_t> scans_done_ = 0; ///< the value of scans_wanted_ that was served
    std::mutex scanning_;                       ///< taken before lock_
    std::atomic<std::uint64_t> generation_ = 0;
    std::atomic<std::uint64_t> unmapped_windows_ = 0;
    std::atomic<bool> is_vacated_ = false; ///< somewhere
};

} // namespace wherry::vmm::mshvsim
